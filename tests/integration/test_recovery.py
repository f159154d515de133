"""The fleet restores from storage what Redis lost, whatever else goes wrong meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import api, plan
from tasks.evidence.layout import manifest_key, plan_key
from tasks.runs import opening, restoring
from tests.integration.steps import (
    OTHER,
    RUN,
    SOURCE,
    Died,
    Fleet,
    ended_within,
    other_source,
    states,
)
from workers.errors import StorageUnreachable
from workers.runtime import Runtime
from workers.storage.registry import REGISTRY, Source


def test_a_source_with_damaged_evidence_does_not_stop_the_recovery_of_others(fleet: Fleet) -> None:
    """Redis was emptied, and the objects of one source can't be read."""
    opening.collect_now(fleet.runtime, other_source(fleet))
    fleet.storage.put_new(manifest_key(SOURCE, RUN), b"no manifest")
    fleet.lose_redis()
    fleet.idle()  # the tick notices it
    fleet.step()
    assert fleet.redis.exists(f"pagetrail:run:{OTHER}")
    fleet.messages.clear()
    fleet.idle()
    assert not [name for name, _ in fleet.messages if name == "tasks.plan.recover"]


def test_a_source_that_storage_refuses_does_not_stop_the_recovery_of_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage refuses everything below one source, and answers for all others."""
    opening.collect_now(fleet.runtime, other_source(fleet))
    fleet.lose_redis()
    newest = restoring.newest
    refused = []

    def refusing(runtime: Runtime, source: Source) -> Any:
        if source.id == SOURCE:
            refused.append(source.id)
            raise StorageUnreachable("The store refuses this prefix.")
        return newest(runtime, source)

    monkeypatch.setattr(restoring, "newest", refusing)
    restoring.restore(fleet.runtime)
    assert refused
    assert fleet.redis.exists(f"pagetrail:run:{OTHER}")
    assert fleet.redis.zscore("pagetrail:schedule", SOURCE), "it is tried again with its next run"


def test_a_restored_source_with_an_open_run_is_as_late_as_the_run_before(fleet: Fleet) -> None:
    """Otherwise it would be stale from the loss of Redis until its run is sealed."""
    fleet.live()
    again = opening.collect_now(fleet.runtime, fleet.runtime.sources.get(SOURCE))
    before = fleet.runtime.ledger.lasts([SOURCE]), fleet.runtime.ledger.progress(SOURCE).due_at
    fleet.lose_redis()
    restoring.restore(fleet.runtime)
    after = fleet.runtime.ledger.progress(SOURCE)
    assert after.run == again.run != RUN
    assert before == (fleet.runtime.ledger.lasts([SOURCE]), after.due_at)


def test_the_run_of_a_disconnected_source_is_sealed_even_if_redis_lost_it(fleet: Fleet) -> None:
    fleet.step()
    api.disconnect(fleet.runtime, SOURCE)
    fleet.lose_redis()
    assert ended_within(fleet, 1)
    assert fleet.manifest
    assert fleet.manifest["state"] == "cancelled"
    assert fleet.redis.zscore("pagetrail:schedule", SOURCE) is None


def test_a_run_whose_opener_died_before_the_ledger_knew_is_carried_out(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person asked for the run, so nothing is due. Only storage knows of the run."""
    fleet.live()
    sources = fleet.runtime.sources
    never = sources.save(replace(sources.get(SOURCE), every_seconds=None))

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(fleet.runtime.ledger, "open", die)
        with pytest.raises(Died):
            opening.collect_now(fleet.runtime, never)
    assert fleet.storage.get(plan_key(SOURCE, "00000002"))
    assert fleet.redis.zscore("pagetrail:due", SOURCE)
    while not fleet.storage.get(manifest_key(SOURCE, "00000002")):
        fleet.step() if fleet.messages else fleet.idle()
    while fleet.messages:
        fleet.step()
    assert fleet.redis.zscore("pagetrail:schedule", SOURCE) is None


