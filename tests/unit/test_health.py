"""Liveness and readiness, as a container or a supervisor asks for them."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from workers import health


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Heartbeats of this test's own; settings that name no Redis."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PAGETRAIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / f"pagetrail-{os.getuid()}"


def age(directory: Path, node: str, seconds: float) -> None:
    """Make a heartbeat so many seconds old."""
    then = time.time() - seconds
    os.utime(directory / f"{node}.alive", (then, then))


def test_a_process_without_a_heartbeat_is_not_alive() -> None:
    assert health.live() == "There is no heartbeat yet."
    assert health.live("fetch@a") == "There is no heartbeat yet."


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(0, ""), (119, ""), (-3600, ""), (121, "121 s old"), (86_400, "86400 s old")],
)
def test_a_process_is_alive_as_long_as_its_heart_beats(
    directory: Path, seconds: float, why: str
) -> None:
    """Also where the clock was set back in between."""
    health.touch("fetch@a")
    age(directory, "fetch@a", seconds)
    for said in (health.live(), health.live("fetch@a")):
        assert (why in said) if why else (said == "")
    health.touch("fetch@a")
    assert health.live() == ""


def test_one_process_is_not_taken_for_another(directory: Path) -> None:
    """A node's name is no pattern."""
    health.touch("fetch@a")
    health.touch("plan@a")
    age(directory, "fetch@a", 500)
    assert health.live("fetch@a")
    assert health.live("plan@a") == ""
    assert health.live("seal@a")
    assert health.live("*@a")
    assert health.live("pla[n]@a")
    health.touch("odd[1]@a")
    assert health.live("odd[1]@a") == ""


def test_a_worker_is_ready_between_its_start_and_its_end() -> None:
    not_yet = "The worker does not take work yet."
    assert health.ready("fetch@a") == not_yet
    health.set_ready("fetch@a", ready=True)
    said = health.ready("fetch@a")
    assert said not in ("", not_yet), "without a Redis it is not ready either"
    assert "Redis" in said
    assert health.ready("plan@a") == not_yet
    health.set_ready("fetch@a", ready=False)
    health.set_ready("fetch@a", ready=False)
    assert health.ready("fetch@a") == not_yet


def test_heartbeats_are_nobody_elses_to_write(directory: Path) -> None:
    health.touch("beat")
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["live"], 0, ""),
        (["live", "fetch@a"], 0, ""),
        (["live", "plan@a"], 1, "no heartbeat"),
        (["ready"], 1, "does not take work"),
        ([], 1, "Usage"),
        (["alive"], 1, "Usage"),
        (["live", "a", "b"], 1, "Usage"),
    ],
)
def test_the_command_answers_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    health.touch("fetch@a")
    monkeypatch.setattr(sys, "argv", ["health", *arguments])
    with pytest.raises(SystemExit) as ended:
        health.main()
    words = ended.value.code
    assert (0 if words == 0 else 1) == code
    assert said in str(words or "")


def test_asking_whether_a_process_lives_loads_nothing_but_the_standard_library() -> None:
    """It is asked every few seconds, in each container."""
    program = (
        "import sys, workers.health as h; h.live(); "
        "print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'redis', 'celery', 'httpx', 'pydantic', 'orjson', 'obstore', 'sentry_sdk'}))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(  # noqa: PLW1510 - its output says what went wrong
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True
    )
    assert (result.stdout.strip(), result.stderr) == ("[]", "")
