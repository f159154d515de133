"""If a region stops answering, the sources of the other region are read as usual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.evidence import assert_all_true
from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.simulator_process import SimulatorProcess

SLOTS, TIMEOUT_SECONDS = 8, 2
HANGING = 12  # sources: if each held a slot, they would hold more than there are
LEARNED = 2 * SLOTS
"""The most requests that are sent before the process knows that the region doesn't answer."""
RESOURCES = "incidents,users,services"


@pytest.fixture
def small_fleet(pagerduty: SimulatorProcess, tmp_path: Path) -> Iterator[Fleet]:
    """One worker with few slots."""
    more = {
        "PAGETRAIL_WORKER_SLOTS": str(SLOTS),
        "PAGETRAIL_REQUEST_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    }
    with fleet_of(tmp_path / "data", pagerduty, **more) as fleet:
        yield fleet
    pagerduty.clear_faults()


@pytest.mark.timeout(180)
def test_a_region_that_hangs_holds_a_quarter_of_the_slots_and_the_other_is_read(
    small_fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Runs in one region begin and end while every request to the other region still hangs."""
    fleet = small_fleet
    far = {f"far{n:02}/main": f"far-Key-{n:012d}" for n in range(HANGING)}
    near = {f"near{n}/main": f"near-Key-{n:011d}" for n in range(3)}
    for name, region, keys in (("far", "eu", far), ("near", "us", near)):
        made = account(name, list(keys.values()), region=region, incidents=620)
        pagerduty.control("POST", "accounts", **made)
    fleet.backend("connect", keys=far, resources=RESOURCES, region="eu")
    fleet.backend("connect", keys=near, resources=RESOURCES)
    fleet.backend("collect", keys=far, resources=RESOURCES, region="eu")
    for source in far:  # its first run asks for PagerDuty's time before it opens
        fleet.until(lambda source=source: sealed(fleet, source), 90, f"know the time of {source}")

    pagerduty.fault("hang", account="far")
    fleet.backend("collect", keys=far, resources=RESOURCES, region="eu")
    fleet.until(lambda: fired(pagerduty) > LEARNED, 60, "learn that the region hangs")
    fleet.backend("collect", keys=near, resources=RESOURCES)
    for source in near:
        fleet.until(lambda source=source: sealed(fleet, source), 90, f"seal {source}")
    ended = fired(pagerduty)

    for source in far:
        assert sealed(fleet, source) == 1
    most = SLOTS // 4
    enough = max(ended, LEARNED + 2 * most)
    fleet.until(lambda: fired(pagerduty) > enough, 60, "ask the region again and again")
    moments = hung(pagerduty)[LEARNED:]
    gaps = [after - before for before, after in zip(moments, moments[most:], strict=False)]
    assert gaps
    assert min(gaps) > TIMEOUT_SECONDS / 2, "a slot of the region's share is free after a time-out"
    for source in near:
        assert_all_true(
            fleet, pagerduty, fleet.runs, source, "near", resources=["incidents", "users"]
        )


def fired(simulator: SimulatorProcess) -> int:
    """Return how many requests were never answered."""
    return sum(int(rule["fired"]) for rule in simulator.control("GET", "faults"))


def hung(simulator: SimulatorProcess) -> list[float]:
    """Return when each request came that was never answered."""
    return [
        seen["at"]
        for seen in simulator.requests()
        if seen["fault"] == "hang" and seen["account"] == "far"
    ]


def sealed(fleet: Fleet, source: str) -> int:
    """Return how many runs of a source are sealed."""
    return len(list((fleet.runs / source / "runs").glob("*/manifest.json")))
