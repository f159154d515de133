"""Some managed Redis servers delete keys when they are full: collection continues, and warns about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from tests.acceptance.fleet import account, fleet_of, requests_of
from tests.redis_process import redis_server
from tests.simulator_process import SimulatorProcess

FLOOD = 2_000
OPTIONS = {"maxmemory": "5mb", "maxmemory-policy": "allkeys-lru"}
SHARED = ("sources", "credentials", "last", "open", "due", "schedule", "daily")


@pytest.mark.timeout(300)
def test_a_run_ends_complete_although_redis_evicts_keys_in_its_middle(
    pagerduty: SimulatorProcess, tmp_path: Path
) -> None:
    """Another program's keys push out sources, schedules and the run. All of it is restored from storage."""
    key = "evicted-Key-000000000000"
    slow = {"latency_ms": 1_500, "jitter_ms": 100}
    pagerduty.control("POST", "accounts", **account("evicted", [key], teams=12, habits=slow))
    with (
        redis_server(options=OPTIONS) as url,
        redis.Redis.from_url(url) as other,
        fleet_of(tmp_path / "data", pagerduty, PAGETRAIL_REDIS_URL=url) as fleet,
    ):
        assert fleet.tail().count("maxmemory-policy allkeys-lru") >= 2, "`up` and the worker say so"
        fleet.connect("evicted/main", key)
        waiting = fleet.begin("collect", "evicted/main", "--wait", "--json")
        fleet.until(lambda: requests_of(pagerduty, key) > 30, 60, "reach the middle")

        def evicted() -> bool:
            """Flood Redis, and say whether it evicted the run and a key that all sources share."""
            with other.pipeline(transaction=False) as pipe:
                for number in range(FLOOD):
                    pipe.set(f"other:{number}", "x" * 4_000)
                pipe.execute()
            run = other.exists("pagetrail:run:evicted/main")
            return not run and other.exists(*(f"pagetrail:{n}" for n in SHARED)) < len(SHARED)

        fleet.until(evicted, 60, "evict keys of the fleet")
        for number in range(FLOOD):
            other.delete(f"other:{number}")
        ran = fleet.end(waiting, timeout=200)
        assert ran.code == 0, f"{ran.err}{fleet.tail()}"
        assert json.loads(ran.out)["state"] == "complete"
        assert fleet.verify("evicted/main")["differences"] == []
        found = fleet.ask("status")
        assert "allkeys-lru" in found["redis"]["warning"]
        assert [source["source"] for source in found["sources"]] == ["evicted/main"]
        assert "lost something" in fleet.tail()
