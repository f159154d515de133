"""Errors of real worker and beat processes go to an endpoint like Sentry's, or to one that never answers."""

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from redis import Redis

from tests.integration.test_app import publish, said, worker
from tests.processes import celery, end, environment, running, wait_for
from tests.sentry_receiver import Receiver, black_hole, sentry

KEY = "u+CanaryKey_0123abcd"
IDS = ("acme/main", "first", "users/all.1/000000")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with sentry() as running_receiver:
        yield running_receiver


@pytest.fixture
def env(redis: Redis, redis_url: str, receiver: Receiver, tmp_path: Path) -> dict[str, str]:
    del redis  # emptied
    settings = environment(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        sentry_dsn=receiver.dsn,
        environment="rehearsal",
    )
    return settings | {"CHORES_REDIS_URL": redis_url, "CHORES_KEY": KEY, "TMPDIR": str(tmp_path)}


def test_a_failure_while_a_worker_ends_is_reported_with_its_ids_and_no_secret(
    env: dict[str, str], receiver: Receiver, tmp_path: Path
) -> None:
    with worker(env, tmp_path) as process:
        publish(env, "chores.fail", "fetch", *IDS, "1")
        said(env["CHORES_REDIS_URL"], 1)
        assert end(process) == 0
    log = (tmp_path / "worker.log").read_text()
    [event] = receiver.events
    assert "ERROR   pagetrail  task failed source=acme/main run=first page=users" in log
    assert event["tags"].pop("task_id") in log
    assert event["tags"] == {
        "tenant": "acme",
        "source": "acme/main",
        "run": "first",
        "page": "users/all.1/000000",
        "task": "chores.fail",
    }
    assert event["release"] == f"pagetrail@{version('pagetrail')}"
    assert event["environment"] == "rehearsal"
    assert event["server_name"] == "worker@test"
    [exception] = event["exception"]["values"]
    assert exception["value"] == "Asked with Authorization: Token token=[redacted]"
    frames = exception["stacktrace"]["frames"]
    assert frames[-1]["function"] == "fail"
    assert not any({"vars", "context_line", "pre_context"} & set(frame) for frame in frames)
    assert event["fingerprint"][0] == "RuntimeError"
    assert not any(KEY.encode() in body for body in receiver.bodies)
    assert KEY not in log
    assert receiver.items("transaction") == []


def test_beat_reports_a_redis_that_refuses_its_ticks(
    env: dict[str, str], redis: Redis, receiver: Receiver, tmp_path: Path
) -> None:
    redis.config_set("maxmemory", "1")
    try:
        with running(celery("beat"), env, tmp_path / "beat.log") as process:
            wait_for(lambda: receiver.events, "the error arrives")
            assert end(process) == 0
    finally:
        redis.config_set("maxmemory", "0")
    [event] = receiver.events
    assert event["server_name"] == "beat"
    assert "maxmemory" in event["exception"]["values"][-1]["value"]


def test_work_and_end_are_the_same_where_sentry_never_answers(
    env: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    with black_hole() as dsn, worker(env | {"PAGETRAIL_SENTRY_DSN": dsn}, tmp_path) as process:
        publish(env, "chores.fail", "fetch", *IDS, "0")
        publish(env, "chores.note", "fetch", "after")
        wait_for(lambda: re.search(rb"after", b" ".join(redis.lrange("chores", 0, -1))), "it works")
        log = tmp_path / "worker.log"
        wait_for(lambda: "task failed" in log.read_text(), "the task fails")
        assert end(process) == 0
