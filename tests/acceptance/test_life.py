"""Life and death of a source, and of all of them at once, over the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from tests.acceptance.fleet import Fleet, account, requests_of
from tests.simulator_process import SimulatorProcess

SLOW = {"latency_ms": 500, "jitter_ms": 150}  # a run takes several seconds, however fast the fleet
QUIET_SECONDS = 3.0  # several ticks, and longer than any process remembers that it may ask


@pytest.fixture
def resumed(fleet: Fleet) -> Iterator[None]:
    """Whatever happens, the next test finds the fleet at work."""
    yield
    fleet.ask("source", "resume", "--all")


def settled(fleet: Fleet, simulator: SimulatorProcess, *keys: str) -> int:
    """Wait until no request has come for a while; return how many there were."""
    seen = [requests_of(simulator, *keys)]

    def quiet() -> bool:
        time.sleep(QUIET_SECONDS)
        seen.append(requests_of(simulator, *keys))
        return seen[-1] == seen[-2]

    fleet.until(quiet, 30, "see requests end")
    return seen[-1]


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("resumed")
def test_all_requests_stop_and_go_on_while_what_was_paused_singly_stays_so(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Not even an emptied Redis lets a request through; afterwards nothing is missing."""
    keys = {name: f"{name}-Key-{'0' * 12}" for name in ("runs", "rests")}
    for name, key in keys.items():
        lasting = account(name, [key], incidents=2_000, services=120, habits=SLOW)
        pagerduty.control("POST", "accounts", **lasting)
        fleet.connect(f"{name}/main", key)
    each = requests_of(pagerduty, *keys.values()) // 2 + 15
    waiting = fleet.begin("collect", "runs/main", "--wait", "--json")
    fleet.ask("collect", "rests/main")
    fleet.until(
        lambda: min(requests_of(pagerduty, key) for key in keys.values()) > each, 60, "be under way"
    )
    assert fleet.ask("source", "pause", "rests/main")["state"] == "paused"
    assert fleet.ask("source", "pause", "--all") == {"paused": True}

    stopped = settled(fleet, pagerduty, *keys.values())
    assert fleet.ask("run", "show", "runs/main")["state"] == "open", "it is over already"
    status = fleet.ask("status")
    assert (status["working"], status["paused"]) == (True, True)
    with redis.Redis.from_url((fleet.data / "redis.url").read_text().strip()) as client:
        client.flushall()
        fleet.until(lambda: client.exists("pagetrail:marker"), 30, "see Redis filled again")
    for command in (("collect", "runs/main"), ("source", "check", "runs/main")):
        assert "source resume --all" in fleet.refused(1, *command)
    assert settled(fleet, pagerduty, *keys.values()) == stopped
    resting = requests_of(pagerduty, keys["rests"])

    assert fleet.ask("source", "resume", "--all") == {"paused": False}
    ran = fleet.end(waiting, timeout=120)
    assert (ran.code, ran.document["state"]) == (0, "complete"), f"{ran.err}{fleet.tail()}"
    assert fleet.ask("source", "show", "rests/main")["state"] == "paused"
    assert requests_of(pagerduty, keys["rests"]) == resting
    fleet.ask("source", "resume", "rests/main")
    assert fleet.collect("rests/main")["state"] == "complete"
    assert requests_of(pagerduty, keys["rests"]) > resting
    for name in keys:
        assert fleet.verify(f"{name}/main")["differences"] == []


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_one_source_or_all_but_not_both(fleet: Fleet, command: str) -> None:
    assert "--all" in fleet.refused(2, "source", command)
    assert "--all" in fleet.refused(2, "source", command, "runs/main", "--all")
