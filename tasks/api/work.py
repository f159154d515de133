"""Start, cancel and list runs; read the state and the events of the fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.api.evidence import outcome_of, stored_runs
from tasks.api.lives import get
from tasks.evidence.manifests import chosen_runs, no_run, read_manifest
from tasks.evidence.outcomes import RunOutcome, with_requests
from tasks.reading.estimates import Estimate
from tasks.runs import messages
from tasks.runs.estimating import estimate as estimated
from tasks.runs.newest import newest_run
from tasks.runs.opening import Opened, collect_now, reopen
from tasks.watching.census import Census, census
from workers.errors import Fault
from workers.runtime import Runtime
from workers.state.events import START, Event
from workers.storage.registry import Source


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
    return [_counted(fleet, source_id, each) for each in stored_runs(fleet.storage, source_id)]


def run(fleet: Runtime, source_id: str, run: str | None = None) -> RunOutcome:
    """Return one run of a source (default: the newest); `NotFound` if there isn't one."""
    get(fleet, source_id)
    chosen = _chosen(fleet, source_id, run)
    return _counted(fleet, source_id, outcome_of(fleet.storage, source_id, chosen))


def _chosen(fleet: Runtime, source_id: str, run: str | None) -> str:
    newest = "" if run else newest_run(fleet, source_id)
    found = [newest] if newest else chosen_runs(fleet.storage, source_id, run)
    if not found:
        raise no_run(fleet.storage, source_id)
    return found[-1]


def _counted(fleet: Runtime, source_id: str, run: RunOutcome) -> RunOutcome:
    """Return a run; if it is open, with the requests that were sent so far."""
    if run.state != "open":
        return run
    return with_requests(run, fleet.ledger.progress(source_id).requests)
