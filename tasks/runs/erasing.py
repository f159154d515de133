"""Erase the evidence of a source. One object records the erasure before it begins, another after it ends."""

from __future__ import annotations

import logging
import time
from calendar import monthrange
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice

from msgspec.structs import replace

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import (
    Account,
    ErasedRun,
    Erasure,
    Finished,
    Purge,
    Why,
    done_key,
    record_key,
    summary,
)
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, plan_key, run_prefix
from tasks.evidence.manifests import read_manifest, read_plan, runs_of
from tasks.reading.windows import rfc3339
from tasks.runs.events import EvidenceErased
from workers.errors import Busy, Fault, StorageConflict
from workers.runtime import Runtime
from workers.state.sources import changed
from workers.storage import Storage
from workers.storage.registry import Source, SourceState, parse_source_id

log = logging.getLogger("pagetrail.purge")
MOST_RUNS = 50
"""Most runs that one look erases. All of them are read and listed before the first is erased."""
MOST_LOST = 10_000
"""Most lost runs that the record of an erasure may name, besides the runs that are in storage."""
FLEET = "fleet"
_ERASERS, _BATCH = 8, 400


def purge(fleet: Runtime, source_id: str, by: str) -> Purge | None:
    """Erase all evidence of a paused or disconnected source, on behalf of *by*; return the record of the erasure.

    None if the source never had evidence. The record says which runs were erased, with their digests and sizes, when,
    and on whose behalf. It is stored first, outside the evidence, and is kept. From then on those runs don't count as
    evidence. If the call is interrupted, the next call erases the rest. Raises `Fault` for an active source or one
    under legal hold, `Busy` while a run is open.
    """
    source, found = _erasable(fleet, parse_source_id(source_id))
    if found:
        _record(fleet, source, found, "purge", by)
    _erase(fleet, source_id)
    record = Purged(fleet.storage, source_id).last
    return summary(record) if record else None


def expire(fleet: Runtime, source: Source, now: datetime, seconds: float) -> bool:
    """Erase runs of *source* that have outlived its retention; False if runs are left, or *seconds* weren't enough.

    Safe to repeat. Does nothing under a legal hold; raises `Busy` if one begins at the same moment.
    """
    if source.held_since:
        return True
    found = outlived(fleet.storage, source, now)
    if found:
        _record(fleet, source, found, "retention", FLEET)
    return _erase(fleet, source.id, seconds) and len(found) < MOST_RUNS


def outlived(storage: Storage, source: Source, now: datetime) -> list[str]:
    """Return the oldest runs that were sealed longer ago than the source's retention, at most `MOST_RUNS`.

    While the source is connected, its newest sealed run stays, because the next run continues from it. Raises
    `StorageConflict` if the oldest run has no manifest although it isn't the newest.
    """
    if source.retention_months is None:
        return []
    edge = months_before(now, source.retention_months)
    found: list[str] = []
    unsealed = ""
    purged = Purged(storage, source.id)
    for run in purged.oldest_kept():
        manifest = read_manifest(storage, source.id, run)
        if manifest is None:
            unsealed = run
            break
        if manifest.sealed_at >= edge or len(found) == MOST_RUNS:
            return found
        found.append(run)
    over = found if source.state is SourceState.DISCONNECTED else found[:-1]
    if not over and unsealed and unsealed != purged.newest(unsealed):
        raise StorageConflict(
            f"Run {unsealed} of {source.id} has no manifest although later runs exist, so no later run "
            f"is erased: restore {manifest_key(source.id, unsealed)} from a copy of the storage, or move "
            f"{run_prefix(source.id, unsealed)} away if nobody needs it."
        )
    return over


def sweep(fleet: Runtime, source_id: str, run: str) -> bool:
    """Return whether *run* was erased. If so, a look is due at once, to delete objects that a late worker stored."""
    erased = Purged(fleet.storage, source_id).erased(run)
    if erased:
        fleet.daily.within(source_id, 0)
    return erased


def is_open(fleet: Runtime, source_id: str, newest: str) -> bool:
    """Return whether a run is open. If the ledger has none, the stored objects of the *newest* run decide."""
    if fleet.ledger.progress(source_id).run:
        return True
    try:
        return bool(
            newest
            and read_manifest(fleet.storage, source_id, newest) is None
            and read_plan(fleet.storage, source_id, newest)
        )
    except StorageConflict:
        return False  # a run with a damaged plan can't go on


def check_purge(fleet: Runtime, source_id: str) -> None:
    """Raise the `Fault` that `purge` would raise, if any. It erases nothing."""
    _erasable(fleet, parse_source_id(source_id))


def _erasable(fleet: Runtime, name: str) -> tuple[Source, list[str]]:
    """Return a source and all its runs, or raise the `Fault` that says why they may not be erased now."""
    source = fleet.sources.fresh(name)
    runs = runs_of(fleet.storage, name)  # a run that opens later is not erased
    if source.state is SourceState.ACTIVE:
        raise Fault(
            f"{name} is active: `pagetrail source pause {name}` or `pagetrail source disconnect "
            f"{name}` first."
        )
    if source.held_since:
        raise Fault(
            f"{name} is under legal hold since {rfc3339(source.held_since)}: nothing was erased. "
            f"`pagetrail source release {name}` ends the hold."
        )
    if is_open(fleet, name, runs[-1] if runs else ""):
        raise Busy(
            f"The last run of {name} is not sealed yet: `pagetrail run cancel {name}` ends it; "
            "once the fleet has sealed it, purge again."
        )
    return source, runs


