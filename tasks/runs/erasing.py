"""Erase the evidence of a source: ask the signer for a record, then delete the runs that it names."""

from __future__ import annotations

import logging
import time
from calendar import monthrange
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from itertools import islice, takewhile

from tasks.evidence import documents
from tasks.evidence.erasure_records import (
    Finished,
    Purge,
    StoredErasure,
    Why,
    done_key,
    record_key,
    summary,
)
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, plan_key, run_prefix, seal_key
from tasks.evidence.manifests import read_manifest, read_plan, runs_of
from tasks.reading.windows import rfc3339
from tasks.runs.events import EvidenceErased, PurgeAsked
from tasks.runs.recording import check_range, in_the_way
from workers.errors import Busy, Fault, PurgeRefused, StorageConflict
from workers.runtime import Runtime
from workers.signing.keys import PublicKeys
from workers.state.events import DAY_SECONDS
from workers.state.sources import changed
from workers.state.unsealed import RECORD
from workers.storage import Storage
from workers.storage.registry import PurgeWish, Source, SourceState, parse_source_id

log = logging.getLogger("pagetrail.purge")
MOST_RUNS = 50
"""Most runs that one look erases. All of them are read and listed before the first is erased."""
FLEET = "fleet"
PURGE = "purge"
"""The kind of work whose troubles say why the signer refuses a purge."""
WAIT_SECONDS = 15.0
"""How long a command waits for the signer. It signs within a second or two as a rule."""
LATER_SECONDS = 600.0
"""Time until the next look at a source that is being changed, has an open run, or waits for the signer."""
_LOOK_SECONDS = 0.2
_ERASERS, _BATCH = 8, 400


class Progress(Enum):
    """How far an erasure has come."""

    DONE = "done"  # nothing is left to erase
    MORE = "more"  # the time was over, and something is left
    WAITS = "waits"  # for the signer: nothing is deleted before


def purge(
    fleet: Runtime, source_id: str, by: str, wait_seconds: float = WAIT_SECONDS
) -> Purge | None:
    """Erase all evidence of a paused or disconnected source, on behalf of *by*; return the record of the erasure.

    None if the source never had evidence. The signer first stores a signed record outside of the evidence, which stays.
    It says which runs were erased, with their digests and sizes, when, and on whose behalf. From then on those runs
    don't count as evidence. Raises `Fault` for an active source or one under legal hold, and `Busy` while a run is
    open. If the signer doesn't sign within *wait_seconds*, raises `Busy` too: the fleet erases the runs later. Raises
    `PurgeRefused` if the signer refuses. If the call is interrupted, the fleet erases the rest.
    """
    source, runs = _erasable(fleet, parse_source_id(source_id))
    if through := _to_erase(fleet, source, runs):
        _ask(fleet, source, through, "purge", by)
    deadline = time.monotonic() + wait_seconds
    while _erase(fleet, source_id) is Progress.WAITS:
        if refused := fleet.troubles.all().get(source_id, {}).get(PURGE):
            raise PurgeRefused(refused)
        if time.monotonic() >= deadline:
            raise Busy(
                f"The purge of {source_id} waits for the signer, so nothing is deleted yet: once a worker takes the "
                f"queue `sign`, the fleet erases the runs by itself. `pagetrail source hold {source_id}` calls the "
                "purge off."
            )
        time.sleep(_LOOK_SECONDS)
    record = Purged(fleet.storage, source_id).last
    return summary(record) if record else None


def _to_erase(fleet: Runtime, source: Source, runs: list[str]) -> str:
    """Return the last run to erase; "" if every run is gone."""
    if runs:
        check_range(Purged(fleet.storage, source.id), source.id, runs[-1])
        return runs[-1]
    left = Purged(fleet.storage, source.id).unfinished()
    return left[-1].through if left else ""


def expire(fleet: Runtime, source: Source, now: datetime, seconds: float) -> Progress:
    """Erase runs of *source* that have outlived its retention, or whose purge was asked for, for at most *seconds*.

    Safe to repeat. Does nothing under a legal hold; raises `Busy` if one begins at the same moment.
    """
    if source.held_since:
        return Progress.DONE
    if source.purge is None:
        found = outlived(fleet.storage, source, now)
        if found:
            _ask(fleet, source, found[-1], "retention", FLEET)
    progress = _erase(fleet, source.id, seconds)
    if progress is Progress.DONE and outlived(fleet.storage, source, now):
        return Progress.MORE
    return progress


def is_recorded(storage: Storage, source: Source) -> bool:
    """Whether the record of the purge that *source* waits for is stored."""
    return source.purge is not None and Purged(storage, source.id).erased(source.purge.through)


