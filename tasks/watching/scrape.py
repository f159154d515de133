"""Show the state of the whole fleet to Prometheus. Beat reads it from Redis when it is scraped.

A reading takes a few round trips, however many sources there are, and is used for ten seconds. The registry is read
once a minute. It needs only Redis, because beat doesn't have the vault keys.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import Redis

from tasks.watching.activity import Activity, doing
from tasks.watching.last_runs import read_last
from tasks.watching.vitals import (
    GAUGES,
    MOST_EXAMINED,
    GaugeValues,
    Known,
    budget_vitals,
    doing_vitals,
    known,
    one,
    registry_vitals,
)
from workers.errors import Fault
from workers.process import metrics
from workers.settings.environment import Settings
from workers.state.client import impatient, memory
from workers.state.ledger import Ledger
from workers.state.limiter import BudgetState, Limiter
from workers.state.roster import QUEUES, Roster
from workers.state.sources import every_source

log = logging.getLogger("pagetrail.scrape")

FRESH_SECONDS = 10.0
REGISTRY_SECONDS = 60.0
ANSWER_SECONDS = 3.0
"""How long Redis may take to answer. Prometheus itself gives up after 10 s."""


class Vitals(Collector):
    """The gauges of the fleet: read at most every ten seconds; `redis_up` is 0 if Redis does not answer."""

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._ledger = Ledger(client, settings.key_prefix)
        self._limiter = Limiter(client, settings.key_prefix)
        self._lock = threading.Lock()
        self._read_at = self._walked_at = float("-inf")
        self._reading: GaugeValues = {}
        self._known: dict[str, Known] = {}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return no names. Otherwise the library would call `collect` to learn them, which reads Redis."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the last reading, or a new one if it is old."""
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

    def read(self) -> GaugeValues:
        """Return the present value of every gauge, or only `redis_up` 0 if Redis does not answer."""
        begun = time.perf_counter()
        try:
            server = self._server()
            queues = {queue: int(count) for (queue,), count in server["queue_messages"].items()}
            reading = server | self._registry() | self._runs(queues)
        except Fault as fault:
            log.warning("no vitals: %s", fault)
            return {"redis_up": one(0)}
        except Exception:  # any error here must not hide beat's own metrics
            log.exception("no vitals: the data in Redis can't be read")
            return {"redis_up": one(0)}
        return reading | {
            "redis_up": one(1),
            "reading_seconds": one(time.perf_counter() - begun),
        }

    def _server(self) -> GaugeValues:
        """Return the gauges of Redis, its queues and the workers."""
        prefix = self._settings.key_prefix
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(f"{prefix}:paused")
            pipe.hlen(f"{prefix}:troubles")
            pipe.zcard(f"{prefix}:unsealed_since")
            pipe.zrange(f"{prefix}:unsealed_since", 0, 0, withscores=True)
            pipe.hlen(f"{prefix}:unacked")
            pipe.zrange(f"{prefix}:unacked_index", 0, 0, withscores=True)
            for queue in QUEUES:
                pipe.llen(f"{prefix}:{queue}")
            (now, _), paused, troubles, unsealed, ended, unacked, oldest, *lengths = pipe.execute()
        workers = Counter(
            queue for queues in Roster(self._redis, prefix).workers().values() for queue in queues
        )
        return self._memory() | {
            "fleet_paused": one(paused == b"1"),
            "troubles": one(troubles),
            "runs_unsealed": one(unsealed),
            "unsealed_oldest_seconds": one(max(0.0, now - ended[0][1]) if ended else 0.0),
            "queue_messages": {(q,): n for q, n in zip(QUEUES, lengths, strict=True)},
            "queue_workers": {(q,): workers[q] for q in QUEUES},
            "unacked_messages": one(unacked),
            "unacked_oldest_seconds": one(max(0.0, now - oldest[0][1]) if oldest else 0.0),
        }

    def _memory(self) -> GaugeValues:
        """Return how full Redis is; {} if our Redis user is not allowed to ask."""
        found = memory(self._redis)
        if not found:
            return {}
        limit = found.get("maxmemory") or found.get("total_system_memory", 0)
        return {
            "redis_memory_bytes": one(found["used_memory"]),
            "redis_memory_limit_bytes": one(limit),
        }

    def _registry(self) -> GaugeValues:
        """Return the gauges of the registry, as it was within the last minute, and of the tick."""
        clock = self._ledger.time()
        if time.monotonic() - self._walked_at >= REGISTRY_SECONDS:
            self._known = self._walk()
            self._walked_at = time.monotonic()
        age_seconds = self._settings.key_max_age_days * 86_400.0
        reading = registry_vitals(self._known, clock.now_ms / 1000, age_seconds)
        if clock.tick_ms is not None:
            reading["tick_age_seconds"] = one(max(0, clock.now_ms - clock.tick_ms) / 1000)
        return reading

    def _walk(self) -> dict[str, Known]:
        """Return every source in the registry, read a few hundred at a time."""
        found: dict[str, Known] = {}
        for batch in every_source(self._redis, self._settings.key_prefix):
            lasts = self._ledger.lasts([source.id for source in batch])
            for source, last in zip(batch, lasts, strict=True):
                found[source.id] = known(source, read_last(last))
        return found

    def _runs(self, queues: Mapping[str, int]) -> GaugeValues:
        """Return the gauges of the sources that have a run open or due, and of their budgets."""
        # The longest time between two looks at an open run.
        within = self._settings.probe_max_seconds + 60.0
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
            **budget_vitals(self._budgets(n for n, (_, p) in found.items() if p.pages)),
            "sources_unexamined": one(len(names) > MOST_EXAMINED),
            "keys_refused": one(len(suspended | refused)),
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


def show(settings: Settings) -> None:
    """Show the fleet among the metrics of this process, if it shows metrics."""
    if settings.metrics_port is not None:
        client = impatient(settings.redis_url_or_embedded(), ANSWER_SECONDS)
        metrics.BEAT.register(Vitals(client, settings))
