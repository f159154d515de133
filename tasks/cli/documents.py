"""The documents about sources, runs and the fleet that commands print with --json.

A document that begins with the members of another one inherits them, and is made from its `vars`.
That is why these classes have no slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.cli.sights import next_due
from tasks.cli.summaries import Summary
from tasks.evidence.outcomes import RunOutcome
from tasks.reading.estimates import Estimate
from tasks.watching.activity import Activity, Wait, waits
from tasks.watching.census import Census, Sight
from tasks.watching.concerns import Concern
from workers.state.limiter import BudgetState
from workers.storage.registry import Source, SourceState


@dataclass(frozen=True)
class Account:
    """A source, and the account that it is connected to."""

    source: str
    region: str
    subdomain: str
    credential: str
    fingerprint: str
    state: SourceState
    retention_months: int | None
    held_since: datetime | None
    former_subdomains: list[str]


@dataclass(frozen=True)
class Access:
    """Whether a key can read one resource, and why not."""

    readable: bool
    reason: str


@dataclass(frozen=True)
class SourceDetails(Account):
    """A source, as the commands that connect, check or change it print it."""

    resources: dict[str, Access]


@dataclass(frozen=True)
class ShownSource(SourceDetails):
    """A source, as `source show` prints it."""

    renamed_to: str | None  # a new subdomain, to which the records of the last run link


@dataclass(frozen=True)
class ListedSource(Account):
    """A source, as `source list` prints it."""

    since: datetime
    every_seconds: int | None
    resources: tuple[str, ...] | None
    reserve: float
    connected_at: datetime
    key_age_days: int
    rotation_due: bool


@dataclass(frozen=True)
class ListedRun:
    """A run, as `run list` prints it."""

    run: str
    state: str
    since: datetime
    until: datetime
    opened_at: datetime
    sealed_at: datetime | None
    records: int
    requests: int
    backlog: bool


@dataclass(frozen=True)
class Remaining:
    """The rest of an open run, and the request limit that sets its pace."""

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
    """A source, and why it needs a person."""

    source: str
    state: SourceState
    needs: tuple[Concern, ...]


@dataclass(frozen=True)
class SourceStatus(Work, NeedySource):
    """A source, as `status` prints it."""

    next_due: datetime | None
    open: OpenRun | None
    last: dict[str, Any] | None


@dataclass(frozen=True)
class RedisStatus:
    """How Redis lost data, and what to change in its configuration."""

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
    """How many requests a resource takes; at least so many if *unsure*."""

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


def source_details(source: Source) -> SourceDetails:
    """Return a source as the commands that connect, check or change it print it."""
    access = {name: Access(not reason, reason) for name, reason in source.access.items()}
    return SourceDetails(**vars(_account(source)), resources=access)


def shown_source(source: Source, renamed_to: str) -> ShownSource:
    """Return a source as `source show` prints it."""
    return ShownSource(**vars(source_details(source)), renamed_to=renamed_to or None)


def listed_source(source: Source, key_age_days: int, *, rotation_due: bool) -> ListedSource:
    """Return a source as `source list` prints it."""
    return ListedSource(
        **vars(_account(source)),
        since=source.since,
        every_seconds=source.every_seconds,
        resources=source.resources,
        reserve=source.reserve,
        connected_at=source.connected_at,
        key_age_days=key_age_days,
        rotation_due=rotation_due,
    )


def _account(source: Source) -> Account:
    return Account(
        source.id,
        source.region,
        source.subdomain,
        source.credential,
        source.fingerprint,
        source.state,
        source.retention_months,
        source.held_since,
        [each.old for each in source.renamings],
    )


def listed_run(run: RunOutcome) -> ListedRun:
    """Return a run as `run list` prints it."""
    return ListedRun(**{name: getattr(run, name) for name in ListedRun.__dataclass_fields__})


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
