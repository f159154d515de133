"""Ctrl-C in anything that takes long gives one sentence and the exit code, and leaves nothing half done."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.fleet import (
    PAGETRAIL,
    ROOT,
    CommandLine,
    Fleet,
    account,
    environment,
    settings_for,
    until,
)
from tests.simulator_process import SimulatorProcess

SOURCE = "halt/main"
ATTEMPTS = 8  # a short command may be over before it is interrupted
ENDED_SECONDS = 60


@contextmanager
def started(command: CommandLine, *arguments: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own, as a terminal does."""
    process = subprocess.Popen(
        [*PAGETRAIL, *arguments],
        cwd=ROOT,
        env=environment(command.settings),
        start_new_session=True,
        text=True,
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **more,
        },
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Press Ctrl-C, which reaches the whole group. Return exit code, stdout and stderr."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=ENDED_SECONDS)
    return process.returncode, out, err


def assert_interrupted(ended: tuple[int, str, str]) -> None:
    code, _, err = ended
    assert code == 1, err
    assert err.startswith("Interrupted: ")
    assert err.count("\n") == 1, err


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def working(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes of a fleet as soon as one of them is a worker."""
    found = family(process)
    return found if any("worker" in _command(each) for each in found) else []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def reads(process: subprocess.Popen[str], directory: Path) -> bool:
    """Say whether a process has an open file below *directory*."""
    try:
        opened = psutil.Process(process.pid).open_files()
    except psutil.Error:
        return False
    return any(Path(each.path).is_relative_to(directory) for each in opened)


def in_the_middle(
    command: CommandLine,
    arguments: tuple[str, ...],
    there: Callable[[subprocess.Popen[str]], object],
) -> tuple[int, str, str]:
    """Interrupt a command when *there* says so. If the command ends before that, try again."""
    for _ in range(ATTEMPTS):
        with started(command, *arguments) as process:
            while process.poll() is None:
                if there(process):
                    ended = interrupt(process)
                    if ended[0] != 0:
                        return ended
                    break
    raise AssertionError(f"{arguments} was over {ATTEMPTS} times before it could be interrupted")


@pytest.fixture(scope="module")
def evidence(shared_fleet: Fleet, pagerduty: SimulatorProcess) -> Path:
    """A source with so much evidence that commands take a while."""
    key = "halt-Key-00000000016"
    spec = account("halt", [key], incidents=6_000, log_entries_per_incident=0.2)
    pagerduty.control("POST", "accounts", **spec)
    shared_fleet.connect(SOURCE, key, "--resources", "incidents")
    shared_fleet.collect(SOURCE)
    return shared_fleet.runs


def test_an_export_leaves_no_file(shared_fleet: Fleet, evidence: Path, tmp_path: Path) -> None:
    file = tmp_path / "incidents.csv"
    arguments = ("artifact", "export", SOURCE, "--resource", "incidents", "--format", "csv")
    ended = in_the_middle(
        shared_fleet, (*arguments, "--output", str(file)), lambda _: any(tmp_path.iterdir())
    )
    assert_interrupted(ended)
    assert ended[1] == ""
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_nobody_reads_ends(shared_fleet: Fleet, evidence: Path) -> None:
    with started(shared_fleet, "artifact", "export", SOURCE, "--resource", "incidents") as process:
        assert process.stdout
        assert process.stdout.read(1) == "{"  # the rest is larger than a pipe
        assert_interrupted(interrupt(process))


def test_an_interrupted_verification_gives_no_verdict(shared_fleet: Fleet, evidence: Path) -> None:
    ended = in_the_middle(
        shared_fleet, ("verify", SOURCE, "--json"), lambda process: reads(process, evidence)
    )
    assert_interrupted(ended)
    assert ended[1] == ""


def test_ctrl_c_is_the_normal_end_of_watching(shared_fleet: Fleet) -> None:
    with started(shared_fleet, "status", "--watch") as process:
        assert process.stdout
        assert "The fleet is at work" in process.stdout.readline()
        code, _, err = interrupt(process)
    assert (code, err) == (0, "")


def test_connecting_leaves_no_source(shared_fleet: Fleet, pagerduty: SimulatorProcess) -> None:
    """It is interrupted at the prompt for the key, on a terminal."""
    terminal, other_end = pty.openpty()
    try:
        with started(shared_fleet, "source", "connect", "halt/typed", stdin=other_end) as process:
            assert process.stderr
            said = process.stderr.read(len("PagerDuty API key"))
            assert said == "PagerDuty API key"
            code, out, err = interrupt(process)
    finally:
        os.close(terminal)
        os.close(other_end)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Interrupted: ")
    assert "Traceback" not in err
    assert "halt/typed" in shared_fleet.refused(1, "source", "show", "halt/typed")
    assert not (shared_fleet.runs / ".registry/halt/typed.json").exists()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("command", "code"), [("up", 0), ("demo", 1)])
def test_a_fleet_that_is_just_starting_is_ended_whole(
    pagerduty: SimulatorProcess, tmp_path: Path, command: str, code: int
) -> None:
    there = CommandLine(settings_for(tmp_path / "data", pagerduty))
    with started(there, command) as process:
        children = until(lambda: working(process), 60, "start a worker")
        ended = interrupt(process)
    assert ended[0] == code, ended
    assert ended[1] == ""
    assert "Traceback" not in ended[2]
    assert ended[2].splitlines()[-1:] == [] or ended[2].splitlines()[-1].startswith("Interrupted: ")
    _, left = psutil.wait_procs(children, timeout=30)
    assert left == []


@pytest.mark.timeout(150)
@pytest.mark.parametrize("reached", ["source connect", "Connected umbrella/main"])
def test_the_demo_is_ended_while_it_connects_or_collects(
    pagerduty: SimulatorProcess, tmp_path: Path, reached: str
) -> None:
    """No command that it runs, and no step after its runs, delays the end or prints anything."""
    there = CommandLine(settings_for(tmp_path / "data", pagerduty))
    with started(there, "demo") as process:
        assert process.stderr
        assert any(reached in line for line in process.stderr)
        children = family(process)
        code, out, err = interrupt(process)
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "verify" not in err
    assert err.splitlines()[-1].startswith("Interrupted: ")
    _, left = psutil.wait_procs(children, timeout=30)
    assert left == []