def _record(fleet: Runtime, source: Source, runs: list[str], why: Why, by: str) -> None:
    """Store the record of an erasure; from then on its runs don't count as evidence."""
    record = _account(fleet.storage, source, runs, why, by)
    with fleet.sources.alone(source.id):
        fleet.sources.save(source)  # `Busy` if it changed: a legal hold may have begun
        key = record_key(source.id, record.through)
        text = documents.written(record)
        ours = fleet.storage.put_new(key, text) or fleet.storage.get(key) == text
        if ours and fleet.sources.fresh(source.id).held_since:
            # Our lock ran out before we stored the record, and a hold began: everything must stay.
            fleet.storage.delete(key)
            raise changed(source.id)
    if not Purged(fleet.storage, source.id).erased(record.through):
        raise StorageConflict(
            f"{key} is in the way, so nothing was erased: `pagetrail verify {source.id}` says what is "
            "wrong with it; move it away and try again."
        )


def _account(storage: Storage, source: Source, runs: list[str], why: Why, by: str) -> Erasure:
    """Return the record of an erasure of *runs*, and of the lost runs between them."""
    before = Purged(storage, source.id).last
    first, last = int(before.through) + 1 if before else 1, int(runs[-1])
    if last - first > MOST_LOST + len(runs):
        raise StorageConflict(
            f"Too many runs of {source.id} before run {runs[-1]} are lost, so nothing was erased: "
            f"restore them from a copy of the storage, or move {run_prefix(source.id, runs[-1])} "
            "away if that run was never collected."
        )
    entries = tuple(_entry(storage, source.id, f"{n:08d}") for n in range(first, last + 1))
    return Erasure(
        source=source.id,
        previous=before.link if before else None,
        through=runs[-1],
        why=why,
        retention_months=source.retention_months if why == "retention" else None,
        by=by,
        at=_now(),
        account=Account(region=source.region, subdomain=source.subdomain),
        runs=entries,
        objects=sum(each.objects for each in entries),
        bytes=sum(each.bytes for each in entries),
    )


def _entry(storage: Storage, source: str, run: str) -> ErasedRun:
    sizes = [stored.size for stored in storage.list(run_prefix(source, run))]
    counted = ErasedRun(run=run, objects=len(sizes), bytes=sum(sizes))
    try:
        manifest = read_manifest(storage, source, run) if sizes else None
    except StorageConflict:
        log.warning("erased although it can't be read", extra={"source": source, "run": run})
        text = storage.get(manifest_key(source, run))
        return replace(counted, manifest_sha256=sha256(text) if text is not None else None)
    if manifest is None:
        return counted
    return replace(
        counted,
        state=manifest.state,
        period=manifest.period,
        opened_at=manifest.opened_at,
        sealed_at=manifest.sealed_at,
        manifest_sha256=manifest.sha256,
    )


def _erase(fleet: Runtime, source: str, seconds: float = float("inf")) -> bool:
    """Delete all objects of runs that are recorded as erased; False if *seconds* weren't enough."""
    deadline, storage = time.monotonic() + seconds, fleet.storage
    purged = Purged(storage, source)
    with ThreadPoolExecutor(_ERASERS) as erasers:
        for run in purged.left:
            keys = (stored.key for stored in storage.list(run_prefix(source, run)))
            while batch := list(islice(keys, _BATCH)):
                if time.monotonic() >= deadline:
                    return False
                if fleet.sources.fresh(source).held_since:
                    raise changed(source)
                # The plan goes first: without a plan, the other objects don't count as a run.
                storage.delete(plan_key(source, run))
                list(erasers.map(storage.delete, batch))
    for record in purged.unfinished():
        _finish(fleet, record)
    return True


def _finish(fleet: Runtime, record: Erasure) -> None:
    """Say that every run in *record* is gone: in an event, then in an object in storage."""
    source = record.source
    if next(Purged(fleet.storage, source).oldest_kept(), None) is None:
        fleet.ledger.forget(source)
        fleet.troubles.forget(source, "run", "retention")
    erased = EvidenceErased(
        why=record.why,
        by=record.by,
        through=record.through,
        runs=tuple(each.run for each in record.runs),
        objects=record.objects,
        bytes=record.bytes,
    )
    fleet.events.emit(erased, source, about=record.through)
    key = done_key(source, record.through)
    fleet.storage.put_new(key, documents.written(Finished.of(record, _now())))
    if record in Purged(fleet.storage, source).unfinished():
        raise StorageConflict(
            f"{key} has the name of the object that ends an erasure: move it away; the next look "
            "stores the right one."
        )
    log.info("erased", extra={"source": source, "run": record.through})


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def wants_look(source: Source) -> bool:
    """Return whether *source* needs a daily look."""
    return source.state is not SourceState.DISCONNECTED or source.retention_months is not None


def months_before(when: datetime, months: int) -> datetime:
    """Return the same time *months* calendar months earlier, or on the last day if that month is too short."""
    year, month = divmod(when.year * 12 + when.month - 1 - months, 12)
    day = min(when.day, monthrange(year, month + 1)[1])
    return when.replace(year=year, month=month + 1, day=day)
