"""What operators watch of the whole fleet: read from Redis when beat is asked; and of runs, where they are sealed.

docs/metrics.md lists every metric. A reading is a few round trips, whatever the number of sources, and is good for
ten seconds; the registry is walked once a minute. Only the worst few sources and the busiest few credentials are
named: the number of series grows with neither.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import Any, NamedTuple

import orjson
import redis
from celery import signals
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.activity import Activity, Doing, doing, waits
from tasks.windows import moment
from workers import metrics
from workers.app import QUEUES
from workers.errors import Fault
from workers.ledger import Ledger
from workers.limiter import BudgetState, Limiter, budget_name
from workers.roster import Roster
from workers.settings import Settings, load_settings
from workers.sources import Source, State, every_source

log = logging.getLogger("pagetrail.vitals")

FRESH_SECONDS = 10.0
REGISTRY_SECONDS = 60.0
ANSWER_SECONDS = 3.0
"""Prometheus gives up after 10 s by itself."""
MOST_EXAMINED = 1_000
"""Sources looked at per reading: a run that is open or due, not the registry."""
NAMED_SOURCES, NAMED_CREDENTIALS = 10, 20
STALE_SHARE, STALE_SECONDS = 0.25, 900.0
"""A source is stale when it is late by a quarter of its interval and a quarter of an hour."""

BUSY = (
    Activity.READING,
    Activity.BUDGET,
    Activity.WORKER,
    Activity.PAGERDUTY,
    Activity.STUCK,
    Activity.SUSPENDED,
    Activity.SEALING,
)
WAITS = (Activity.BUDGET, Activity.WORKER, Activity.PAGERDUTY)
PAGE_STATES = ("ready", "later", "offered", "claimed")
RUN_STATES = ("complete", "partial", "failed", "cancelled")

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "redis_up": ("1 if beat could read what follows from Redis.", ()),
    "redis_memory_bytes": ("Memory that Redis uses.", ()),
    "redis_memory_limit_bytes": ("Redis's maxmemory, or else its machine's memory.", ()),
    "fleet_paused": ("1 while all requests of the fleet are paused.", ()),
    "tick_age_seconds": ("Time since a worker last did beat's tick.", ()),
    "queue_messages": ("Messages that wait in a queue.", ("queue",)),
    "queue_workers": ("Workers that take messages from a queue.", ("queue",)),
    "unacked_messages": ("Messages that workers hold.", ()),
    "unacked_oldest_seconds": ("Age of the oldest of them.", ()),
    "sources": ("Connected sources by what they are allowed to do.", ("state",)),
    "sources_last_run": ("Sources by how their last run ended.", ("state",)),
    "sources_stale": ("Active sources whose last manifest is overdue.", ()),
    "source_latest_seconds": ("By how much the latest source is late; 0 if none is.", ()),
    "source_late_seconds": (
        f"By how much a stale source is late: the {NAMED_SOURCES} latest.",
        ("source",),
    ),
    "keys_to_rotate": ("API keys older than PAGETRAIL_KEY_MAX_AGE_DAYS.", ()),
    "key_oldest_seconds": ("Age of the oldest API key.", ()),
    "keys_refused": ("Sources whose key PagerDuty refuses.", ()),
    "sources_doing": ("Sources with a run that is open or due, by what they do.", ("activity",)),
    "doing_longest_seconds": ("For how long the first of them has done that.", ("activity",)),
    "sources_unexamined": (f"1 if more than {MOST_EXAMINED} sources had something to do.", ()),
    "runs_open": ("Open runs.", ()),
    "pages_open": ("Pages of open runs.", ("state",)),
    "pages_waiting": ("Pages of open runs by what they wait for.", ("activity",)),
    "budgets": ("Credentials of open runs.", ()),
    "budgets_exhausted": ("Those that may send nothing now.", ()),
    "budget_used": (
        f"Requests sent in the last minute: the {NAMED_CREDENTIALS} credentials with the least left.",
        ("credential",),
    ),
    "budget_left": ("Requests that may still be sent in this minute.", ("credential",)),
    "reading_seconds": ("Time that reading all this took.", ()),
}

Values = dict[tuple[str, ...], float]
Reading = dict[str, Values]

runs = metrics.counter("pagetrail_runs", "Runs sealed, by how they ended.", "state")
for _state in RUN_STATES:
    runs(_state)  # shown before the first, so that it is an increase
run_seconds = metrics.histogram(
    "pagetrail_run_seconds",
    "Durations of sealed runs, from plan to manifest.",
    "state",
    buckets=(10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)
resources = metrics.counter(
    "pagetrail_run_resources", "Resources of sealed runs, by how they ended.", "state", "reason"
)


def count_run(manifest: Mapping[str, Any]) -> None:
    """Count a run that this worker sealed."""
    state = manifest["state"]
    runs(state).inc()
    took = moment(manifest["sealed_at"]) - moment(manifest["opened_at"])
    run_seconds(state).observe(took.total_seconds())
    for entry in manifest["resources"].values():
        resources(entry["state"], entry["reason"]).inc()


class Known(NamedTuple):
    """What is remembered of a source between two walks through the registry."""

    state: State
    budget: str
    reserve: float
    keyed_at: float | None  # None: its key is destroyed
    every_seconds: float | None  # None: nothing is expected of it
    sealed_at: float  # its last manifest, or its connection before there is one
    last_state: str
    refused: bool


def known(source: Source, last: Mapping[str, Any]) -> Known:
    """Return what is remembered of *source*, whose last run ended with the summary *last*."""
    sealed_at = moment(last["sealed_at"]) if last else source.connected_at
    return Known(
        source.state,
        budget_name(source.region, source.fingerprint),
        source.reserve,
        source.keyed_at.timestamp() if source.sealed_key else None,
        source.every_seconds if source.state is State.ACTIVE else None,
        sealed_at.timestamp(),
        last.get("state", ""),
        last.get("ended") == "refused" and source.keyed_at < sealed_at,
    )


def registry_vitals(sources: Mapping[str, Known], now: float, key_max_seconds: float) -> Reading:
    """Return what follows from the registry and the last manifests alone."""
    late = {
        name: now - each.sealed_at - each.every_seconds
        for name, each in sources.items()
        if each.every_seconds is not None
    }
    stale = {
        name: seconds
        for name, seconds in late.items()
        if seconds > (sources[name].every_seconds or 0) * STALE_SHARE + STALE_SECONDS
    }
    ages = [now - each.keyed_at for each in sources.values() if each.keyed_at is not None]
    return {
        "sources": _counts(State, (each.state for each in sources.values())),
        "sources_last_run": _counts(RUN_STATES, (each.last_state for each in sources.values())),
        "sources_stale": _one(len(stale)),
        "source_latest_seconds": _one(max([0.0, *late.values()])),
        "source_late_seconds": {
            (name,): stale[name] for name in nlargest(NAMED_SOURCES, stale, key=stale.__getitem__)
        },
        "keys_to_rotate": _one(sum(age >= key_max_seconds for age in ages)),
        "key_oldest_seconds": _one(max(ages, default=0.0)),
    }


def doing_vitals(found: Iterable[tuple[Doing, Mapping[str, Any]]]) -> Reading:
    """Return what sources are doing, and for how long, from their progress."""
    pairs = list(found)
    longest = dict.fromkeys(BUSY, 0.0)
    pages: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for now, progress in pairs:
        if now.activity in longest:
            longest[now.activity] = max(longest[now.activity], now.seconds or 0.0)
        if "run" in progress:
            pages.update({state: progress[state] for state in PAGE_STATES})
            waiting.update({each: wait.pages for each, wait in waits(progress).items()})
    return {
        "sources_doing": _counts(BUSY, (now.activity for now, _ in pairs)),
        "doing_longest_seconds": {(str(each),): seconds for each, seconds in longest.items()},
        "runs_open": _one(sum("run" in progress for _, progress in pairs)),
        "pages_open": {(state,): pages[state] for state in PAGE_STATES},
        "pages_waiting": {(str(each),): waiting[each] for each in WAITS},
    }


def budget_vitals(budgets: Mapping[str, BudgetState]) -> Reading:
    """Return how much of the budgets in use is left, and of which the least is."""
    left = {name: max(0, each.ceiling - each.used) for name, each in budgets.items()}
    spent = [name for name, each in budgets.items() if not left[name] or each.paused_seconds]
    named = sorted(budgets, key=lambda name: (left[name], name))[:NAMED_CREDENTIALS]
    return {
        "budgets": _one(len(budgets)),
        "budgets_exhausted": _one(len(spent)),
        "budget_used": {(name,): budgets[name].used for name in named},
        "budget_left": {(name,): left[name] for name in named},
    }


class Vitals(Collector):
    """Reads when it is asked, but not again within ten seconds; says so if Redis does not answer."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._ledger = Ledger(client, settings.key_prefix)
        self._limiter = Limiter(client, settings.key_prefix)
        self._lock = threading.Lock()
        self._read_at = self._walked_at = float("-inf")
        self._reading: Reading = {}
        self._known: dict[str, Known] = {}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name nothing: so registering reads nothing."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the last reading, made anew if it is old."""
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._reading = self.read()
                self._read_at = time.monotonic()
            reading = self._reading
        for name, (meaning, labels) in GAUGES.items():
            if name in reading:
                family = GaugeMetricFamily(f"pagetrail_{name}", meaning, labels=labels)
                for values, number in reading[name].items():
                    family.add_metric(values, number)
                yield family

    def read(self) -> Reading:
        """Return every gauge as it is now, or that Redis does not answer."""
        begun = time.perf_counter()
        try:
            server = self._server()
            queues = {queue: int(count) for (queue,), count in server["queue_messages"].items()}
            reading = server | self._registry() | self._runs(queues)
        except (Fault, redis.RedisError) as error:
            log.warning("no vitals: Redis does not answer (%s)", type(error).__name__)
            return {"redis_up": _one(0)}
        except Exception:  # what beat knows by itself is shown nevertheless
            log.exception("no vitals: what Redis holds can't be read")
            return {"redis_up": _one(0)}
        return reading | {
            "redis_up": _one(1),
            "reading_seconds": _one(time.perf_counter() - begun),
        }

    def _server(self) -> Reading:
        """Return what Redis and its queues hold."""
        prefix = self._settings.key_prefix
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.info("memory")
            pipe.get(f"{prefix}:paused")
            pipe.hlen(f"{prefix}:unacked")
            pipe.zrange(f"{prefix}:unacked_index", 0, 0, withscores=True)
            for queue in QUEUES:
                pipe.llen(f"{prefix}:{queue}")
            (now, _), memory, paused, unacked, oldest, *lengths = pipe.execute()
        workers = Counter(
            queue for queues in Roster(self._redis, prefix).workers().values() for queue in queues
        )
        limit = memory.get("maxmemory") or memory.get("total_system_memory", 0)
        return {
            "redis_memory_bytes": _one(memory["used_memory"]),
            "redis_memory_limit_bytes": _one(limit),
            "fleet_paused": _one(paused == b"1"),
            "queue_messages": {(q,): n for q, n in zip(QUEUES, lengths, strict=True)},
            "queue_workers": {(q,): workers[q] for q in QUEUES},
            "unacked_messages": _one(unacked),
            "unacked_oldest_seconds": _one(max(0.0, now - oldest[0][1]) if oldest else 0.0),
        }

    def _registry(self) -> Reading:
        """Return what the registry and the last runs say, the former as it was within a minute."""
        clock = self._ledger.time()
        if time.monotonic() - self._walked_at >= REGISTRY_SECONDS:
            self._known = self._walk()
            self._walked_at = time.monotonic()
        age_seconds = self._settings.key_max_age_days * 86_400.0
        reading = registry_vitals(self._known, clock.now_ms / 1000, age_seconds)
        if clock.tick_ms is not None:
            reading["tick_age_seconds"] = _one(max(0, clock.now_ms - clock.tick_ms) / 1000)
        return reading

    def _walk(self) -> dict[str, Known]:
        """Return every source in the registry, a few hundred at a time."""
        found: dict[str, Known] = {}
        for batch in every_source(self._redis, self._settings.key_prefix):
            lasts = self._ledger.lasts([source.id for source in batch])
            for source, last in zip(batch, lasts, strict=True):
                found[source.id] = known(source, orjson.loads(last) if last else {})
        return found

    def _runs(self, queues: Mapping[str, int]) -> Reading:
        """Return what the sources do that have a run open or due, and the state of their budgets."""
        within = self._settings.probe_max_seconds + 60.0  # the longest rest of an open run
        names = self._ledger.near(within, MOST_EXAMINED + 1)
        examined = [name for name in names[:MOST_EXAMINED] if name in self._known]
        progresses = self._ledger.progresses(examined)
        lease = self._settings.page_lease_seconds
        found = {
            name: (doing(self._known[name].state, progress, queues, lease), progress)
            for name, progress in zip(examined, progresses, strict=True)
        }
        suspended = {n for n, (now, _) in found.items() if now.activity is Activity.SUSPENDED}
        refused = {name for name, each in self._known.items() if each.refused}
        return {
            **doing_vitals(found.values()),
            **budget_vitals(self._budgets(n for n, (_, p) in found.items() if p["pages"])),
            "sources_unexamined": _one(len(names) > MOST_EXAMINED),
            "keys_refused": _one(len(suspended | refused)),
        }

    def _budgets(self, reading: Iterable[str]) -> dict[str, BudgetState]:
        """Return the budgets of sources that have pages to read."""
        reserves: dict[str, float] = {}
        wanted = {self._known[name].budget for name in reading}
        for each in self._known.values():
            if each.budget in wanted and each.keyed_at is not None:
                reserves[each.budget] = max(each.reserve, reserves.get(each.budget, 0.0))
        states = self._limiter.states(reserves.items())
        return dict(zip(reserves, states, strict=True))


def watch() -> None:
    """Have beat show this, where it shows metrics at all."""

    @signals.beat_init.connect(weak=False)
    def register(**_: Any) -> None:
        settings = load_settings()
        if settings.metrics_port is not None:
            client = redis.Redis.from_url(
                settings.redis_url_or_embedded(),
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),  # the next scrape is the retry
            )
            metrics.BEAT.register(Vitals(client, settings))


def _one(value: float) -> Values:
    return {(): float(value)}


def _counts(names: Iterable[str], found: Iterable[str]) -> Values:
    """Return how often each of *names* was found, zeros included, so that no series comes and goes."""
    counted = Counter(map(str, found))
    return {(str(name),): counted[str(name)] for name in names}


watch()
