"""The supervisor with small programs: it restarts those that die, and none outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import ROOT, environment, wait_for
from workers.errors import Fault
from workers.machine import supervisor
from workers.machine.supervisor import Child, Supervisor

SLEEP = ["/bin/sleep", "600"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
ORPHANAGE = """
import os, sys, time
from pathlib import Path
from workers.machine.supervisor import Child, Supervisor
directory = Path(sys.argv[1])
supervisor = Supervisor(directory)
supervisor.start(Child("first", ["/bin/sleep", "600"], last=True), Child("second", sys.argv[2:]))
print(os.getpid(), supervisor.pid("first"), supervisor.pid("second"), flush=True)
supervisor.wait()
"""


def descendants(directory: Path) -> list[psutil.Process]:
    """Return the processes that run in *directory*: a supervisor's children do, those of other tests don't."""
    return [
        each for each in psutil.Process().children(recursive=True) if Path(each.cwd()) == directory
    ]


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """A file beside its log has its process id, so that people can send it signals."""
    named = tmp_path / "logs" / "sleeper.pid"
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("sleeper", SLEEP))
        before = supervisor.pid("sleeper")
        assert before
        assert named.read_text() == f"{before}\n"
        os.kill(before, 9)
        wait_for(lambda: supervisor.pid("sleeper") not in (None, before), "it starts again")
        assert named.read_text() == f"{supervisor.pid('sleeper')}\n"
    assert descendants(tmp_path) == []
    assert not named.exists()


def test_a_child_lives_and_ends_even_if_its_process_id_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs" / "sleeper.pid").mkdir(parents=True)
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("sleeper", SLEEP))
        before = supervisor.pid("sleeper")
        assert before
        os.kill(before, 9)
        wait_for(lambda: supervisor.pid("sleeper") not in (None, before), "it starts again")
    assert descendants(tmp_path) == []


def test_the_size_of_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is bounded even if its process runs very long."""
    monkeypatch.setattr(supervisor, "LOG_BYTES", 2_000)
    log, kept = (tmp_path / "logs" / name for name in ("talker.log", "talker.log.1"))
    with Supervisor(tmp_path) as keeper:
        keeper.start(Child("talker", ["/bin/sh", "-c", "while :; do echo word; sleep 0.001; done"]))
        before = keeper.pid("talker")
        for _ in range(2):
            wait_for(lambda: kept.exists() and log.stat().st_size < 2_000, "a new log")
            kept.unlink()
        assert keeper.pid("talker") == before
        assert set(log.read_text().split()) <= {"word"}


def test_a_child_that_never_gets_ready_is_one_sentence_with_its_last_words(tmp_path: Path) -> None:
    argv = ["/bin/sh", "-c", "echo first; echo no luck; exit 3"]
    with (
        Supervisor(tmp_path) as supervisor,
        pytest.raises(Fault, match=r"broken ended at once; .*broken\.log is: no luck"),
    ):
        supervisor.start(Child("broken", argv, ready=lambda: False))
    assert descendants(tmp_path) == []


def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("stubborn", STUBBORN, grace_seconds=0.5))
    assert descendants(tmp_path) == []


def test_the_last_child_ends_after_all_others(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.touch()

    def child(name: str, seconds: int, *, last: bool) -> Child:
        end = f"trap 'sleep {seconds}; echo {name} >> {seen}; exit' TERM; echo up >> {seen}"
        return Child(name, ["/bin/sh", "-c", f"{end}; while :; do sleep 0.1; done"], last=last)

    with Supervisor(tmp_path) as supervisor:
        supervisor.start(child("last", 0, last=True), child("slow", 1, last=False))
        wait_for(lambda: seen.read_text().count("up") == 2, "both run")
    assert seen.read_text().split()[2:] == ["slow", "last"]


@pytest.mark.parametrize("argv", [SLEEP, STUBBORN], ids=["obedient", "stubborn"])
def test_children_of_a_killed_supervisor_end_by_themselves(argv: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANAGE, str(tmp_path), *argv],
        env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as starter:  # fmt: skip
        assert starter.stdout
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        starter.send_signal(signal.SIGKILL)
    processes = [psutil.Process(pid) for pid in pids[1:] if psutil.pid_exists(pid)]
    psutil.wait_procs(processes, timeout=30)
    assert not any(process.is_running() for process in processes)
    with Supervisor(tmp_path):  # waits until all processes of the other one have ended
        pass


def test_children_run_in_a_directory_without_modules_and_without_our_descriptors(
    tmp_path: Path,
) -> None:
    look = "import os; print(os.getcwd(), sorted(os.listdir('/dev/fd')))"
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(Child("look", [sys.executable, "-c", look]))
        log = tmp_path / "logs" / "look.log"
        wait_for(lambda: log.exists() and "]" in log.read_text(), "it looked")
    directory, _, descriptors = log.read_text().splitlines()[0].partition(" ")
    assert directory == str(tmp_path)
    assert descriptors == "['0', '1', '2', '3']"  # 3 belongs to the listing itself
