"""A process is killed or Redis emptied in the middle of a run: the run ends complete, with each record once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.acceptance.evidence import assert_all_true
from tests.acceptance.fleet import Fleet, account, fleet_of, requests_of
from tests.simulator_process import SimulatorProcess

SLOW = {"latency_ms": 500, "jitter_ms": 150}  # so a run takes several seconds even on a fast fleet
MIDDLE = 40  # requests, of about 130, before something happens


@pytest.fixture
def own_fleet(pagerduty: SimulatorProcess, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that only this test uses, so it may break it."""
    with fleet_of(tmp_path / "data", pagerduty) as fleet:
        yield fleet


def begin(
    fleet: Fleet, simulator: SimulatorProcess, name: str, incidents: int = 2_600, **more: int
) -> Any:
    """Start collecting a slow account that has several pages of each resource. Return the waiting command."""
    key = f"{name}-Key-{'0' * 12}"
    simulator.control(
        "POST",
        "accounts",
        **account(name, [key], incidents=incidents, services=130, teams=12, habits=SLOW | more),
    )
    fleet.connect(f"{name}/main", key)
    before = requests_of(simulator, key)
    waiting = fleet.begin("collect", f"{name}/main", "--wait", "--json")
    fleet.until(lambda: requests_of(simulator, key) - before > MIDDLE, 60, "reach the middle")
    assert fleet.ask("run", "show", f"{name}/main")["state"] == "open", "the run is over already"
    return waiting


def end(fleet: Fleet, simulator: SimulatorProcess, name: str, waiting: Any) -> None:
    """Assert that the run ends complete, and that it has exactly the true records, each one once."""
    ran = fleet.end(waiting, timeout=150)
    assert ran.code == 0, f"{ran.err}{ran.out}{fleet.tail()}"
    assert ran.document["state"] == "complete"
    assert_all_true(fleet, simulator, fleet.runs, f"{name}/main", name)
    assert fleet.verify(f"{name}/main")["differences"] == []


@pytest.mark.timeout(240)
def test_a_worker_killed_in_the_middle_costs_nothing(
    own_fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """The only worker is killed with -9, and another one takes its pages."""
    waiting = begin(own_fleet, pagerduty, "killed")
    [worker] = own_fleet.workers()
    worker.kill()
    own_fleet.until(lambda: not worker.is_running(), 10, "see the worker gone")
    end(own_fleet, pagerduty, "killed", waiting)


@pytest.mark.timeout(240)
def test_redis_emptied_in_the_middle_costs_nothing(
    own_fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """FLUSHALL deletes queues, ledger, limiter and sources. They are restored from storage."""
    waiting = begin(own_fleet, pagerduty, "emptied")
    with redis.Redis.from_url((own_fleet.data / "redis.url").read_text().strip()) as client:
        assert client.exists("pagetrail:run:emptied/main") == 1
        client.flushall()
    end(own_fleet, pagerduty, "emptied", waiting)
    assert "emptied" in own_fleet.tail()


@pytest.mark.timeout(240)
def test_up_killed_in_the_middle_and_started_again_costs_nothing(
    own_fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Its children end by themselves, and the next `up` continues the open run."""
    waiting = begin(own_fleet, pagerduty, "fallen")
    children = own_fleet.kill()
    assert len(children) >= 3
    _, left = psutil.wait_procs(children, timeout=40)
    assert left == [], "children outlived `up`"
    own_fleet.start("--workers", "1", "--no-flower")
    end(own_fleet, pagerduty, "fallen", waiting)


@pytest.mark.timeout(120)
def test_a_frozen_worker_that_resumes_adds_nothing(
    pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    """Another worker took its pages when its leases ended, so its own results are dropped."""
    with fleet_of(tmp_path / "data", pagerduty, "--workers", "2", "--no-flower") as fleet:
        waiting = begin(fleet, pagerduty, "frozen")
        frozen = fleet.workers()[0]
        os.kill(frozen.pid, signal.SIGSTOP)
        fleet.until(lambda: waiting.poll() is not None, 90, "end without the frozen worker")
        os.kill(frozen.pid, signal.SIGCONT)
        end(fleet, pagerduty, "frozen", waiting)


@pytest.mark.timeout(240)
def test_a_failover_in_the_middle_costs_nothing(
    own_fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Redis becomes a replica and refuses writes for some seconds.

    No process ends, and PagerDuty isn't blamed for it.
    """
    before = {each.pid for each in own_fleet.children()}
    waiting = begin(own_fleet, pagerduty, "demoted", incidents=900, latency_ms=1_500)
    with redis.Redis.from_url((own_fleet.data / "redis.url").read_text().strip()) as client:
        claimed = "pagetrail:claimed:demoted/main"
        own_fleet.until(lambda: client.zcard(claimed), 10, "see a page in a worker's hands")
        client.replicaof("127.0.0.1", "1")
        sent = requests_of(pagerduty, f"demoted-Key-{'0' * 12}")
        ran = own_fleet.run("source", "check", "demoted/main")  # has to write to the key's budget
        assert (ran.code, "replica" in ran.err) == (1, True), ran
        time.sleep(5)
        client.replicaof("NO", "ONE")
    time.sleep(2)
    seen = set()
    while waiting.poll() is None:
        [source] = own_fleet.ask("status")["sources"]
        seen.add(source["activity"])
        time.sleep(1)
    assert seen <= {"reading", "sealing", "idle"}
    ran = own_fleet.end(waiting)
    assert (ran.code, ran.document["state"]) == (0, "complete"), f"{ran.err}{own_fleet.tail()}"
    assert own_fleet.verify("demoted/main")["differences"] == []
    assert requests_of(pagerduty, f"demoted-Key-{'0' * 12}") > sent, "the run was over before"
    assert {each.pid for each in own_fleet.children()} == before, "a process ended"
