"""The metrics of sources, runs and credentials: their names, and pure functions that count.

docs/metrics.md lists every metric. Only a few sources and credentials are named: the most overdue sources, and
the credentials with the least budget left. So the number of series doesn't grow with the fleet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import NamedTuple

from tasks.reading.sealed import Manifest
from tasks.watching.activity import WAITS, Activity, Doing, waits
from tasks.watching.concerns import is_refused, is_stale
from tasks.watching.last_runs import LastRun
from workers.process import metrics
from workers.state.limiter import BudgetState, budget_name
from workers.state.progress import Progress
from workers.storage.registry import Source, SourceState

MOST_EXAMINED = 1_000
"""Most sources that one reading looks at, of those with an open or due run."""
NAMED_SOURCES, NAMED_CREDENTIALS = 10, 20

BUSY = (
    Activity.READING,
    Activity.BUDGET,
    Activity.WORKER,
    Activity.PAGERDUTY,
    Activity.STUCK,
    Activity.SUSPENDED,
    Activity.SEALING,
)
PAGE_STATES = ("ready", "later", "offered", "claimed")
RUN_STATES = ("complete", "partial", "failed", "cancelled")

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "redis_up": ("1 if beat could read the fleet's metrics from Redis.", ()),
    "redis_memory_bytes": ("Memory that Redis uses.", ()),
    "redis_memory_limit_bytes": ("Redis's maxmemory, or else its machine's memory.", ()),
    "fleet_paused": ("1 while all requests of the fleet are paused.", ()),
    "tick_age_seconds": ("Time since a worker last did beat's tick.", ()),
    "queue_messages": ("Messages that wait in a queue.", ("queue",)),
    "queue_workers": ("Workers that take messages from a queue.", ("queue",)),
    "unacked_messages": ("Messages that workers hold.", ()),
    "unacked_oldest_seconds": ("Age of the oldest message that a worker holds.", ()),
    "sources": ("Sources by state: active, paused or disconnected.", ("state",)),
    "sources_last_run": ("Sources by how their last run ended.", ("state",)),
    "troubles": ("Things that the fleet can't do for a source until a person helps.", ()),
    "sources_stale": ("Active sources whose last manifest is overdue.", ()),
    "source_latest_seconds": (
        "By how much the most overdue source is late; 0 if every source is on time.",
        (),
    ),
    "source_late_seconds": (
        f"By how much a stale source is late: the {NAMED_SOURCES} most overdue.",
        ("source",),
    ),
    "runs_unsealed": ("Runs that have ended and have no seal yet.", ()),
    "unsealed_oldest_seconds": (
        "Time since the oldest run without a seal ended; 0 if every run is sealed.",
        (),
    ),
    "purges_waiting": ("Sources whose purge was asked for and isn't finished.", ()),
    "purge_oldest_seconds": ("Age of the oldest purge that isn't finished; 0 without one.", ()),
    "keys_to_rotate": ("API keys older than PAGETRAIL_KEY_MAX_AGE_DAYS.", ()),
    "key_oldest_seconds": ("Age of the oldest API key.", ()),
    "keys_refused": ("Sources whose key PagerDuty refuses.", ()),
    "sources_doing": ("Sources with a run that is open or due, by activity.", ("activity",)),
    "doing_longest_seconds": ("Longest time that a source has been in an activity.", ("activity",)),
    "sources_unexamined": (f"1 if more than {MOST_EXAMINED} sources had something to do.", ()),
    "runs_open": ("Open runs.", ()),
    "pages_open": ("Pages of open runs.", ("state",)),
    "pages_waiting": ("Pages of open runs that wait, by activity.", ("activity",)),
    "budgets": ("Credentials of open runs.", ()),
    "budgets_exhausted": ("Credentials of open runs that may send nothing now.", ()),
    "budget_used": (
        f"Requests sent in the last minute: the {NAMED_CREDENTIALS} credentials with the least left.",
        ("credential",),
    ),
    "budget_left": ("Requests that may still be sent in this minute.", ("credential",)),
    "reading_seconds": ("Time that it took to read these metrics.", ()),
}

Values = dict[tuple[str, ...], float]
"""Label values -> number."""
GaugeValues = dict[str, Values]
"""Name of a gauge -> its values."""

runs = metrics.counter("pagetrail_runs", "Runs sealed, by how they ended.", "state")
for _state in RUN_STATES:
    runs(_state)  # shown as 0 before the first run, so that Prometheus sees an increase
run_seconds = metrics.histogram(
    "pagetrail_run_seconds",
    "Durations of sealed runs, from plan to manifest.",
    "state",
    buckets=(10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)
resources = metrics.counter(
    "pagetrail_run_resources", "Resources of sealed runs, by how they ended.", "state", "reason"
)


def count_run(manifest: Manifest) -> None:
    """Count a run that this worker sealed."""
    state = manifest.state
    runs(state).inc()
    took = manifest.sealed_at - manifest.opened_at
    run_seconds(state).observe(took.total_seconds())
    for each in manifest.resources.values():
        resources(each.state, each.reason).inc()


class Known(NamedTuple):
    """The facts about a source that are kept until the registry is read again."""

    state: SourceState
    budget: str
    reserve: float
    keyed_at: float | None  # None: the key was destroyed
    every_seconds: float | None  # None: no run is expected
    sealed_at: float  # when its last run was sealed, or else when it was connected
    last_state: str
    refused: bool
    purge_at: float | None = None  # when a purge was asked for that isn't finished


def known(source: Source, last: LastRun | None) -> Known:
    """Return the facts to keep about *source* and its last run."""
    sealed_at = last.sealed_at if last else source.connected_at
    return Known(
        source.state,
        budget_name(source.region, source.fingerprint),
        source.reserve,
        source.keyed_at.timestamp() if source.sealed_key else None,
        source.every_seconds if source.state is SourceState.ACTIVE else None,
        sealed_at.timestamp(),
        last.state if last else "",
        last is not None and is_refused(source, last),
        source.purge.at.timestamp() if source.purge else None,
    )


def registry_vitals(
    sources: Mapping[str, Known], now: float, key_max_seconds: float
) -> GaugeValues:
    """Return the gauges that need only the registry and the last manifests."""
    late = {
        name: now - each.sealed_at - each.every_seconds
        for name, each in sources.items()
        if each.every_seconds is not None
    }
    stale = {
        name: seconds
        for name, seconds in late.items()
        if is_stale(seconds, sources[name].every_seconds or 0.0)
    }
    purges = [now - each.purge_at for each in sources.values() if each.purge_at is not None]
    ages = [now - each.keyed_at for each in sources.values() if each.keyed_at is not None]
    return {
        "sources": _counts(SourceState, (each.state for each in sources.values())),
        "sources_last_run": _counts(RUN_STATES, (each.last_state for each in sources.values())),
        "sources_stale": one(len(stale)),
        "source_latest_seconds": one(max([0.0, *late.values()])),
        "source_late_seconds": {
            (name,): stale[name] for name in nlargest(NAMED_SOURCES, stale, key=stale.__getitem__)
        },
        "purges_waiting": one(len(purges)),
        "purge_oldest_seconds": one(max(purges, default=0.0)),
        "keys_to_rotate": one(sum(age >= key_max_seconds for age in ages)),
        "key_oldest_seconds": one(max(ages, default=0.0)),
    }


def doing_vitals(found: Iterable[tuple[Doing, Progress]]) -> GaugeValues:
    """Return the gauges of activities, open pages and waits, from the sources' progress."""
    pairs = list(found)
    longest = dict.fromkeys(BUSY, 0.0)
    pages: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for now, progress in pairs:
        if now.activity in longest:
            longest[now.activity] = max(longest[now.activity], now.seconds or 0.0)
        if progress.run:
            pages.update({state: getattr(progress, state) for state in PAGE_STATES})
            waiting.update({each: wait.pages for each, wait in waits(progress).items()})
    return {
        "sources_doing": _counts(BUSY, (now.activity for now, _ in pairs)),
        "doing_longest_seconds": {(str(each),): seconds for each, seconds in longest.items()},
        "runs_open": one(sum(bool(progress.run) for _, progress in pairs)),
        "pages_open": {(state,): pages[state] for state in PAGE_STATES},
        "pages_waiting": {(str(each),): waiting[each] for each in WAITS},
    }


def budget_vitals(budgets: Mapping[str, BudgetState]) -> GaugeValues:
    """Return the gauges of the budgets in use; those with the least left are named."""
    left = {name: max(0, each.ceiling - each.used) for name, each in budgets.items()}
    spent = [name for name, each in budgets.items() if not left[name] or each.paused_seconds]
    named = sorted(budgets, key=lambda name: (left[name], name))[:NAMED_CREDENTIALS]
    return {
        "budgets": one(len(budgets)),
        "budgets_exhausted": one(len(spent)),
        "budget_used": {(name,): budgets[name].used for name in named},
        "budget_left": {(name,): left[name] for name in named},
    }


def one(value: float) -> Values:
    """Return the values of a metric without labels."""
    return {(): float(value)}


def _counts(names: Iterable[str], found: Iterable[str]) -> Values:
    """Return how often each of *names* was found. Zeros are included, so that no series disappears."""
    counted = Counter(map(str, found))
    return {(str(name),): counted[str(name)] for name in names}
