"""Sentry tells operators of one real fault of a collecting fleet, and of nothing that is expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.sentry_receiver import sentry
from tests.simulator_process import SimulatorProcess

FAULTY, NEEDY, DISOWNED = (f"{name}-Key-{'0' * 9}" for name in ("Faulty1", "NeedyB1", "Disown1"))
CONFLICT = ("StorageConflict", "tasks.runs.visits.Visit._stored")
PAGE = "users/all.1/000000"
REFUSALS = ("status_429", "status_503", "drop_middle", "short_body")


@pytest.mark.timeout(240)
def test_a_fault_is_reported_with_its_page_and_request_and_expected_failures_are_not(
    pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    """Expected failures are 429, 402, 403, a refused key, a pause, answers that break off, and a Redis that dies."""
    for name, key in (("faulty", FAULTY), ("needy", NEEDY), ("disowned", DISOWNED)):
        pagerduty.control("POST", "accounts", **account(name, [key], users=150))
    data = tmp_path / "data"
    with sentry() as receiver:
        settings = {
            "PAGETRAIL_SENTRY_DSN": receiver.dsn,
            "PAGETRAIL_ENVIRONMENT": "rehearsal",
            "PAGETRAIL_LOG_LEVEL": "DEBUG",
        }
        with fleet_of(data, pagerduty, "--workers", "2", "--no-flower", **settings) as fleet:
            _break_a_page(fleet, pagerduty)
            _refuse(fleet, pagerduty)
            pagerduty.control("POST", "habits", account="needy", abilities_off=["teams"])
            pagerduty.control(
                "POST", "keys", account="needy", key=NEEDY, forbidden=["/log_entries"]
            )
            fleet.connect("needy/main", NEEDY)
            for kind in REFUSALS:
                pagerduty.fault(kind, account="needy", path="/incidents", next=1)
            waiting = fleet.begin("collect", "needy/main", "--wait", "--json")
            fleet.until(lambda: pagerduty.stats()["faults"].get("short_body"), 60, "be refused")
            _kill_redis(fleet)
            assert fleet.end(waiting, timeout=150).code == 3
            fleet.until(lambda: receiver.items("check_in"), 30, "hear that the tick runs")
            fleet.until(lambda: "page given up" in logs(fleet), 60, "give the page up")
            assert fleet.stop() == 0
    causes = {tuple(each["fingerprint"]): each for each in receiver.events}
    assert set(causes) == {CONFLICT, ("pagetrail.fetch", "page given up: %s")}
    event = causes[CONFLICT]
    assert f"task_id={event['tags'].pop('task_id')}" in logs(fleet)
    assert event["tags"] == {
        "tenant": "faulty",
        "source": "faulty/main",
        "run": "00000001",
        "page": PAGE,
        "resource": "users",
    }
    request = event["contexts"]["PagerDuty request"]
    assert (request["method"], request["path"]) == ("GET", "/users")
    assert {"limit=100", "offset=0", "total=true"} <= set(request["parameters"])
    assert event["environment"] == "rehearsal"
    check_ins = receiver.items("check_in")
    assert {each["status"] for each in check_ins} == {"ok"}
    assert {each["monitor_slug"] for each in check_ins} == {"pagetrail-tick"}
    assert not any(
        key.encode() in body for body in receiver.bodies for key in (FAULTY, NEEDY, DISOWNED)
    )
    assert not any(key in logs(fleet) for key in (FAULTY, NEEDY, DISOWNED))


def logs(fleet: Fleet) -> str:
    """Return everything that the workers logged."""
    return "".join(path.read_text() for path in (fleet.data / "logs").glob("worker*.log"))


def _break_a_page(fleet: Fleet, pagerduty: SimulatorProcess) -> None:
    """Begin a run, and put another object under the key of one of its pages before the page arrives."""
    fleet.connect("faulty/main", FAULTY)
    pagerduty.control("POST", "habits", account="faulty", latency_ms=2_000)
    run = fleet.ask("collect", "faulty/main")["run"]
    path = fleet.runs / f"faulty/main/runs/{run}/pages/{PAGE}.json.zst"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a page")


def _refuse(fleet: Fleet, pagerduty: SimulatorProcess) -> None:
    """Disable a key so that its run ends, and pause the source."""
    fleet.connect("disowned/main", DISOWNED)
    pagerduty.control("POST", "keys", account="disowned", key=DISOWNED, disabled=True)
    fleet.collect("disowned/main", code=1)
    fleet.ask("source", "pause", "disowned/main")


def _kill_redis(fleet: Fleet) -> None:
    """Kill the embedded Redis of a working fleet. Return when it is back and in use."""
    url = (fleet.data / "redis.url").read_text().strip()
    with redis.Redis.from_url(url) as client:
        os.kill(int(client.info("server")["process_id"]), 9)
        fleet.until(lambda: _ticks(client), 60, "tick again")


def _ticks(client: redis.Redis) -> bool:
    try:
        return client.delete("pagetrail:plan") == 0 and client.exists("pagetrail:marker") == 1
    except redis.RedisError:
        return False
