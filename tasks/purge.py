"""Erase evidence: all of a source because somebody asked, or the runs that have outlived its retention."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from tasks import purges
from tasks.artifacts import run_prefix
from tasks.manifests import digest, read_manifest, read_plan, runs_of
from tasks.purges import Purge, purge_of
from tasks.windows import moment, rfc3339
from workers.app import celery
from workers.errors import Busy, Fault, StorageConflict
from workers.events import DAY_SECONDS
from workers.runtime import Runtime, runtime
from workers.sources import Source, State, changed
from workers.storage import Storage

log = logging.getLogger("pagetrail.purge")

STEP_SECONDS = 15.0
"""A look ends well before its message would be delivered to another worker too."""
MOST_RUNS = 50
"""Runs that one look takes: each is read and listed before any is erased."""
LATER_SECONDS = 600.0
"""When to look again at a source that is being changed, or whose run is open."""
FLEET = "fleet"
_ERASERS, _BATCH = 8, 400


@celery.task(name="tasks.purge.look_after")
def look_after(source: str) -> None:
    """Give a source its daily look: tell of an old key, erase what has outlived its retention unless a run is open."""
    fleet = runtime()
    found = fleet.sources.fresh(source)
    _remind(fleet, found, datetime.now(UTC))
    try:
        with fleet.troubles.noted(source, "retention"):
            if is_open(fleet, source, runs_of(fleet.storage, source)):
                fleet.daily.within(source, LATER_SECONDS)
            elif not expire(fleet, found, datetime.now(UTC), STEP_SECONDS):
                fleet.daily.within(source, 0)
            elif not purges.wants_look(found):
                fleet.daily.end(source)
    except Busy:  # it was changed at this very moment
        fleet.daily.within(source, LATER_SECONDS)


def _remind(fleet: Runtime, source: Source, now: datetime) -> None:
    days, most = (now - source.keyed_at).days, fleet.settings.key_max_age_days
    if source.sealed_key is not None and days >= most:
        fleet.events.emit(
            "key.rotation_due",
            source.id,
            None,
            {
                "fingerprint": source.fingerprint,
                "key_age_days": days,
                "key_max_age_days": most,
            },
            about=f"{now:%Y-%m-%d}",
            quiet_seconds=DAY_SECONDS,
        )


def purge(fleet: Runtime, source_id: str, by: str) -> Purge | None:
    """Erase all evidence of a source; return the record of it, None if there never was any.

    See `tasks.api.purge`.
    """
    source, found = erasable(fleet, source_id)
    if found:
        _record(fleet, source, found, "purge", by)
    _erase(fleet, source_id)
    through = purges.purged_through(fleet.storage, source_id)
    record = purges.record_naming(fleet.storage, source_id, through) if through else None
    return purge_of(record) if record else None


def expire(fleet: Runtime, source: Source, now: datetime, seconds: float) -> bool:
    """Erase runs of *source* that have outlived its retention; False if more are left, or *seconds* weren't enough.

    Safe to repeat. A legal hold stops it, `Busy` one that came at this very moment.
    """
    if source.held_since:
        return True
    found = outlived(fleet.storage, source, now)
    if found:
        _record(fleet, source, found, "retention", FLEET)
    return _erase(fleet, source.id, seconds) and len(found) < MOST_RUNS


def outlived(storage: Storage, source: Source, now: datetime) -> list[str]:
    """Return the oldest runs, some at a time, that were all sealed longer ago than the source's retention.

    The newest sealed run stays while the source is connected: the next one goes on from it.
    """
    if source.retention_months is None:
        return []
    edge = purges.months_before(now, source.retention_months)
    found: list[str] = []
    for run in runs_of(storage, source.id):
        manifest = read_manifest(storage, source.id, run)
        if manifest is None:
            break
        if moment(manifest["sealed_at"]) >= edge or len(found) == MOST_RUNS:
            return found
        found.append(run)
    return found if source.state is State.DISCONNECTED else found[:-1]


def sweep(fleet: Runtime, source_id: str, run: str) -> bool:
    """Whether *run* was erased: what a worker that was late has stored of it since goes at a look, which is due now."""
    erased = purges.purged_through(fleet.storage, source_id) >= run
    if erased:
        fleet.daily.within(source_id, 0)
    return erased


def is_open(fleet: Runtime, source_id: str, runs: list[str]) -> bool:
    """Whether a run of the source, or the last of *runs*, is open, by the ledger or, where it lost that, by storage."""
    if fleet.ledger.progress(source_id).get("run"):
        return True
    try:
        return bool(
            runs
            and read_manifest(fleet.storage, source_id, runs[-1]) is None
            and read_plan(fleet.storage, source_id, runs[-1])
        )
    except StorageConflict:
        return False  # nobody can go on with it


def erasable(fleet: Runtime, name: str) -> tuple[Source, list[str]]:
    """Return a source and all its runs; a `Fault` says why they may not be erased now."""
    source = fleet.sources.fresh(name)
    runs = runs_of(fleet.storage, name)  # what opens from now on is none of them
    if source.state is State.ACTIVE:
        raise Fault(
            f"{name} is active: `pagetrail source pause {name}` or `pagetrail source disconnect "
            f"{name}` first."
        )
    if source.held_since:
        raise Fault(
            f"{name} is under legal hold since {rfc3339(source.held_since)}: nothing was erased. "
            f"`pagetrail source release {name}` ends the hold."
        )
    if is_open(fleet, name, runs):
        raise Busy(
            f"The last run of {name} is not sealed yet: `pagetrail run cancel {name}` ends it; "
            "once the fleet has sealed it, purge again."
        )
    return source, runs


def _record(fleet: Runtime, source: Source, runs: list[str], why: str, by: str) -> None:
    """Store what is about to be erased and why; from then on these runs are no evidence any more."""
    entries = [_entry(fleet.storage, source.id, run) for run in runs]
    document = {
        "format": 1,
        "source": source.id,
        "through": runs[-1],
        "why": why,
        "retention_months": source.retention_months if why == "retention" else None,
        "by": by,
        "at": rfc3339(datetime.now(UTC)),
        "account": {"region": source.region, "subdomain": source.subdomain},
        "runs": entries,
        "objects": sum(entry["objects"] for entry in entries),
        "bytes": sum(entry["bytes"] for entry in entries),
    }
    text = orjson.dumps(document | {"sha256": digest(document)}, option=orjson.OPT_INDENT_2)
    with fleet.sources.alone(source.id):
        fleet.sources.save(source)  # `Busy` if it changed: it may be under legal hold by now
        key = purges.record_key(source.id, runs[-1])
        stored = fleet.storage.put_new(key, text)
        if stored and fleet.sources.fresh(source.id).held_since:
            # We were so slow that the lock ended: who was told that the hold holds shall find all of it.
            fleet.storage.delete(key)
            raise changed(source.id)


def _entry(storage: Storage, source: str, run: str) -> dict[str, Any]:
    sizes = [stored.size for stored in storage.list(run_prefix(source, run))]
    manifest: Mapping[str, Any] = {}
    try:
        manifest = read_manifest(storage, source, run) or {}
    except StorageConflict:
        log.warning("erased although it can't be read", extra={"source": source, "run": run})
    names = ("state", "period", "opened_at", "sealed_at")
    return {
        "run": run,
        **{name: manifest.get(name) for name in names},
        "manifest_sha256": manifest.get("sha256"),
        "objects": len(sizes),
        "bytes": sum(sizes),
    }


def _erase(fleet: Runtime, source: str, seconds: float = float("inf")) -> bool:
    """Delete whatever is stored of runs that were purged; False if *seconds* weren't enough."""
    began, storage = time.monotonic(), fleet.storage
    keys = _left(storage, source)
    with ThreadPoolExecutor(_ERASERS) as erasers:
        while batch := list(islice(keys, _BATCH)):
            if time.monotonic() - began > seconds:
                return False
            list(erasers.map(storage.delete, batch))
    for through in purges.unfinished(storage, source):
        _finish(fleet, source, through)
    return True


def _left(storage: Storage, source: str) -> Iterator[str]:
    through = purges.purged_through(storage, source)
    for run in storage.children(f"{source}/runs") if through else ():
        if run <= through:
            yield from (stored.key for stored in storage.list(run_prefix(source, run)))


def _finish(fleet: Runtime, source: str, through: str) -> None:
    """Tell, and store, that all is gone that the record names."""
    if not runs_of(fleet.storage, source):
        fleet.ledger.forget(source)
        fleet.troubles.forget(source, "run", "retention")
    record = purges.record_naming(fleet.storage, source, through)
    if record:
        names = ("why", "by", "through", "objects", "bytes")
        told = {name: record[name] for name in names} | {"runs": list(purge_of(record).runs)}
        fleet.events.emit("evidence.erased", source, None, told, about=through)
    document = {
        "format": 1,
        "source": source,
        "through": through,
        "record_sha256": record["sha256"] if record else None,
        "finished_at": rfc3339(datetime.now(UTC)),
    }
    fleet.storage.put_new(
        purges.done_key(source, through), orjson.dumps(document, option=orjson.OPT_INDENT_2)
    )
    log.info("erased", extra={"source": source, "run": through})
