"""The documents about runs that are open or estimated, and about the fleet that works on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tasks.cli.sights import next_due
from tasks.cli.summaries import Summary
from tasks.reading.estimates import Estimate
from tasks.watching.activity import Activity, Wait, waits
from tasks.watching.census import Census, Sight
from tasks.watching.concerns import Concern
from tasks.watching.last_runs import LastRun
from workers.state.limiter import BudgetState
from workers.storage.registry import PurgeWish, SourceState


@dataclass(frozen=True)
class Remaining:
    """The rest of an open run, and the request limit, on which its pace depends."""

    pages: int
    unsure: tuple[str, ...]
    least_minutes: float | None
    minutes: float | None
    ceiling: int
    others: int
    limit: int


@dataclass(frozen=True)
class Work:
    """The activity of a source, and what its open run waits for."""

    activity: Activity
    activity_seconds: float | None
    why: str
    waits: dict[str, Wait]
    forecast: Remaining | None
    troubles: Mapping[str, str]


@dataclass(frozen=True)
class WorkingRun(Work, Summary):
    """A run that is not sealed, as `run show` prints it."""


@dataclass(frozen=True)
class OpenRun:
    """How far the open run of a source is."""

    run: str
    closed: int
    pages: int
    in_flight: int
    requests: int


@dataclass(frozen=True)
class NeedySource:
    """A source, and the reasons why it needs a person."""

    source: str
    state: SourceState
    needs: tuple[Concern, ...]


@dataclass(frozen=True)
class SourceStatus(Work, NeedySource):
    """A source, as `status` prints it."""

    next_due: datetime | None
    open: OpenRun | None
    last: LastRun | None
    unsealed: tuple[str, ...]
    purge: PurgeWish | None  # an erasure that was asked for and isn't finished


@dataclass(frozen=True)
class RedisStatus:
    """How it shows that Redis lost data, and advice on its configuration."""

    lost: str
    warning: str


@dataclass(frozen=True)
class FleetStatus:
    """The fleet and its sources, as `status` prints them."""

    at: datetime
    working: bool
    tick_age_seconds: float | None
    paused: bool
    redis: RedisStatus
    queues: dict[str, int]
    workers: dict[str, tuple[str, ...]]
    sources: list[SourceStatus]


@dataclass(frozen=True)
class ExpectedRequests:
    """How many requests a resource takes. If it is *unsure*, it may take more."""

    requests: int
    unsure: bool


@dataclass(frozen=True)
class EstimateDocument:
    """The size of a run that is not open, as `collect --estimate` prints it."""

    source: str
    run: str
    requests: int
    minutes: float | None
    least_minutes: float
    unsure: tuple[str, ...]
    backlog: bool
    asked: int
    ceiling: int
    others: int
    limit: int
    resources: dict[str, ExpectedRequests]


def _work(sight: Sight) -> Work:
    """Return the activity of a source, and what its open run waits for."""
    return Work(
        sight.doing.activity,
        sight.doing.seconds,
        sight.doing.why,
        {str(name): wait for name, wait in waits(sight.progress).items()},
        _remaining(sight),
        sight.troubles,
    )


def _remaining(sight: Sight) -> Remaining | None:
    ahead, budget = sight.forecast, sight.budget
    if ahead is None or budget is None:
        return None
    return Remaining(
        ahead.pages,
        ahead.unsure,
        ahead.least_minutes,
        ahead.minutes,
        budget.ceiling,
        budget.foreign,
        budget.limit,
    )


def working_run(outcome: Summary, sight: Sight) -> WorkingRun:
    """Return a run that is not sealed as `run show` prints it."""
    return WorkingRun(**vars(outcome), **vars(_work(sight)))


def fleet_status(found: Census) -> FleetStatus:
    """Return the fleet and its sources as `status` prints them."""
    return FleetStatus(
        found.at,
        found.working,
        found.tick_seconds,
        found.paused,
        RedisStatus(found.lost, found.warning),
        found.queues,
        found.workers,
        list(map(_source_status, found.sights)),
    )


def _source_status(sight: Sight) -> SourceStatus:
    return SourceStatus(
        source=sight.source.id,
        state=sight.source.state,
        needs=sight.needs,
        **vars(_work(sight)),
        next_due=next_due(sight),
        open=_open_run(sight),
        last=sight.last,
        unsealed=sight.unsealed,
        purge=sight.source.purge,
    )


def _open_run(sight: Sight) -> OpenRun | None:
    progress = sight.progress
    if not progress.run:
        return None
    return OpenRun(
        run=progress.run,
        closed=progress.closed,
        pages=progress.pages,
        in_flight=progress.offered + progress.claimed,
        requests=sum(progress.requests.values()),
    )


def estimate_document(found: Estimate, budget: BudgetState) -> EstimateDocument:
    """Return the size of a run, with the minutes that it takes at its budget's pace."""
    minutes = found.requests / max(1, budget.ceiling)
    return EstimateDocument(
        source=found.plan.source,
        run=found.plan.run,
        requests=found.requests,
        minutes=None if found.unsure else minutes,
        least_minutes=minutes,
        unsure=found.unsure,
        backlog=found.backlog,
        asked=found.looks,
        ceiling=budget.ceiling,
        others=budget.foreign,
        limit=budget.limit,
        resources={
            name: ExpectedRequests(each.requests, each.unsure)
            for name, each in found.resources.items()
        },
    )
