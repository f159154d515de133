"""Estimate how many requests a run will send, from its plan and one look at each list: pure except for the look."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tasks.reading.answers import Answer, served
from tasks.reading.beginnings import first_pages, next_planned
from tasks.reading.catalog import Paging, children_of, resource_of
from tasks.reading.pages import Page, Request, request_of
from tasks.reading.paging import decide, requests_for
from tasks.reading.plans import Plan
from tasks.reading.sealed import Manifest
from tasks.reading.windows import Period, period_in

Look = Callable[[Page, Request], Answer]
"""Sends one request for a list: for its first page, or only for its length."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected requests and records of a list or a resource. If it is *unsure*, there may be more."""

    requests: int = 0
    records: int = 0
    unsure: bool = False

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            self.requests + other.requests,
            self.records + other.records,
            self.unsure or other.unsure,
        )


@dataclass(slots=True)
class Estimate:
    """The requests that a run is expected to send."""

    plan: Plan
    resources: dict[str, Expected] = field(default_factory=dict)
    looks: int = 0  # requests that were sent for the estimate itself
    backlog: bool = False  # the run leaves windows to later runs

    @property
    def requests(self) -> int:
        return sum(each.requests for each in self.resources.values())

    @property
    def unsure(self) -> tuple[str, ...]:
        """The resources whose lists are of unknown length."""
        return tuple(name for name, each in self.resources.items() if each.unsure)

    def add(self, segment: str, more: Expected) -> None:
        name = resource_of(segment).name
        self.resources[name] = self.resources.get(name, Expected()) + more


def estimate(plan: Plan, before: Iterable[Manifest], look: Look) -> Estimate:
    """Return the requests that the run of *plan* will send; *before* are manifests, newest first.

    The number follows from each list's total. Lists without a total are looked up in *before*. The estimate assumes
    that each parent has one page of records, and that lists don't change while they are read.
    """
    manifests, pages = list(before), deque(first_pages(plan))
    found = Estimate(plan, {name: Expected() for name in plan.resources})
    while pages:
        page = pages.popleft()
        if page.of_record:
            found.add(page.segment, Expected(1, 1))
            pages += next_planned(page, None, plan)
            continue
        found.looks += 1
        answer = look(page, _question(page, plan))
        total = answer.data.get("total") if answer.ok else None
        if page.call.paging is Paging.CLASSIC and total is not None:
            answer = _full(page, total)
        onward = next_planned(page, answer, plan)
        if page.chain and answer.ok and not onward:
            found.backlog |= page.chain[0] + 1 < len(plan.windows[page.segment])
        pages += onward
        expected = _expected(page, answer, plan, manifests)
        found.add(page.segment, expected)
        for child in children_of(page.segment, plan.feeds):
            found.add(child.segment, replace(expected, requests=expected.records))
    return found


def _question(page: Page, plan: Plan) -> Request:
    """Return the page's own request. If the list tells its total, the request asks for only one record."""
    request = request_of(page, plan)
    if page.call.paging is not Paging.CLASSIC:
        return request
    one = tuple((name, "1" if name == "limit" else value) for name, value in request.params)
    return replace(request, params=one)


def _full(page: Page, total: int) -> Answer:
    """Return a made-up answer to the page's own request. It has as many records, so the same pages follow."""
    count = min(total, page.size)
    data = {page.call.wrapper: [{}] * count, "more": total > count, "total": total}
    return Answer(200, None, data)


def _expected(page: Page, answer: Answer, plan: Plan, before: list[Manifest]) -> Expected:
    """Return the expected requests and records of the list or window that begins with *page*."""
    if not answer.ok:
        return Expected(1)
    total, records = answer.data.get("total"), len(served(page, answer))
    if page.call.paging is Paging.CLASSIC and total is not None:
        return Expected(requests_for(page, total), total)
    if not decide(page, answer, plan).followers:
        return Expected(1, records)
    # A list that usually tells its total was asked for one record. It didn't tell it, so one page may hold all records.
    least = 1 if page.call.paging is Paging.CLASSIC else 2
    return _as_before(page, before) or Expected(least, records, unsure=True)


def _as_before(page: Page, before: list[Manifest]) -> Expected | None:
    """Return the list's requests and records in an earlier run. For a window, they are in proportion to its length."""
    for manifest in before:
        resource = manifest.resources.get(resource_of(page.segment).name)
        passes = [
            each
            for each in (resource.windows if resource else ())
            if each.feed == page.segment and each.state == "proved"
            and not each.window.startswith("of-")
        ]  # fmt: skip
        length = sum(_seconds(period_in(each.window)) for each in passes)
        if length:
            share = _seconds(period_in(page.window)) / length
            pages = sum(len(each.pages) for each in passes)
            records = sum(each.unique or 0 for each in passes)
            return Expected(max(1, round(pages * share)), round(records * share))
    return None


def _seconds(period: Period | None) -> float:
    """Return the length of a window in seconds; 1 for a snapshot, which has no length."""
    return 1.0 if period is None else (period.until - period.since).total_seconds()