def test_recovery_delivered_again_while_it_is_under_way_is_left_to_the_first(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many sources, a recovery takes longer than a message stays with one worker."""
    restored: list[str] = []
    list_sources = fleet.runtime.sources.list

    def meanwhile() -> list[Source]:
        restored.append("once")
        if len(restored) == 1:
            plan.recover()
        return list_sources()

    fleet.lose_redis()
    monkeypatch.setattr(fleet.runtime.sources, "list", meanwhile)
    plan.recover()
    plan.recover()
    assert restored == ["once", "once"], "the second did not wait, the third could start"


def test_recovery_keeps_its_lock_over_a_registry_that_takes_longer_to_read(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise another worker would begin it again and again, and none would finish."""
    sources, source = fleet.runtime.sources, fleet.runtime.sources.get(SOURCE)
    for number in range(63):
        sources.add(replace(source, id=f"acme/source{number}", every_seconds=None))
    reads: list[str] = []
    others = [plan.recover]

    def slow(key: str) -> bytes | None:
        reads.append(key)
        if key == last and others:
            others.pop()()  # a worker to which the message is delivered again
        time.sleep(0.7)  # four rounds of sixteen readers take longer than the lock
        return fleet.storage.get(key)

    *_, last = (stored.key for stored in fleet.storage.list(REGISTRY))
    fleet.lose_redis()
    monkeypatch.setattr(plan, "RECOVERY_SECONDS", 2)
    monkeypatch.setattr(sources, "_storage", SimpleNamespace(list=fleet.storage.list, get=slow))
    plan.recover()
    assert len(reads) == 64
    assert len(sources.list()) == 64
    assert fleet.redis.get("pagetrail:marker")


def test_recovery_is_seen_to_be_alive_at_each_document_and_each_source(fleet: Fleet) -> None:
    """Its lock is renewed then; with many sources either half takes longer than the lock lasts."""
    other_source(fleet)
    fleet.lose_redis()
    beats: list[int] = []
    restoring.restore(fleet.runtime, lambda: beats.append(1))
    assert len(beats) == 2 + 2


def lose_some(fleet: Fleet, names: Iterable[str]) -> None:
    """Evict keys, as a full Redis may do. The marker and all keys that aren't named stay."""
    for name in names:
        fleet.redis.delete(f"pagetrail:{name}")


@pytest.mark.parametrize(
    "names",
    [
        ("sources", "schedule"),
        ("sources", "credentials", "last", "open", "due", "schedule", "daily"),
        ("due",),
        ("daily",),
        (f"run:{SOURCE}",),
        (f"pages:{SOURCE}", f"ready:{SOURCE}", f"offered:{SOURCE}", f"claimed:{SOURCE}"),
        ("open", f"run:{SOURCE}"),
        ("open", "due", f"run:{SOURCE}", f"pages:{SOURCE}", f"groups:{SOURCE}"),
    ],
    ids=", ".join,
)
def test_a_fleet_restores_evicted_keys_and_ends_its_run(
    fleet: Fleet, names: tuple[str, ...]
) -> None:
    """The marker stayed and says that nothing is missing. Otherwise collection would silently stop."""
    for _ in range(12):
        fleet.step() if fleet.messages else fleet.idle()
    assert fleet.redis.exists(*(f"pagetrail:{name}" for name in names)), "there are keys to evict"
    lose_some(fleet, names)
    assert fleet.redis.exists("pagetrail:marker")
    fleet.messages.clear()
    fleet.live()
    assert states(fleet) == {}
    assert fleet.runtime.marks.lost() == ""
    assert fleet.redis.zscore("pagetrail:schedule", SOURCE), "the next run is due"
    assert fleet.redis.zscore("pagetrail:daily", SOURCE), "the daily look is scheduled"
    [row] = api.status(fleet.runtime).sights
    assert row.last
    assert list(fleet.runtime.sources.sharers([row.source.fingerprint])[0]) == [SOURCE]


@pytest.mark.parametrize("paused", [True, False])
def test_a_run_of_a_stopped_source_is_restored_as_it_was(fleet: Fleet, paused: bool) -> None:
    """The run of a paused source waits for a person. The run of a disconnected source is sealed as cancelled."""
    (api.pause if paused else api.disconnect)(fleet.runtime, SOURCE)
    fleet.messages.clear()
    lose_some(fleet, [f"{part}:{SOURCE}" for part in ("run", "pages", "ready", "offered")])
    while not fleet.redis.exists(f"pagetrail:run:{SOURCE}"):
        fleet.step() if fleet.messages else fleet.idle()
    if paused:
        assert fleet.runtime.ledger.progress(SOURCE).hold == "paused"
        api.resume(fleet.runtime, SOURCE)
    fleet.live()
    assert fleet.manifest
    assert fleet.manifest["state"] == ("complete" if paused else "cancelled")


@pytest.mark.parametrize("opened", [True, False])
def test_a_change_by_a_person_while_a_source_is_restored_stays(
    fleet: Fleet, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restoring worker read the source before the change. It looks again until nobody has changed it."""
    if not opened:
        fleet.live()
    api.pause(fleet.runtime, SOURCE)
    fleet.lose_redis()
    api.sources(fleet.runtime)
    schedule, acts = restoring.schedule_next, [api.resume]

    def late(runtime: Runtime, source: Source, after: datetime | None = None) -> None:
        if acts:
            acts.pop()(runtime, SOURCE)
        schedule(runtime, source, after)

    def late_finish(runtime: Runtime, source: str, manifest: Any) -> None:
        if acts:
            acts.pop()(runtime, SOURCE)
        finish(runtime, source, manifest)

    finish = restoring.finish
    with monkeypatch.context() as patch:
        for module in (opening, restoring):
            patch.setattr(module, "schedule_next", late)
            patch.setattr(module, "finish", late_finish)
        restoring.restore(fleet.runtime)
    assert not acts
    assert fleet.redis.zscore("pagetrail:schedule", SOURCE), "it has a due time"
    progress = fleet.runtime.ledger.progress(SOURCE)
    assert bool(progress.run) is opened
    assert not progress.hold
