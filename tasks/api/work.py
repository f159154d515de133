"""Start, cancel and list runs; read the state and the events of the fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tasks.api.lives import get
from tasks.evidence.compression import sha256
from tasks.evidence.layout import seal_key
from tasks.evidence.manifests import chosen_runs, read_manifest, read_plan, runs_of
from tasks.evidence.outcomes import RunOutcome, damaged_outcome, open_outcome, sealed_outcome
from tasks.reading.estimates import Estimate
from tasks.runs import messages
from tasks.runs.estimating import estimate as estimated
from tasks.runs.newest import newest_run
from tasks.runs.opening import Opened, collect_now, reopen
from tasks.watching.census import Census, census
from workers.errors import Fault, NotFound, StorageConflict
from workers.runtime import Runtime
from workers.state.events import START, Event
from workers.storage.registry import Source

_READERS = 8


def status(fleet: Runtime, chosen: Iterable[Source] | None = None) -> Census:
    """Return the present state of the fleet and the *chosen* sources (default: all), in a few round trips to Redis."""
    return census(fleet, fleet.sources.list() if chosen is None else chosen)


def events(fleet: Runtime, after: str = START, *, follow: bool = False) -> Iterator[Event]:
    """Yield the events after a position (default: all events that are kept), oldest first; *follow* waits for more.

    Each event comes at least once, and a repeat has the same `id`. Keep the `position` of the last event that you dealt
    with, and the ids of the last day. docs/events.md lists every kind. Raises `RedisUnreachable`.
    """
    return fleet.events.read(after, follow=follow)


def collect(fleet: Runtime, source_id: str) -> Opened:
    """Start a run now, or join the open run. The fleet carries it out. Raises `Busy` unless the source is active."""
    return collect_now(fleet, get(fleet, source_id))


def estimate(fleet: Runtime, source_id: str) -> Estimate:
    """Return how many requests a run would send if it began now.

    Asks each list for its length: one GET per list and window, under the limiter. Raises `Busy` if `collect` would
    not open a run, and `KeyRefused`.
    """
    return estimated(fleet, get(fleet, source_id))


def cancel(fleet: Runtime, source_id: str, run: str | None = None) -> str:
    """End the open run and return its id. The pages it has are sealed as cancelled. Safe to repeat until then."""
    source = get(fleet, source_id)
    chosen = _chosen(fleet, source_id, run)
    if read_manifest(fleet.storage, source_id, chosen):
        raise Fault(f"Run {chosen} of {source_id} is sealed: there is nothing to cancel.")
    reopen(fleet, source, chosen)  # Redis may have lost it
    messages.publish(fleet, source_id, chosen, fleet.ledger.cancel(source_id, chosen))
    return chosen


def runs(fleet: Runtime, source_id: str) -> list[RunOutcome]:
    """Return the runs of a source, oldest first; the last may be open, and any may be damaged."""
    get(fleet, source_id)
    with ThreadPoolExecutor(_READERS) as readers:
        found = runs_of(fleet.storage, source_id)
        return list(readers.map(lambda run: _listed(fleet, source_id, run), found))


def run(fleet: Runtime, source_id: str, run: str | None = None) -> RunOutcome:
    """Return one run of a source (default: the newest); `NotFound` if there isn't one."""
    get(fleet, source_id)
    return _outcome(fleet, source_id, _chosen(fleet, source_id, run))


def _chosen(fleet: Runtime, source_id: str, run: str | None) -> str:
    newest = "" if run else newest_run(fleet, source_id)
    found = [newest] if newest else chosen_runs(fleet.storage, source_id, run)
    if not found:
        raise NotFound(f"{source_id} has no run: `pagetrail collect {source_id}` starts one.")
    return found[-1]


def _listed(fleet: Runtime, source_id: str, run: str) -> RunOutcome:
    try:
        return _outcome(fleet, source_id, run)
    except StorageConflict:  # a damaged manifest must not hide the other runs
        return damaged_outcome(read_plan(fleet.storage, source_id, run))


def _outcome(fleet: Runtime, source_id: str, run: str) -> RunOutcome:
    if manifest := read_manifest(fleet.storage, source_id, run):
        seal = fleet.storage.get(seal_key(source_id, run))
        return sealed_outcome(manifest, sha256(seal) if seal is not None else None)
    plan = read_plan(fleet.storage, source_id, run)
    return open_outcome(plan, fleet.ledger.progress(source_id).requests)
