"""Which log records are reported, and how they are grouped."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from pydantic import Secret

from workers.errors import RedisUnreachable, StorageUnreachable
from workers.process.sentry import REPEAT_SECONDS, WorthReporting, cause_of, start
from workers.settings import urls
from workers.settings.environment import Settings

OUR_LOGGER, FOREIGN_LOGGER = "pagetrail.fetch", "celery.worker.consumer.consumer"


def record(
    error: BaseException | None = None, name: str = OUR_LOGGER, words: str = "page failed"
) -> logging.LogRecord:
    """Return a log record of *error*, which is raised here if it was not raised before."""
    info = None
    if error:
        try:
            raise error
        except BaseException:  # noqa: BLE001 - on its way into a record
            info = sys.exc_info()
    return logging.LogRecord(name, logging.ERROR, "", 0, words, (), info)


def raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - for its traceback
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("logged", "worth"),
    [
        (record(StorageUnreachable("The disk is full.")), True),
        (record(), True),
        (record(KeyError("a task nobody knows"), FOREIGN_LOGGER), True),
        (record(redis.exceptions.OutOfMemoryError("maxmemory"), FOREIGN_LOGGER), True),
        (record(redis.AuthenticationError("wrong password")), True),
        (record(redis.MaxConnectionsError("too many")), True),
        (record(name=FOREIGN_LOGGER, words="Cannot connect to redis"), False),
        (record(redis.ConnectionError("refused")), False),
        (record(redis.TimeoutError("no answer"), FOREIGN_LOGGER), False),
        (record(redis.exceptions.BusyLoadingError("loading")), False),
        (record(RedisUnreachable("Redis went away.")), False),
    ],
)
def test_faults_are_reported_and_an_absent_redis_is_not(
    logged: logging.LogRecord, worth: bool
) -> None:
    assert WorthReporting().filter(logged) is worth


def test_a_cause_is_reported_once_a_minute() -> None:
    seconds = 0.0
    worth = WorthReporting(lambda: seconds)
    one, another = record(StorageUnreachable("A page.")), record(StorageUnreachable("Another."))
    assert [worth.filter(each) for each in (one, another, record())] == [True, False, True]
    seconds = REPEAT_SECONDS
    assert [worth.filter(each) for each in (another, one)] == [True, False]


def test_a_cause_is_a_type_and_our_line_of_code_whatever_the_message_says() -> None:
    first = record(raised(lambda: urls.check_sentry("https://a.example")))
    second = record(raised(lambda: urls.check_sentry("https://b.example")), words="task failed")
    elsewhere = record(raised(lambda: urls.check_redis("https://b.example")))
    assert cause_of(first) == ("ValueError", "workers.settings.urls.check_sentry")
    assert cause_of(second) == cause_of(first)
    assert cause_of(elsewhere) != cause_of(first)
    assert cause_of(record()) == (OUR_LOGGER, "page failed")


def test_without_a_dsn_nothing_of_sentry_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)  # importing it would fail
    start(Settings(data_dir=tmp_path), "node")
    with pytest.raises(ImportError):
        start(Settings(data_dir=tmp_path, sentry_dsn=Secret("http://key@127.0.0.1:1/1")), "node")
