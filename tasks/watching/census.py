"""Read the present state of the fleet and its sources, in a few round trips to Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tasks.watching.activity import Activity, Doing, Forecast, doing, forecast
from tasks.watching.concerns import Concern, concerns, urgency
from tasks.watching.last_runs import LastRun, read_last
from workers.runtime import Runtime
from workers.state.client import warning
from workers.state.limiter import BudgetState, budget_name
from workers.state.progress import Progress
from workers.state.roster import QUEUES, Roster
from workers.storage.registry import Source, SourceState

ASLEEP_SECONDS = 10.0
"""A fleet ticks every second. After this long without a tick, it counts as asleep."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One source as it was a moment ago."""

    source: Source
    progress: Progress = field(repr=False)
    last: LastRun | None
    doing: Doing
    budget: BudgetState | None = None  # only with an open run, like the forecast
    forecast: Forecast | None = None
    troubles: Mapping[str, str] = field(
        default_factory=dict
    )  # "run", "seal" or "retention" -> a sentence
    unsealed: tuple[str, ...] = ()  # ended runs that wait for their seal
    needs: tuple[Concern, ...] = ()  # why it needs a person, worst first


@dataclass(frozen=True, slots=True)
class Census:
    """The fleet as it was a moment ago."""

    now_ms: int
    tick_seconds: float | None  # since the last tick; None if there never was one
    paused: bool  # all requests of all sources are paused
    queues: dict[str, int]  # messages waiting
    workers: dict[str, tuple[str, ...]]  # node -> the queues it takes from
    sights: list[Sight]  # in the order in which a person should look at them
    lost: str = ""  # how it shows that Redis lost something; the fleet will restore it
    warning: str = ""  # advice on Redis's configuration

    @property
    def at(self) -> datetime:
        """The time of the census."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    @property
    def taken(self) -> set[str]:
        """The queues from which at least one worker takes messages."""
        return {queue for queues in self.workers.values() for queue in queues}

    @property
    def working(self) -> bool:
        """Whether a worker tends the sources."""
        return self.tick_seconds is not None and self.tick_seconds < ASLEEP_SECONDS


def census(fleet: Runtime, sources: Iterable[Source]) -> Census:
    """Return the state of the fleet and of *sources*. Raises `RedisUnreachable`."""
    listed = list(sources)
    clock = fleet.ledger.time()
    queues = _queues(fleet)
    workers = Roster(fleet.redis, fleet.settings.key_prefix).workers()
    paused = fleet.switch.known()
    lost, advice = fleet.marks.lost(), warning(fleet.redis)
    sights = _sights(fleet, listed, queues, paused=paused)
    at = datetime.fromtimestamp(clock.now_ms / 1000, UTC)
    sights = judged(sights, at, fleet.settings.key_max_age_days)
    tick = None if clock.tick_ms is None else max(0.0, (clock.now_ms - clock.tick_ms) / 1000)
    return Census(clock.now_ms, tick, paused, queues, workers, sights, lost, advice)


def judged(sights: Iterable[Sight], at: datetime, key_max_age_days: int) -> list[Sight]:
    """Return *sights* with the needs of each at the time *at*, the most urgent first."""
    found = []
    for each in sights:
        about, troubled = (each.source, each.doing, each.last), bool(each.troubles)
        needs = concerns(*about, at, key_max_age_days, troubled=troubled)
        found.append(replace(each, needs=needs))
    return sorted(found, key=lambda sight: urgency(sight.source, sight.doing, sight.needs))


def _queues(fleet: Runtime) -> dict[str, int]:
    with fleet.redis.pipeline(transaction=False) as pipe:
        for name in QUEUES:
            pipe.llen(f"{fleet.settings.key_prefix}:{name}")
        return dict(zip(QUEUES, pipe.execute(), strict=True))


def _sights(
    fleet: Runtime, sources: Sequence[Source], queues: dict[str, int], *, paused: bool
) -> list[Sight]:
    sharers = dict(
        zip(
            (source.id for source in sources),
            fleet.sources.sharers([source.fingerprint for source in sources]),
            strict=True,
        )
    )
    ids = list(
        dict.fromkeys([*sharers, *(name for sharing in sharers.values() for name in sharing)])
    )
    progress = dict(zip(ids, fleet.ledger.progresses(ids), strict=True))
    lasts = fleet.ledger.lasts(list(sharers))
    reading = [source for source in sources if progress[source.id].pages]
    troubles, unsealed = fleet.troubles.all(), fleet.unsealed.all()
    states = fleet.limiter.states(
        (budget_name(each.region, each.fingerprint), max(sharers[each.id].values(), default=0.0))
        for each in reading
    )
    budgets = {source.id: state for source, state in zip(reading, states, strict=True)}

    def sight(source: Source, last: str | None) -> Sight:
        found, budget = progress[source.id], budgets.get(source.id)
        now = doing(source.state, found, queues, fleet.settings.page_lease_seconds)
        if paused and source.state is SourceState.ACTIVE:
            now = Doing(Activity.PAUSED)  # workers don't touch it, so it isn't stuck
        others = [progress[name] for name in sharers[source.id] if name != source.id]
        ahead = forecast(now, found, ceiling=budget.ceiling, others=others) if budget else None
        kept = troubles.get(source.id, {}), unsealed.get(source.id, ())
        return Sight(source, found, read_last(last), now, budget, ahead, *kept)

    return list(map(sight, sources, lasts))
