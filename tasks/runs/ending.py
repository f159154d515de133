"""End a run: list its digests, tell the ledger and the events, and set when the source is due next."""

from __future__ import annotations

from datetime import datetime

from tasks.evidence.layout import seal_key, sums_key
from tasks.evidence.manifests import read_stored
from tasks.evidence.sums import sums
from tasks.reading.plans import next_due
from tasks.reading.sealed import Manifest
from tasks.runs.events import RunEnded
from tasks.watching.last_runs import LastRun, read_last
from workers.errors import NotFound
from workers.runtime import Runtime
from workers.storage import Storage
from workers.storage.registry import Source, SourceState


def finish(fleet: Runtime, source: str, manifest: Manifest) -> None:
    """Tell the ledger and the events that a run ended with *manifest*, and set when the source is due next.

    The first one who tells it also stores the run's `SHA256SUMS`.
    """
    [kept] = fleet.ledger.lasts([source])
    before = read_last(kept)
    if before is None or before.run < manifest.run:
        list_digests(fleet.storage, source, manifest.run)
        fleet.events.emit(RunEnded.of(manifest), source, manifest.run)
        await_seal(fleet, manifest)
    summary = LastRun.of(manifest).to_json()
    fleet.ledger.finish(source, manifest.run, _next_ms(fleet, source, manifest), summary)


def list_digests(storage: Storage, source: str, run: str) -> None:
    """Store the `SHA256SUMS` of a run that has a manifest, unless it is there."""
    if found := read_stored(storage, source, run):
        storage.put_new(sums_key(source, run), sums(*found))


def await_seal(fleet: Runtime, manifest: Manifest) -> None:
    """Let the tick tell the signer about a run that ended, until it has its seal."""
    source, run = manifest.source, manifest.run
    if fleet.storage.get(seal_key(source, run)) is None:
        fleet.unsealed.add(source, run, manifest.sealed_at)


def _next_ms(fleet: Runtime, source_id: str, manifest: Manifest) -> int | None:
    try:
        source = fleet.sources.get(source_id)
    except NotFound:
        return None
    if source.state is SourceState.ACTIVE and manifest.continues:
        return fleet.ledger.time().now_ms
    return due_ms(source, manifest.scheduled_at)


def due_ms(source: Source, after: datetime) -> int | None:
    """Return when *source* is due next after *after*, in ms; None if it has no interval or is stopped."""
    due = next_due(source.id, source.connected_at, source.every_seconds, after)
    return int(due.timestamp() * 1000) if due and source.state is SourceState.ACTIVE else None
