"""What a process tells, and that no secret is in it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from workers.observability import (
    JsonLines,
    Lines,
    _redacted,
    configure_logging,
    ids_of,
    redact,
    report_errors,
)
from workers.settings import Settings

KEY = "u+AbCdEfGhIjKlMnOp12"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Authorization: Token token={KEY}", "Authorization: Token token=[redacted]"),
        ("token=y_shortkey here", "token=[redacted] here"),
        ("Bearer pdus+_0XBPWQ-abc.def", "Bearer [redacted]"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic [redacted]"),
        ("redis://:hunter2@10.0.0.1:6379/0", "redis://:[redacted]@10.0.0.1:6379/0"),
        ("redis://fleet:hunter2@host", "redis://fleet:[redacted]@host"),
        ("at rediss://:a,b;c&d'e\"f)g]h@host:1, twice", "at rediss://:[redacted]@host:1, twice"),
        ("https://x/y?a=1&api_key=abc&b=2", "https://x/y?a=1&api_key=[redacted]&b=2"),
        ("?X-Amz-Signature=abcdef&x=1", "?X-Amz-Signature=[redacted]&x=1"),
        ("{'routing_key': 'R0123', 'n': 1}", "{'routing_key': '[redacted]', 'n': 1}"),
        ('{"integration_key":"abc"}', '{"integration_key":"[redacted]"}'),
        ("password=hunter2, next", "password=[redacted], next"),
        ("AWS_SECRET=abc/def", "AWS_SECRET=[redacted]"),
        (f"the key {KEY} was refused", "the key [redacted] was refused"),
        (f"[{KEY}]", "[[redacted]]"),
        (f"{KEY},{KEY}", "[redacted],[redacted]"),
    ],
)
def test_what_has_the_shape_of_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run 00000001 of acme/main sealed complete",
        "incidents/20260801T000000Z_20260901T000000Z.1/000100",
        "tasks.fetch.fetch_resource[3fa85f64-5717-4562-b3fc-2c963f66afa6]",
        "workers.pagerduty.ReadOnlyTransport",
        "0123456789abcdef0123456789abcdef01234567",
        "redis://127.0.0.1:6379/0",
        "https://api.pagerduty.com/incidents?limit=100&offset=0",
        "the keys of 12 sources were sealed again",
    ],
)
def test_what_helps_is_shown_as_it_is(text: str) -> None:
    assert redact(text) == text


KEYS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+", min_size=20, max_size=20
)


@given(
    KEYS,
    st.sampled_from([" {} ", "'{}'", "({})", "key={}", "/{}/", "{}\n", "Token token={}", "“{}”"]),
)
def test_a_key_is_found_wherever_it_stands(key: str, around: str) -> None:
    """Those with a digit and both cases; what has none of one looks like any name of 20 letters."""
    text = around.format(key)
    mixed = (
        any(c.isdigit() for c in key)
        and any(c.islower() for c in key)
        and any(c.isupper() for c in key)
    )
    if mixed or around.startswith("Token"):
        assert key not in redact(text)


def logged(formatter: logging.Formatter, message: str, *args: Any, **extra: Any) -> str:
    """Return the line of a log record with an error in it, made as the logging module does."""
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
}


def test_a_line_for_machines_is_one_json_object_with_ids() -> None:
    line = logged(
        JsonLines(), "page %s\nof %s", "given up", KEY, **EXTRA, task_id="x", data={"a": 1}
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


def test_a_line_for_people_says_when_what_and_about_whom() -> None:
    line = logged(Lines(), "page given up: %s", KEY, **EXTRA, task_id="x")
    first, *rest = line.splitlines()
    assert first[10] == "T"
    assert first[23] == "Z"
    assert first[25:] == (
        "WARNING pagetrail.test  page given up: [redacted] "
        "source=acme/main run=00000001 page=teams/all.1/000000 resource=teams"
    )
    assert rest[-1] == "ValueError: no: [redacted]"
    assert "task_id" not in line


def test_only_ids_are_taken_from_what_libraries_add() -> None:
    record = logging.makeLogRecord({"run": "1", "source": "a/b", "body": "secret", "name": "x"})
    assert ids_of(record) == {"source": "a/b", "run": "1"}


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just(f"Token token={KEY}"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


@given(values)
def test_nothing_of_a_report_holds_a_key_at_any_depth(value: Any) -> None:
    told = _redacted({"extra": value})
    assert KEY not in repr(told)
    assert repr(told).count("[redacted]") == repr(value).count(KEY)


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


def test_without_a_dsn_nothing_of_sentry_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)  # importing it would fail
    report_errors(Settings(data_dir=tmp_path))
    with pytest.raises(ImportError):
        report_errors(Settings(data_dir=tmp_path, sentry_dsn=SecretStr("http://key@127.0.0.1:1/1")))
