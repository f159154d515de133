"""The plan of a run. It is made once, from the source and its last manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

from tasks.reading.catalog import CATALOG, CATALOG_VERSION, PAGE_LIMIT, Feed, larger, with_parents
from tasks.reading.sealed import PageSize, Part, PreviousRun, StoredManifest, told
from tasks.reading.windows import (
    OVERLAP,
    SECOND,
    Moment,
    Period,
    cut,
    merged,
    missing,
)
from workers.storage.renamings import Renaming, away_from

SIZE_KEPT = timedelta(days=7)
"""How long a list is read in smaller pages before larger ones are tried. A try may cost three time-outs."""
AGING = timedelta(days=62)
"""Windows that PagerDuty will delete within this time are read before other history."""


class Plan(Part, frozen=True, kw_only=True):
    """What a run is to read, with every setting that shapes its requests. It is stored before the first request."""

    format: Literal[2] = 2
    source: Annotated[str, told("The source, as TENANT/NAME")]
    run: Annotated[str, told("The run: eight digits, one more than the run before")]
    opened_at: Annotated[Moment, told("When the run began")]
    scheduled_at: Annotated[
        Moment, told("When the newest run began that wasn't started to read a backlog")
    ]
    period: Annotated[Period, told("The period that the run is to read")]
    since: Annotated[
        Moment, told("The beginning of all that is to be read of the source, by this run or others")
    ]
    resources: Annotated[tuple[str, ...], told("The resources that the run is to read")]
    windows: Annotated[
        Mapping[str, tuple[Period, ...]],
        told("For each list with periods, the ones to read, in this order"),
    ]
    page_budget: Annotated[int, told("How many pages the run may plan")]
    region: Annotated[str, told("PagerDuty's service region")]
    subdomain: Annotated[str, told("The account's subdomain at PagerDuty")]
    credential: Annotated[str, told("The kind of key: `account` or `user`")]
    backfill: Annotated[bool, told("Whether the run reads a backlog of earlier runs")] = False
    previous: Annotated[
        PreviousRun | None, told("The run before, whose manifest this one fixes")
    ] = None
    covered: Annotated[
        Mapping[str, tuple[Period, ...]],
        told("For each list, the periods that earlier runs proved"),
    ] = {}
    unsettled: Annotated[
        Mapping[str, tuple[str, ...]],
        told("For each list, the ids of records that earlier runs left open"),
    ] = {}
    denied: Annotated[
        Mapping[str, Mapping[str, str]],
        told("Those of them that PagerDuty answers 404 for, each with the time of its last 404"),
    ] = {}
    sizes: Annotated[
        Mapping[str, PageSize],
        told("For each list that is read in smaller pages, the size to begin with"),
    ] = {}
    ask_again_seconds: Annotated[
        float, told("The least time before a record is asked for again after a 404")
    ] = 60.0
    renamed: Annotated[
        tuple[Renaming, ...], told("Renamings since the run before, as a person confirmed them")
    ] = ()
    every_seconds: Annotated[
        int | None, told("The interval between runs of the source; null if none are scheduled")
    ] = None
    catalog: Annotated[int, told("The version of the list of resources")] = CATALOG_VERSION

    @property
    def feeds(self) -> list[Feed]:
        """The feeds of the planned resources. Resources that this version's catalog doesn't have can't be read."""
        return _feeds(self.resources)

    @property
    def page_share(self) -> int:
        """How many pages each windowed feed may plan. After that, its other windows wait for the next run."""
        return max(1, self.page_budget // max(1, len(self.windows)))

    def period_of(self, resource: str) -> Period | None:
        """Return the period of *resource* that this run and earlier ones have to read; None for a snapshot."""
        feeds = CATALOG[resource].feeds if resource in CATALOG else ()
        until = self.period.until
        if any(feed.window_days for feed in feeds):
            return Period(min(self.since, until - SECOND), until)
        calls = [call for feed in feeds for call in (feed.list, feed.each) if call]
        if any(call.rendered for call in calls):
            return self.period
        return Period(until, until) if any(call.instant for call in calls) else None

    def size_of(self, segment: str) -> int:
        """Return how many records the first request for a feed's list asks for."""
        known = self.sizes.get(segment)
        return known.size if known else PAGE_LIMIT


def _feeds(resources: Iterable[str]) -> list[Feed]:
    return [feed for name in resources if name in CATALOG for feed in CATALOG[name].feeds]


def next_due(
    source: str, connected_at: datetime, every_seconds: int | None, after: datetime
) -> datetime | None:
    """Return when *source* is due next after *after*; None if it never is.

    Due times are *every_seconds* apart, counted from the connection. Each source has its own delay of up to a twentieth
    of the interval, and of ten minutes at most. So sources that were connected together aren't due together.
    """
    if every_seconds is None:
        return None
    spread = min(every_seconds / 20, 600.0)
    share = int.from_bytes(hashlib.sha256(source.encode()).digest()[:4]) / 2**32
    first = connected_at + timedelta(seconds=every_seconds + share * spread)
    if after < first:
        return first
    every = timedelta(seconds=every_seconds)
    return first + ((after - first) // every + 1) * every


def following_run(run: str | None) -> str:
    """Return the run id that follows *run*: eight digits, one sequence per source."""
    return f"{int(run or 0) + 1:08d}"


def make_plan(
    *,
    source: str,
    resources: tuple[str, ...] | None,
    since: datetime,
    until: datetime,
    opened_at: datetime,
    page_budget: int,
    region: str,
    subdomain: str,
    credential: str,
    renamings: tuple[Renaming, ...] = (),
    backfill: bool,
    last: StoredManifest | None,
    newest: str | None,
    ask_again_seconds: float = 60.0,
    every_seconds: int | None = None,
) -> Plan:
    """Return the plan of the run after *newest*. It continues from the manifest *last* (None: the source has none)."""
    names = with_parents(resources or CATALOG)
    # Resources that the catalog no longer has are planned too, so that the manifest names them as missing.
    names += tuple(name for name in resources or () if name not in CATALOG)
    feeds = _feeds(names)
    # A user's key may not have seen everything, so an account's key reads everything again.
    again = last is not None and last.credential.kind == "user" and credential == "account"
    covered = last.covered if last and not again else {}
    start = max(since, last.reached - OVERLAP) if last and not again else since
    return Plan(
        source=source,
        run=following_run(newest),
        opened_at=opened_at,
        scheduled_at=last.scheduled_at if last and backfill else opened_at,
        period=Period(min(start, until - SECOND), until),
        since=since,
        resources=names,
        windows={
            feed.segment: _windows(feed, Period(since, until), covered.get(feed.segment, ()))
            for feed in feeds
            if feed.window_days
        },
        page_budget=page_budget,
        region=region,
        subdomain=subdomain,
        credential=credential,
        backfill=backfill,
        previous=last.link if last else None,
        covered=covered,
        unsettled=last.unsettled if last else {},
        denied=last.denied if last else {},
        sizes=_sizes(last.sizes if last else {}, opened_at),
        ask_again_seconds=ask_again_seconds,
        every_seconds=every_seconds,
        renamed=away_from(renamings, last.account.subdomain) if last else (),
    )


def _sizes(known: Mapping[str, PageSize], at: datetime) -> dict[str, PageSize]:
    """Return the page sizes to start with: the sizes that worked last, or after a week the next larger ones."""
    sizes = {
        segment: each if at - each.since < SIZE_KEPT else PageSize(larger(each.size), at)
        for segment, each in known.items()
    }
    return {segment: each for segment, each in sizes.items() if each.size < PAGE_LIMIT}


def _windows(feed: Feed, target: Period, covered: tuple[Period, ...]) -> tuple[Period, ...]:
    """Return the windows of *target* to read: the newest, those that PagerDuty deletes soon, then the other ones.

    The other ones are in the order from new to old.
    """
    assert feed.window_days
    since = target.since
    if feed.retention_days:
        since = max(since, target.until - timedelta(days=feed.retention_days))
    if since >= target.until:
        since = target.until - SECOND
    gaps = missing(Period(since, target.until), covered)
    if covered and (not gaps or gaps[-1].until == target.until):
        back = max(p.until for p in merged(covered)) - OVERLAP
        gaps = [g for g in gaps if g.until != target.until] + [
            Period(max(since, min(back, target.until - SECOND)), target.until)
        ]
    ordered = [window for gap in reversed(gaps) for window in cut(gap, feed.window_days)]
    edge = target.until - timedelta(days=feed.retention_days or 0) + AGING
    aging = {w for w in ordered[1:] if feed.retention_days and w.since < edge}
    return tuple(sorted(ordered, key=lambda w: (w != ordered[0], w not in aging)))
