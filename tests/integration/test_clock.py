"""The clock in PagerDuty's answers to a source only dates the runs of that source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks import api
from tasks.evidence.manifests import read_plan
from tasks.watching.concerns import Concern
from tests.integration.steps import KEY, RUN, SOURCE, Fleet
from tests.integration.test_purge import collect, connect
from tests.simulator_process import SimulatorProcess
from workers.errors import ClockFault
from workers.pagerduty.keys import fingerprint

OTHER, OTHER_KEY = "beta/main", "o" * 20
NEXT = "00000002"
SOON = timedelta(minutes=5)


@pytest.fixture
def fleet(make: Callable[[Path], Fleet], tmp_path: Path) -> Fleet:
    fleet = make(tmp_path / "data")
    connect(fleet)
    return fleet


@pytest.mark.parametrize("kind", ["date_past", "date_future"])
def test_a_date_that_one_account_is_told_does_not_date_the_run_of_another(
    fleet: Fleet, simulator: SimulatorProcess, kind: str
) -> None:
    """One source gets dates that are decades wrong: its own run doesn't open, and the other source's run ends now."""
    collect(fleet)
    simulator.fault(kind, key=KEY)
    fleet.runtime.ledger.schedule(SOURCE, fleet.now_ms)
    api.collect(fleet.runtime, SOURCE)
    collect_what_is_open(fleet)

    second(fleet, simulator)
    run = api.collect(fleet.runtime, OTHER).run
    assert abs(read_plan(fleet.storage, OTHER, run).period.until - datetime.now(UTC)) < SOON
    with pytest.raises(ClockFault, match=f"answers to {SOURCE} are dated (1970|9999)"):
        api.collect(fleet.runtime, SOURCE)
    assert simulator.stats()["faults"][kind] > 0


def test_a_run_opens_once_the_clocks_agree_again(fleet: Fleet, simulator: SimulatorProcess) -> None:
    """The reason why a run can't open is reported. The clock is requested again at each try."""
    simulator.fault("date_past", key=KEY)
    with pytest.raises(ClockFault) as said:
        api.collect(fleet.runtime, SOURCE)
    assert fleet.runtime.troubles.all() == {SOURCE: {"run": str(said.value)}}
    simulator.clear_faults()
    collect(fleet)
    assert fleet.runtime.troubles.all() == {}
    assert abs(read_plan(fleet.storage, SOURCE, RUN).period.until - datetime.now(UTC)) < SOON


@pytest.mark.parametrize("hours", [5, -5])
def test_a_key_is_dated_by_the_clock_that_dates_the_run_in_which_it_was_refused(
    fleet: Fleet, simulator: SimulatorProcess, hours: int
) -> None:
    """Redis's: the clock of the machine where somebody rotates a key may be off by hours."""

    def later(seconds: int) -> None:
        fleet.runtime.ledger.now_ms = fleet.now_ms + 1_000 * seconds

    def refused() -> bool:
        [sight] = api.status(fleet.runtime).sights
        return Concern.KEY in sight.needs

    later(hours * 3_600)
    api.rotate(fleet.runtime, SOURCE, KEY)
    later(60)
    simulator.fault("unauthorized", key=KEY)
    api.collect(fleet.runtime, SOURCE)
    collect_what_is_open(fleet)
    assert refused()
    simulator.clear_faults()
    later(60)
    api.rotate(fleet.runtime, SOURCE, KEY)
    assert not refused()


def second(fleet: Fleet, simulator: SimulatorProcess) -> None:
    """Connect another source in the region, with its own key."""
    simulator.control("POST", "keys", account="acme", key=OTHER_KEY, limit=100_000)
    runtime = fleet.runtime
    runtime.sources.add(
        replace(
            runtime.sources.get(SOURCE),
            id=OTHER,
            fingerprint=fingerprint("us", OTHER_KEY),
            sealed_key=runtime.vault.seal(OTHER_KEY, OTHER),
        )
    )


def collect_what_is_open(fleet: Fleet) -> None:
    while fleet.redis.exists(f"pagetrail:run:{SOURCE}"):
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()
