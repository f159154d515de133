"""Liveness and readiness, as containers and supervisors ask for them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import health
from workers.errors import SettingsFault
from workers.process import liveness
from workers.settings.environment import load_settings


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with this test's own heartbeats, and settings without a Redis."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PAGETRAIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / f"pagetrail-{os.getuid()}"


def age(directory: Path, node: str, seconds: float) -> None:
    """Make a heartbeat that is *seconds* old."""
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
    """This holds also if the clock was set back in between."""
    liveness.touch("fetch@a")
    age(directory, "fetch@a", seconds)
    for said in (health.live(), health.live("fetch@a")):
        assert (why in said) if why else (said == "")
    liveness.touch("fetch@a")
    assert health.live() == ""


def test_one_process_is_not_taken_for_another(directory: Path) -> None:
    """The name of a node is not used as a pattern."""
    liveness.touch("fetch@a")
    liveness.touch("plan@a")
    age(directory, "fetch@a", 500)
    assert health.live("fetch@a")
    assert health.live("plan@a") == ""
    assert health.live("seal@a")
    assert health.live("*@a")
    assert health.live("pla[n]@a")
    liveness.touch("odd[1]@a")
    assert health.live("odd[1]@a") == ""


def test_a_worker_is_ready_between_its_start_and_its_end() -> None:
    not_yet = "The worker does not take work yet."
    assert health.ready("fetch@a") == not_yet
    liveness.set_ready("fetch@a", ready=True)
    said = health.ready("fetch@a")
    assert said not in ("", not_yet), "without a Redis it is not ready either"
    assert "Redis" in said
    assert health.ready("plan@a") == not_yet
    liveness.set_ready("fetch@a", ready=False)
    liveness.set_ready("fetch@a", ready=False)
    assert health.ready("fetch@a") == not_yet


def test_only_the_owner_can_write_heartbeats(directory: Path) -> None:
    liveness.touch("beat")
    assert directory.stat().st_mode & 0o777 == 0o700


def taken_by_another_user(directory: Path) -> None:
    directory.mkdir()
    os.chown(directory, 12_345, 12_345)


def open_to_others(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)


def a_link(directory: Path) -> None:
    (directory.parent / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(directory.parent / "elsewhere")


def a_file(directory: Path) -> None:
    directory.touch()


TAKEN = [open_to_others, a_link, a_file]
TAKEN += [taken_by_another_user] if os.getuid() == 0 else []  # only root may give files away


@pytest.mark.parametrize("taken", TAKEN)
def test_a_directory_that_somebody_made_first_is_not_used(
    directory: Path, tmp_path: Path, taken: Callable[[Path], None]
) -> None:
    """Its name can be guessed, so both the writer and the reader then use the data directory."""
    taken(directory)
    before = set(tmp_path.rglob("*"))
    liveness.touch("fetch@a")
    liveness.set_ready("fetch@a", ready=True)
    made = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before}
    assert made == {
        ".pagetrail",
        ".pagetrail/heartbeats",
        ".pagetrail/heartbeats/fetch@a.alive",
        ".pagetrail/heartbeats/fetch@a.ready",
    }
    assert health.live("fetch@a") == ""
    liveness.set_ready("fetch@a", ready=False)
    assert health.ready("fetch@a") == "The worker does not take work yet."


def test_a_heartbeat_that_another_user_made_does_not_count(directory: Path) -> None:
    """Otherwise a stuck process could seem to be alive."""
    open_to_others(directory)
    (directory / "fetch@a.alive").touch()
    (directory / "fetch@a.ready").touch()
    assert health.live("fetch@a") == "There is no heartbeat yet."
    assert health.ready("fetch@a") == "The worker does not take work yet."


def test_if_no_directory_is_only_ours_the_sentence_says_so(directory: Path, tmp_path: Path) -> None:
    for place in (directory, tmp_path / ".pagetrail" / "heartbeats"):
        place.parent.mkdir(exist_ok=True)
        open_to_others(place)
    with pytest.raises(SettingsFault, match="belong to another user or are open to others"):
        liveness.touch("beat")


@pytest.mark.parametrize("data_dir", [None, "~/data", "data"])
def test_the_second_place_is_in_the_data_directory(
    data_dir: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found without loading the settings, which takes too long, and is the same directory."""
    if data_dir:
        monkeypatch.setenv("PAGETRAIL_DATA_DIR", data_dir)
    assert liveness._places()[1] == load_settings().data_dir / "heartbeats"


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
    liveness.touch("fetch@a")
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
