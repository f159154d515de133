"""The content of records is only kept in storage, not in logs, error reports, Redis or messages."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import httpx
import pytest
import sentry_sdk
from pydantic import Secret
from redis import Redis

from tasks import api
from tasks.runs import opening
from tests.integration.steps import KEY, SOURCE, Fleet
from tests.sentry_receiver import Receiver, sentry
from tests.simulator_process import SimulatorProcess
from workers.pagerduty.replies import Reply, reply_to
from workers.process import sentry as reports
from workers.process.logs import Lines
from workers.settings.environment import Settings

PERSON = "Zebulon Quartermain"
RECORD = {"id": "PZEB1", "name": PERSON, "summary": PERSON, "teams": [{"summary": PERSON}]}
HOSTILE: dict[str, tuple[int, str]] = {
    "cut": (200, json.dumps({"services": [RECORD] * 9})[:-9]),
    "a list": (200, json.dumps([RECORD])),
    "a total in words": (200, json.dumps({"services": [RECORD], "total": PERSON})),
    "an error page": (502, f"<html><h1>{PERSON}</h1></html>"),
    "an error with records": (500, json.dumps({"services": [RECORD], "message": None})),
}


@pytest.fixture
def log() -> Iterator[StringIO]:
    """A worker's log at its most detailed level."""
    text, root = StringIO(), logging.getLogger()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Lines())
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(before)
    root.removeHandler(handler)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """An endpoint like Sentry's, to which this process reports."""
    root = logging.getLogger()
    before = list(root.handlers)
    with sentry() as receiver:
        reports.start(Settings(data_dir=tmp_path, sentry_dsn=Secret(receiver.dsn)), "node")
        yield receiver
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
    root.handlers = before


def content(redis: Redis) -> str:
    """Return every key of Redis with its content."""
    read = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        b"stream": redis.xrange,
    }
    return " ".join(repr((key, read[redis.type(key)](key))) for key in redis.scan_iter())


def watched(fleet: Fleet) -> str:
    """Let a run continue to its end. Return everything that was in Redis and in messages on the way."""
    seen = []
    while not fleet.ended:
        seen.append(f"{content(fleet.redis)} {fleet.messages}")
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()
    return " ".join([*seen, content(fleet.redis)])


@pytest.mark.filterwarnings("ignore:The send_default_pii option:DeprecationWarning")
@pytest.mark.parametrize("body", HOSTILE)
def test_an_answer_that_can_not_be_used_is_described_and_not_quoted(
    make: Callable[[Path], Fleet], tmp_path: Path, log: StringIO, receiver: Receiver, body: str
) -> None:
    fleet = make(tmp_path / "data")
    status, text = HOSTILE[body]

    def answer(path: str, reply: Reply) -> Reply:
        headers = {"X-Request-Id": PERSON, "Content-Type": f"text/{PERSON}"}
        spoilt = httpx.Response(status, headers=headers, content=text.encode())
        return reply_to(spoilt, spoilt.content, KEY) if path == "/services" else reply

    source = api.connect(fleet.runtime, SOURCE, KEY, api.Wishes(resources=("services", "teams")))
    fleet.pagerduty.answer = answer
    opening.collect_now(fleet.runtime, source)
    held = watched(fleet)
    sentry_sdk.flush()
    assert fleet.manifest
    assert fleet.manifest["resources"]["services"]["state"] == "failed"
    given_up = [event for event in receiver.events if "given up" in json.dumps(event)]
    assert len(given_up) == 1
    assert "page given up" in log.getvalue()
    assert "acme/main" in held
    reported = b" ".join(receiver.bodies).decode()
    sinks = {"log": log.getvalue(), "Sentry": reported, "Redis": held}
    assert [name for name, text in sinks.items() if "Zebulon" in text or "Quarter" in text] == []
    assert "Zebulon" not in json.dumps(fleet.manifest)


def test_no_name_of_a_record_is_in_redis_or_in_a_message(
    make: Callable[[Path], Fleet], tmp_path: Path, simulator: SimulatorProcess, log: StringIO
) -> None:
    """The members of a team are requested by the team's id. Its name is only in storage."""
    fleet = make(tmp_path / "data")
    wishes = api.Wishes(resources=("team_members", "users", "services", "escalation_policies"))
    opening.collect_now(fleet.runtime, api.connect(fleet.runtime, SOURCE, KEY, wishes))
    held = watched(fleet)
    teams = list(simulator.truth("acme", "teams"))
    assert len(teams) == 5
    assert all(team["id"] in held for team in teams)
    names = {
        record["summary"]
        for resource in ("teams", "users", "services", "escalation_policies")
        for record in simulator.truth("acme", resource)
    }
    assert len(names) > 100
    assert {name for name in names if name in held or name in log.getvalue()} == set()
