"""The form of a log line, which holds no secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis

from workers.errors import StorageUnreachable
from workers.process.logs import JsonLines, Lines, configure_logging, ids_of
from workers.settings.environment import Settings

KEY = "u+AbCdEfGhIjKlMnOp12"


def logged(formatter: logging.Formatter, message: str, *args: Any, **extra: Any) -> str:
    """Return the line for a record with an error, formatted as the logging module does it."""
    try:
        raise ValueError(f"no: {KEY}")
    except ValueError:
        error = sys.exc_info()
    record = logging.getLogger("pagetrail.test").makeRecord(
        "pagetrail.test", logging.WARNING, "file.py", 1, message, args, error, extra=extra
    )
    return formatter.format(record)


EXTRA = {
    "source": "acme/main",
    "run": "00000001",
    "page": "teams/all.1/000000",
    "resource": "teams",
    "task_id": "3fa85f64",
}


def test_a_line_for_machines_is_one_json_object_with_ids() -> None:
    line = logged(
        JsonLines(), "page %s\nof %s", "given up", KEY, **EXTRA, library="x", data={"a": 1}
    )
    assert "\n" not in line
    assert KEY not in line
    told = json.loads(line)
    assert datetime.fromisoformat(told.pop("time")).tzinfo
    assert "ValueError: no: [redacted]" in told.pop("exception")
    assert told == {
        "level": "WARNING",
        "logger": "pagetrail.test",
        "message": "page given up\nof [redacted]",
        **EXTRA,
    }


def test_a_line_for_people_has_the_time_the_event_and_the_source() -> None:
    line = logged(Lines(), "page given up: %s", KEY, **EXTRA, library="x")
    first, *rest = line.splitlines()
    assert first[10] == "T"
    assert first[23] == "Z"
    assert first[25:] == (
        "WARNING pagetrail.test  page given up: [redacted] "
        "source=acme/main run=00000001 page=teams/all.1/000000 resource=teams task_id=3fa85f64"
    )
    assert rest[-1] == "ValueError: no: [redacted]"
    assert "library" not in line


def test_only_ids_are_taken_from_additions_of_libraries() -> None:
    record = logging.makeLogRecord({"run": "1", "source": "a/b", "body": "secret", "name": "x"})
    assert ids_of(record) == {"source": "a/b", "run": "1"}


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("pagetrail")
    before = (root.handlers, root.level, ours.level)
    yield
    root.handlers = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize(("as_json", "level"), [(True, "INFO"), (False, "DEBUG")])
def test_logs_go_to_stderr_once_as_the_settings_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, as_json: bool, level: str
) -> None:
    settings = Settings(data_dir=tmp_path, log_json=as_json, log_level=level)
    configure_logging(settings)
    configure_logging(settings)
    logging.getLogger("pagetrail.fetch").info("ours %s", KEY)
    logging.getLogger("pagetrail.fetch").debug("details")
    logging.getLogger("celery.worker").info("theirs")
    logging.getLogger("kombu").warning("theirs, and important")
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    said = [json.loads(line)["message"] if as_json else line for line in lines]
    expected = ["ours [redacted]", "details", "theirs, and important"]
    if level == "INFO":
        expected.remove("details")
    assert len(said) == len(expected)
    assert all(words in line for words, line in zip(expected, said, strict=True))


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize(
    ("stderr", "no_color", "coloured"),
    [(Terminal(), "", True), (Terminal(), "1", False), (StringIO(), "", False)],
)
def test_lines_are_coloured_on_a_terminal_that_wants_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stderr: StringIO, no_color: str, coloured: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("NO_COLOR", no_color)
    configure_logging(Settings(data_dir=tmp_path))
    logging.getLogger("pagetrail").info("usual")
    logging.getLogger("pagetrail").warning("look")
    usual, look = stderr.getvalue().splitlines()
    assert "\x1b" not in usual
    assert (look.startswith("\x1b[33m"), look.endswith("\x1b[0m")) == (coloured, coloured)


@pytest.mark.parametrize("formatter", [Lines(), JsonLines()])
def test_a_fault_is_a_sentence_and_needs_no_traceback(formatter: logging.Formatter) -> None:
    for error in (StorageUnreachable("The disk is full."), redis.ConnectionError("refused")):
        record = logging.makeLogRecord({"exc_info": (type(error), error, None)})
        assert type(error).__name__ not in formatter.format(record)
