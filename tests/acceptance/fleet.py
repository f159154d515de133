"""Runs the fleet as a person does: `pagetrail up` and the command line, as separate processes.

This module imports nothing of the product. The tests only use stdout, stderr, exit codes, files and the
simulator.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.simulator_process import SimulatorProcess

ROOT = Path(__file__).resolve().parent.parent.parent
PAGETRAIL = (sys.executable, "-m", "tasks.cli")
START_SECONDS = 60.0
END_SECONDS = 40.0
COLLECT_SECONDS = 150.0
LOG_TAIL_LINES = 60
# The fleet notices losses within seconds, so tests don't wait long for a repair.
SHORT = {
    "PAGETRAIL_REQUEST_TIMEOUT_SECONDS": "3",
    "PAGETRAIL_PAGE_LEASE_SECONDS": "5",
    "PAGETRAIL_SEAL_LEASE_SECONDS": "5",
    "PAGETRAIL_OFFER_LOST_SECONDS": "2",
    "PAGETRAIL_PROBE_SECONDS": "1",
    "PAGETRAIL_ASK_AGAIN_SECONDS": "1",
    "PAGETRAIL_PROBE_MAX_SECONDS": "2",
}
T = TypeVar("T")

# With many sources, one command for each would take longer than collecting. So this does what a backend does.
BACKEND = """
import json, sys
from tasks import api
from workers.runtime import runtime

region, resources, *steps = sys.argv[1:]
wishes = api.Wishes(region=region, resources=tuple(resources.split(",")), every_seconds=None)
for source, key in json.load(sys.stdin).items():
    if "connect" in steps:
        api.connect(runtime(), source, key, wishes)
    if "collect" in steps:
        api.collect(runtime(), source)
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return the one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the records on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(slots=True)
class CommandLine:
    """The command `pagetrail` with its environment. It remembers all its output."""

    settings: dict[str, str]
    said: list[str] = field(default_factory=list)
    begun: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *arguments: str, key: str = "", timeout: float = 60, **settings: str) -> Ran:
        """Run one command to its end, *key* on its stdin."""
        process = self.begin(*arguments, **settings)
        try:
            return self.end(process, key, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.begun.remove(process)
            raise AssertionError(
                f"{arguments} did not end in {timeout:.0f} s.\n{out[-1000:]}\n{err[-1000:]}"
                f"{self.tail()}"
            ) from None

    def begin(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start a command and return its process."""
        process = subprocess.Popen(
            [*PAGETRAIL, *arguments],
            cwd=ROOT,
            env=environment(self.settings | settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.begun.append(process)
        return process

    def end(self, process: subprocess.Popen[str], key: str = "", *, timeout: float = 60) -> Ran:
        """Wait for a command that was started."""
        out, err = process.communicate(key, timeout=timeout)
        self.begun.remove(process)
        self.said += (out, err)
        assert "Traceback" not in err, err
        return Ran(process.returncode, out, err)

    def ask(self, *arguments: str, code: int = 0, key: str = "", timeout: float = 60) -> Any:
        """Run a command with --json that ends with *code*. Return its document."""
        ran = self.run(*arguments, "--json", key=key, timeout=timeout)
        assert ran.code == code, f"{arguments} ended {ran.code}: {ran.err}{ran.out}{self.tail()}"
        return ran.document

    def refused(self, code: int, *arguments: str, key: str = "", **settings: str) -> str:
        """Run a command that must fail with *code* and print only one sentence. Return the sentence."""
        ran = self.run(*arguments, key=key, **settings)
        assert ran.code == code, f"{arguments} ended {ran.code}: {ran.err}{ran.out}"
        assert ran.out == ""
        assert ran.err.count("\n") == 1, ran.err
        assert ran.err.strip().endswith((".", "`")), ran.err
        return ran.err

    def connect(self, source: str, key: str, *options: str, region: str = "us") -> Any:
        """Connect a source. Return the output of the command."""
        command = ("source", "connect", source, "--region", region, "--every", "never", "--yes")
        return self.ask(*command, *options, key=key)

    def collect(self, source: str, code: int = 0) -> Any:
        """Collect a source to the end. Return the summary."""
        return self.ask("collect", source, "--wait", code=code, timeout=COLLECT_SECONDS)

    def export(
        self, source: str, resource: str, *options: str, code: int = 0
    ) -> list[dict[str, Any]]:
        """Export a resource. Return its records."""
        command = ("artifact", "export", source, "--resource", resource)
        ran = self.run(*command, *options, timeout=90)
        assert ran.code == code, f"export of {resource} ended {ran.code}: {ran.err}"
        return ran.records

    def verify(self, source: str, code: int = 0) -> Any:
        """Verify a source. Return the report."""
        report = self.ask("verify", source, code=code, timeout=90)
        assert report["ok"] == (code == 0), report
        return report

    def backend(
        self, *steps: str, keys: Mapping[str, str], resources: str, region: str = "us"
    ) -> None:
        """Connect or collect many sources (name to key) as a backend does, in one process."""
        done = subprocess.run(
            [sys.executable, "-c", BACKEND, region, resources, *steps], input=json.dumps(keys),
            text=True, cwd=ROOT, check=False, env=environment(self.settings),
            stderr=subprocess.PIPE, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def resources(self, source: str) -> list[str]:
        """Return the name of every resource that a source collects: the whole catalog."""
        return list(self.ask("source", "show", source)["resources"])

    def tail(self) -> str:
        """Return the end of the fleet's logs, for a failing test to show."""
        return ""


@dataclass(slots=True)
class Fleet(CommandLine):
    """A fleet that `pagetrail up` runs in its own data directory."""

    data: Path = Path()
    ready: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def runs(self) -> Path:
        """The directory of the artifacts."""
        return self.data / "artifacts"

    def start(self, *options: str) -> None:
        """Start `pagetrail up`, and wait until it takes work."""
        assert self.process is None
        self.starts += 1
        out, err = self._outputs()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*PAGETRAIL, "up", "--json", *options],
                cwd=ROOT,
                env=environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self.until(lambda: out.read_text().count("\n") or self._ended(), START_SECONDS, "be ready")
        assert not self._ended(), f"`up` ended {self.process.poll()}: {self.tail()}"
        self.ready = json.loads(out.read_text().splitlines()[0])
        assert self.ready["ready"] is True

    def stop(self) -> int:
        """End `up` as Ctrl-C does; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"`up` did not end in {END_SECONDS} s: {self.tail()}") from None
        self.process = None
        return code

    def kill(self) -> list[psutil.Process]:
        """Kill `up` with -9. Return the children that it left behind."""
        assert self.process is not None
        children = self.children()
        self.process.kill()
        self.process.wait(10)
        self.process = None
        return children

    def children(self) -> list[psutil.Process]:
        """Return every process below `up`."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes, without their supervisors."""
        assert self.process is not None
        mine = psutil.Process(self.process.pid).children()
        return [each for each in mine if "worker" in _command(each)]

    def until(self, true: Callable[[], T], seconds: float, what: str) -> T:
        """Wait until *true* returns something true, and return that. Fail with the logs if it never does."""
        return until(true, seconds, what, self.tail)

    def tail(self) -> str:
        """Return the last lines of everything that the fleet wrote."""
        logs = [*self._outputs(), *sorted(self.data.glob("logs/*"))]
        shown = [
            (log, log.read_text("utf-8", "replace").splitlines()) for log in logs if log.is_file()
        ]
        return "".join(
            f"\n--- {log.name}\n" + "\n".join(lines[-LOG_TAIL_LINES:])
            for log, lines in shown
            if lines
        )

    def _outputs(self) -> tuple[Path, Path]:
        return (
            self.data.parent / f"{self.data.name}.up-{self.starts}.out",
            self.data.parent / f"{self.data.name}.up-{self.starts}.err",
        )

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def close(self) -> None:
        """End everything. A failed test may have left commands behind."""
        for command in self.begun:
            command.kill()
            command.communicate()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):  # then it is killed
                self.process.wait(END_SECONDS)
                self.process = None
        if self.process is not None:
            self.kill_all()

    def kill_all(self) -> None:
        assert self.process is not None
        with suppress(psutil.Error):  # `up` has ended
            for child in self.children():
                with suppress(psutil.Error):  # the child has ended
                    child.kill()
        self.process.kill()
        self.process.wait(10)
        self.process = None


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with *settings* as the only settings of the product."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PAGETRAIL_")}
    return kept | settings