def outlived(storage: Storage, source: Source, now: datetime) -> list[str]:
    """Return the oldest runs that were sealed longer ago than the source's retention, at most `MOST_RUNS`.

    While the source is connected, its newest sealed run stays, because the next run continues from it. A run without a
    seal stays too, with all later ones, unless all runs go. Raises `StorageConflict` if the oldest run has no seal, or
    no manifest although it isn't the newest.
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
            return _sealed(storage, source.id, found)
        found.append(run)
    if source.state is SourceState.DISCONNECTED and not unsealed:
        return found
    over = found if source.state is SourceState.DISCONNECTED else found[:-1]
    if not over and unsealed and unsealed != purged.newest(unsealed):
        raise StorageConflict(
            f"Run {unsealed} of {source.id} has no manifest although later runs exist, so no later run "
            f"is erased: restore {manifest_key(source.id, unsealed)} from a copy of the storage, or move "
            f"{run_prefix(source.id, unsealed)} away if nobody needs it."
        )
    return _sealed(storage, source.id, over)


def _sealed(storage: Storage, source: str, runs: list[str]) -> list[str]:
    """Return the oldest of *runs*, up to the first that has no seal."""
    sealed = list(takewhile(lambda run: storage.get(seal_key(source, run)) is not None, runs))
    if runs and not sealed:
        raise StorageConflict(
            f"Run {runs[0]} of {source} has no seal, so its retention erases neither this run nor later ones: restore "
            f"the run from a copy of the storage if `pagetrail verify {source}` names a difference, or pause the "
            f"source and erase all of its runs with `pagetrail source purge {source}`."
        )
    return sealed


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


def _ask(fleet: Runtime, source: Source, through: str, why: str, by: str) -> None:
    """Note in the source's document that its runs up to *through* are to be erased, and tell the signer.

    An earlier wish for the same runs stays. Raises `Busy` if the document changed: a legal hold may have begun.
    """
    key = record_key(source.id, through)
    if fleet.storage.get(key) is not None and not Purged(fleet.storage, source.id).erased(through):
        raise in_the_way(source.id, key)
    if source.purge is None or source.purge.through < through:
        wish = PurgeWish(through=through, why=why, by=by, at=_now())
        with fleet.sources.alone(source.id):
            fleet.sources.save(replace(source, purge=wish))
    fleet.troubles.forget(source.id, PURGE)  # the signer tries again
    await_record(fleet, source.id)


def await_record(fleet: Runtime, source: str) -> None:
    """Let the tick tell the signer about the purge of *source*, and the daily look see to it until it is finished."""
    fleet.unsealed.add(source, RECORD)
    fleet.daily.within(source, LATER_SECONDS)
    if wish := fleet.sources.fresh(source).purge:
        why: Why = "purge" if wish.why == "purge" else "retention"
        asked = PurgeAsked(why=why, by=wish.by, through=wish.through, at=wish.at)
        about = f"{wish.through}/{rfc3339(wish.at)}"
        fleet.events.emit(asked, source, about=about, quiet_seconds=DAY_SECONDS)


def _erase(fleet: Runtime, source: str, seconds: float = float("inf")) -> Progress:
    """Delete the objects of runs whose erasure was asked for and is recorded, and late objects of erased runs.

    A record counts only with a signature of the signer's. Without its public keys the fleet waits for it.
    """
    deadline, storage = time.monotonic() + seconds, fleet.storage
    wish, keys = fleet.sources.fresh(source).purge, _known_keys(fleet)
    purged = Purged(storage, source, keys)
    if keys is None and not (wish or purged.names):
        return Progress.DONE
    if keys is None or (wish and not purged.erased(wish.through)):
        await_record(fleet, source)
        return Progress.WAITS
    last = wish.through if wish else purged.finished_through
    with ThreadPoolExecutor(_ERASERS) as erasers:
        for run in (run for run in purged.left if run <= last):
            keys_left = (stored.key for stored in storage.list(run_prefix(source, run)))
            while batch := list(islice(keys_left, _BATCH)):
                if time.monotonic() >= deadline:
                    return Progress.MORE
                if fleet.sources.fresh(source).held_since:
                    raise changed(source)
                # The plan goes first: without a plan, the other objects don't count as a run.
                storage.delete(plan_key(source, run))
                list(erasers.map(storage.delete, batch))
    if wish:
        _end(fleet, source, wish, purged)
    return Progress.DONE


def _known_keys(fleet: Runtime) -> PublicKeys | None:
    """Return the public keys that the signer told the fleet; None if it has to tell them again."""
    document = fleet.seal_keys.known()
    with suppress(ValueError):
        return PublicKeys.from_json(document) if document else None
    return None


def _end(fleet: Runtime, source: str, wish: PurgeWish, purged: Purged) -> None:
    """Say that the runs of a purge are gone, and take the purge out of the source's document."""
    for record in purged.unfinished():
        _finish(fleet, record)
    now = fleet.sources.fresh(source)
    if now.purge == wish:
        fleet.sources.save(replace(now, purge=None))


def _finish(fleet: Runtime, record: StoredErasure) -> None:
    """Say that every run in *record* is gone: in an event, then in an object in storage."""
    source = record.source
    if next(Purged(fleet.storage, source).oldest_kept(), None) is None:
        fleet.ledger.forget(source)
        fleet.troubles.forget(source, "run", "retention", PURGE)
    erased = EvidenceErased(
        why=record.why,
        by=record.by,
        through=record.through,
        runs=tuple(each.run for each in record.runs),
        objects=record.objects,
        bytes=record.bytes,
    )
    # A command and a worker may finish the same erasure.
    fleet.events.emit(erased, source, about=record.through, quiet_seconds=DAY_SECONDS)
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
    kept = source.state is not SourceState.DISCONNECTED or source.retention_months is not None
    return kept or source.purge is not None


def months_before(when: datetime, months: int) -> datetime:
    """Return the same time *months* calendar months earlier, or on the last day if that month is too short."""
    year, month = divmod(when.year * 12 + when.month - 1 - months, 12)
    day = min(when.day, monthrange(year, month + 1)[1])
    return when.replace(year=year, month=month + 1, day=day)
