"""Many sources on several workers, one of which dies: all runs are complete, and no limit is exceeded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.evidence import assert_all_true
from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.simulator_process import SimulatorProcess

SOURCES = 30
SHARED = 3  # sources that share one key
LIMIT = 90  # per minute, and this simulator's minute lasts six seconds
RESOURCES = "incidents,services,users"


@pytest.fixture
def fleet_of_two(pagerduty: SimulatorProcess, tmp_path: Path) -> Iterator[Fleet]:
    """Two worker processes."""
    with fleet_of(tmp_path / "data", pagerduty, "--workers", "2", "--no-flower") as fleet:
        yield fleet


@pytest.mark.timeout(280)
def test_thirty_sources_on_two_workers_one_of_which_dies_keep_every_limit(
    fleet_of_two: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Every source is collected completely. No key exceeds its limit in any minute, whether sources share it or not."""
    fleet = fleet_of_two
    keys = {
        f"crowd{n:02}/main": f"crowd-Key-{min(n, SOURCES - SHARED):010d}" for n in range(SOURCES)
    }
    several = [{"key": key, "limit": LIMIT} for key in dict.fromkeys(keys.values())]
    pagerduty.control("POST", "accounts", **account("crowd", several, incidents=620, users=30))

    pagerduty.reset_stats()
    fleet.backend("connect", "collect", keys=keys, resources=RESOURCES)
    victim = fleet.workers()[0]
    os.kill(victim.pid, signal.SIGKILL)
    for source in keys:
        fleet.until(lambda source=source: sealed(fleet, source), 150, f"seal {source}")
    assert victim.pid not in [worker.pid for worker in fleet.workers()]

    seen = pagerduty.stats()
    for key in {each["key"] for each in several}:
        bucket = next(found for name, found in seen["buckets"].items() if key in name)
        assert bucket["worst_minute"] <= LIMIT
        assert seen["keys"][key]["requests"] > 0
    for source in ("crowd00/main", list(keys)[-1]):
        names = RESOURCES.split(",")
        assert_all_true(fleet, pagerduty, fleet.runs, source, "crowd", resources=names)
        assert fleet.verify(source)["differences"] == []


def sealed(fleet: Fleet, source: str) -> bool:
    return any((fleet.runs / source / "runs").glob("*/manifest.json"))