def settings_for(
    data: Path, simulator: SimulatorProcess, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the settings of a fleet in *data* that reads from *simulator*."""
    regions = {name: simulator.region(name) for name in ("us", "eu")}
    server = os.environ.get("PAGETRAIL_TEST_REDIS")
    return {
        "PAGETRAIL_DATA_DIR": str(data),
        "PAGETRAIL_REGIONS": json.dumps(regions),
        **({"PAGETRAIL_REDIS_SERVER": server} if server else {}),
        **SHORT,
        **(more or {}),
    }


@contextmanager
def fleet_of(
    data: Path, simulator: SimulatorProcess, *options: str, **more: str
) -> Iterator[Fleet]:
    """Run a fleet of one worker process until the block ends."""
    fleet = Fleet(settings_for(data, simulator, more), data=data)
    try:
        fleet.start(*(options or ("--workers", "1", "--no-flower")))
        yield fleet
    finally:
        fleet.close()


def until(
    true: Callable[[], T], seconds: float, what: str, tail: Callable[[], str] = lambda: ""
) -> T:
    """Wait until *true* returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds:.0f} s in vain to {what}.{tail()}")
        time.sleep(0.02)
    return found


def requests_of(simulator: SimulatorProcess, *keys: str) -> int:
    """Return how many requests came with any of *keys*."""
    counted = simulator.stats()["keys"]
    return sum(counted[key]["requests"] for key in keys if key in counted)


def account(subdomain: str, keys: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Return an account in the simulator's format. A key may be given as text."""
    given = [{"key": key, "limit": 60_000} if isinstance(key, str) else key for key in keys]
    small = {"incidents": 300, "users": 30, "services": 20, "audit_records": 150}
    return {"subdomain": subdomain, "keys": given, "log_entries_per_incident": 1} | small | more


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
