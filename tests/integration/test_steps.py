"""A run step by step, with everything that can go wrong between two steps."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tasks import api, plan
from tasks.evidence.layout import plan_key
from tasks.runs import opening
from tasks.verifying.verify import verify
from tests.integration.steps import KEY, RUN, SOURCE, Died, Fleet
from tests.simulator_process import SimulatorProcess
from workers.errors import UsageFault


@dataclass
class Reference:
    """A run without disturbances: its plan, so that it can run again, and its results."""

    plan: bytes
    manifest: dict[str, Any]
    steps: int


@pytest.fixture
def reference(make: Callable[[Path], Fleet], tmp_path: Path) -> Reference:
    fleet = make(tmp_path / "reference")
    opening.collect_now(fleet.runtime, fleet.connect())
    fleet.live()
    text = fleet.storage.get(plan_key(SOURCE, RUN))
    assert text
    assert fleet.manifest
    return Reference(text, fleet.manifest, fleet.steps)


def again(make: Callable[[Path], Fleet], data_dir: Path, reference: Reference) -> Fleet:
    """Return a fleet that finds the reference's run open in storage, with an empty Redis."""
    fleet = make(data_dir)
    fleet.connect()
    fleet.storage.put_new(plan_key(SOURCE, RUN), reference.plan)
    fleet.lose_redis()
    return fleet


def test_a_backend_may_give_a_time_in_its_own_zone_and_with_microseconds(
    make: Callable[[Path], Fleet], tmp_path: Path
) -> None:
    """The names of a run's windows have UTC and whole seconds, before its plan is stored and after."""
    fleet = make(tmp_path / "data")
    here = datetime.now(timezone(timedelta(hours=2))) - timedelta(days=20, microseconds=1)
    wishes = api.Wishes(since=here, resources=("incidents", "log_entries"))
    with pytest.raises(UsageFault, match="has no zone"):
        api.connect(fleet.runtime, SOURCE, KEY, replace(wishes, since=datetime(2026, 1, 1)))  # noqa: DTZ001 - the time must be refused
    source = api.connect(fleet.runtime, SOURCE, KEY, wishes)
    assert source.since == here.replace(microsecond=0)
    assert source.since.tzinfo is UTC
    opening.collect_now(fleet.runtime, source)
    fleet.live()
    assert fleet.manifest
    assert fleet.manifest["state"] == "complete"


def essence(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without times, request counts, and the digests that depend on them."""
    rest = {k: v for k, v in manifest.items() if k not in ("sealed_at", "sha256")}
    rest["resources"] = {
        name: {
            **{k: v for k, v in account.items() if k != "requests"},
            "windows": [
                {**window, "pages": [[p["number"], p["records"]] for p in window["pages"]]}
                for window in account["windows"]
            ],
        }
        for name, account in manifest["resources"].items()
    }
    return rest


def check(fleet: Fleet, reference: Reference) -> None:
    manifest = fleet.manifest
    assert manifest
    assert essence(manifest) == essence(reference.manifest)
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok
    assert [difference.kind for difference in report.differences] == []
    plan.tick()
    while fleet.messages:
        fleet.step()
    assert fleet.redis.zscore("pagetrail:schedule", SOURCE), "the next run has a due time"


def test_an_undisturbed_run_reads_everything_with_the_fewest_requests(
    reference: Reference,
) -> None:
    manifest = reference.manifest
    assert manifest["state"] == "complete"
    assert {name: r["state"] for name, r in manifest["resources"].items()} == dict.fromkeys(
        manifest["resources"], "complete"
    )
    records = {name: r["records"] for name, r in manifest["resources"].items()}
    assert (records["incidents"], records["services"], records["schedules"]) == (250, 220, 5)
    requests = {name: r["requests"] for name, r in manifest["resources"].items()}
    assert (requests["incidents"], requests["services"], requests["schedules"]) == (3, 3, 2 + 5)
    assert records["schedule_coverage"] == requests["schedule_coverage"] == 5


def test_redis_emptied_after_every_step_that_stored_something(
    make: Callable[[Path], Fleet], tmp_path: Path, reference: Reference
) -> None:
    """Redis isn't emptied after other steps. If it were, no run would ever make progress."""
    fleet = again(make, tmp_path / "again", reference)
    new: list[str] = []
    fleet.storage.stored = new.append
    while not fleet.ended:
        known = len(new)
        while len(new) == known and not fleet.ended:
            if fleet.messages:
                fleet.step()
            else:
                fleet.idle()
        fleet.lose_redis()
    assert len(new) > reference.steps, "each object was a separate step"
    check(fleet, reference)


def test_redis_emptied_once_after_any_step(
    make: Callable[[Path], Fleet], tmp_path: Path, reference: Reference
) -> None:
    for moment in range(1, reference.steps + 1):
        fleet = again(make, tmp_path / f"{moment}", reference)
        while not fleet.ended:
            if fleet.messages:
                fleet.step()
            else:
                fleet.idle()
            if fleet.steps == moment:
                fleet.lose_redis()
                fleet.idle()
        check(fleet, reference)


def test_every_worker_dies_right_after_it_stored_something(
    make: Callable[[Path], Fleet], tmp_path: Path, reference: Reference
) -> None:
    """It can't report what it stored. The lease ends, and another worker finds the object."""
    fleet = again(make, tmp_path / "again", reference)

    def die(key: str) -> None:
        raise Died(key)

    fleet.storage.stored = die
    fleet.live()
    check(fleet, reference)


def test_every_worker_dies_right_after_it_stored_something_and_redis_is_emptied(
    make: Callable[[Path], Fleet], tmp_path: Path, reference: Reference
) -> None:
    fleet = again(make, tmp_path / "again", reference)

    def die(key: str) -> None:
        fleet.lose_redis()
        raise Died(key)

    fleet.storage.stored = die
    fleet.live()
    check(fleet, reference)


@pytest.mark.parametrize("seed", range(5))
def test_anything_at_any_time(
    make: Callable[[Path], Fleet],
    tmp_path: Path,
    reference: Reference,
    simulator: SimulatorProcess,
    seed: int,
) -> None:
    """Messages are lost, doubled and late, answers fail or are cut, workers die, and Redis is emptied."""
    dice = random.Random(seed)
    random.seed(seed)  # for the jitter between attempts
    simulator.fault("status_503", probability=0.05, seed=seed)
    simulator.fault("cut_json", probability=0.05, seed=seed)
    fleet = again(make, tmp_path / "again", reference)

    def stored(key: str) -> None:
        if dice.random() < 0.05:
            raise Died(key)

    fleet.storage.stored = stored
    while not fleet.ended:
        what = dice.random()
        if not fleet.messages or what < 0.02:
            fleet.idle()
        elif what < 0.05:
            fleet.messages.popleft()
        elif what < 0.15:
            fleet.messages.append(dice.choice(fleet.messages))
        elif what < 0.155:
            fleet.redis.flushall()  # while workers already have some messages
        else:
            fleet.step(dice.randrange(len(fleet.messages)))
    check(fleet, reference)
