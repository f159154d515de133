"""Decide which pages follow an answer: pure functions of plan, page and answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.reading import splits
from tasks.reading.answers import Answer, served
from tasks.reading.beginnings import MOST_OPENED, next_planned, pages_in
from tasks.reading.catalog import OFFSET_CAP, PAGE_SIZES, Paging
from tasks.reading.heads import key_of
from tasks.reading.pages import Page
from tasks.reading.plans import Plan
from tasks.reading.splits import MOST_SPLITS, Cost
from tasks.reading.windows import Period, period_in

MAX_PASSES = 3
"""How often a run reads a window that its pages don't prove."""
MOST_BEHIND_CURSORS = 1_200
"""Most pages in a pass of a list with cursors, which doesn't tell its length. Full pages have 120,000 records."""
_MOST_TIMES = 5
"""A list may serve smaller pages than asked for. A pass may have this many times the pages it would have otherwise."""
_MOST_SCRAPS = 12
"""If a page has fewer records than asked for, at most this many more pages are asked for to get the rest."""
_SPLIT_UP = "the list goes on, but this run may not split its window any further"
_MOVED = "the list moved while it was read"


@dataclass(frozen=True, slots=True)
class Step:
    """The pages that follow an answer.

    If the pass `ended`, the followers replace it. If there aren't any followers then, it was the last pass of its
    window, and `words` say why it proves nothing.
    """

    followers: tuple[Page, ...] = ()
    ended: str = ""  # "" | "split" | "again" | "smaller"
    words: str = ""
    # The rest of the window, or the plan's next page. They follow whatever becomes of the pass.
    onward: tuple[Page, ...] = ()


def decide(page: Page, answer: Answer | None, plan: Plan) -> Step:
    """Return the pages that follow *page*. An answer of None means that the page kept failing."""
    return _onward(page, answer, plan, _decide(page, answer))


def too_slow(page: Page, plan: Plan) -> Step | None:
    """Return the replacement for a pass that is too slow: smaller pages, then halves of its window; None if neither."""
    if page.call.paging is Paging.SINGLE:
        return None
    smaller = [size for size in PAGE_SIZES if size < page.size]
    if smaller:
        first = replace(page.opener, size=smaller[0], chain=page.chain, rest=page.rest)
        return _onward(page, None, plan, Step((first,), "smaller"))
    period = period_in(page.window)
    if period is None or not _may_split(page, period, Cost.SLOW):
        return None
    near, far = splits.halves(period)
    return _onward(page, None, plan, _parted(page, near, far, Cost.SLOW, splits.seconds(near)))


def _decide(page: Page, answer: Answer | None) -> Step:
    if answer is None:
        return Step()
    if page.cuts:
        return _after_cut(page, answer)
    if _to_be_asked_again(page, answer):
        (first,) = again(page).followers
        return Step((replace(first, denied_at=answer.fetched_at),), "again")
    if not answer.ok:
        return Step() if page.first else again(page)
    match page.call.paging:
        case Paging.SINGLE:
            return Step()
        case Paging.CURSOR:
            return _after_cursor(page, answer)
    return _after_first(page, answer) if page.first else _after_offset(page, answer)


def _to_be_asked_again(page: Page, answer: Answer) -> bool:
    """Return whether a 404 needs a second look. PagerDuty may list a record before it shows it everywhere."""
    denied = answer.status == 404 and page.of_record
    return denied and page.denied_at is None and page.pass_ < MAX_PASSES


def again(page: Page, words: str = "") -> Step:
    """Replace the pass of *page* by another pass, unless it was the last pass that is allowed."""
    if page.pass_ >= MAX_PASSES:
        return Step((), "again", words)
    following = replace(page.opener, pass_=page.pass_ + 1, denied_at=None)
    return Step((following,), "again")


def _within(page: Page, number: int, **more: Any) -> Page:
    """Return another page of *page*'s pass."""
    return replace(page.opener, number=number, **more)


def _may_split(page: Page, period: Period, cost: Cost) -> bool:
    return period.splittable and page.splits + cost <= MOST_SPLITS


def _parted(page: Page, near: Period, far: Period, cost: Cost, most_seconds: int = 0) -> Step:
    """Replace the pass of *page* by its window's part *near*, and read the part *far* after that."""
    rest = splits.put(page.rest, far, most_seconds)
    part = replace(page.opener, window=str(near), pass_=1, splits=page.splits + cost)
    return Step((replace(part, chain=page.chain, rest=rest),), "split")


def _parted_by_time(page: Page, answer: Answer, cost: Cost) -> Step:
    """Replace the pass of *page* by two parts of its window, cut at the time of its records; else end the pass."""
    period = period_in(page.window)
    if period is None or not _may_split(page, period, cost):
        return Step((), "split", _SPLIT_UP)
    records, field = served(page, answer), page.feed.sort_field
    cut = splits.by_time(period, [each.get(field) for each in records])
    if cut is None:
        return again(page, "the list has records from outside of its period")
    return _parted(page, *cut, cost)


def requests_for(page: Page, total: int) -> int:
    """Return how many requests the list that begins with *page* takes, if it has *total* records.

    A split costs three requests: the first page, the page that shows where to cut, and a page that isn't full.
    """
    period = period_in(page.window)
    parts = -(-total // OFFSET_CAP) if period and period.splittable else 1
    if parts > 1:
        return -(-total // page.size) + 3 * (parts - 1)
    stride = page.size - page.feed.changing
    return 1 + -(-max(0, min(total, OFFSET_CAP) - page.size) // stride)


def _onward(page: Page, answer: Answer | None, plan: Plan, step: Step) -> Step:
    """Add to *step* the pages after the window of *page*, unless a follower will open them."""
    if any(each.chain or each.rest for each in step.followers):
        return step
    there = answer is not None and (answer.ok or answer.status == 400)
    if page.rest and there:
        return replace(step, onward=(_next_part(page, answer),))
    return replace(step, onward=next_planned(page, answer, plan))


def _next_part(page: Page, answer: Answer | None) -> Page:
    window, rest = splits.take(page.rest)
    index, planned = page.chain or (0, 0)
    chain = page.chain and (index, planned + pages_in(page, answer))
    return replace(page.opener, window=window, pass_=1, chain=chain, rest=rest)


def _after_first(page: Page, answer: Answer) -> Step:
    data, count = answer.data, len(served(page, answer))
    if not data.get("more"):
        return Step()
    if count == 0:
        return again(page)
    total = data.get("total") if page.call.paging is Paging.CLASSIC else None
    if total is None:
        return _chained(page, answer)
    period = period_in(page.window)
    if total <= OFFSET_CAP or period is None or not period.splittable:
        return _spread(page, count, total)
    if not _may_split(page, period, Cost.CAP):
        return Step((), "split", _SPLIT_UP)
    return Step((replace(page, number=OFFSET_CAP - page.size, end=OFFSET_CAP, cuts=True),))


def _after_cut(page: Page, answer: Answer) -> Step:
    """Cut a window with more records than can be asked for, at the last that can."""
    if served(page, answer):
        return _parted_by_time(page, answer, Cost.CAP)
    period = period_in(page.window)
    if answer.ok or period is None or not _may_split(page, period, Cost.CAP):
        return again(page, f"total is over {OFFSET_CAP}, but nothing is served at {page.number}")
    return _parted(page, *splits.halves(period), Cost.CAP)


def _spread(page: Page, count: int, total: int) -> Step:
    """Open the pages after the *count* served records, all at once. The last one is held, and opens further pages."""
    stride = max(1, count - 1) if page.feed.changing else count
    reach, room = min(total, OFFSET_CAP), _room(page)
    offsets: list[int] = []
    while (not offsets or offsets[-1] + count < reach) and len(offsets) < min(room, MOST_OPENED):
        offsets.append(page.number + stride * (len(offsets) + 1))
    pages = [_within(page, each, end=min(each + count, OFFSET_CAP)) for each in offsets]
    held = [replace(each, held=True, nth=page.nth + len(pages)) for each in pages[-1:]]
    return Step((*pages[:-1], *held))


def _room(page: Page) -> int:
    """Return how many more pages may be asked for in the pass of *page*."""
    return _MOST_TIMES * OFFSET_CAP // page.size - page.nth


def _chained(page: Page, answer: Answer) -> Step:
    """Open the page after the served records. It repeats the last of them, and asks for `total` again."""
    records = served(page, answer)
    if page.number + len(records) >= OFFSET_CAP:
        return _past_the_cap(page, answer)
    if _room(page) < 1:
        return Step()
    start = page.number + max(1, len(records) - 1)
    following = _within(
        page,
        start,
        end=min(start + page.size, OFFSET_CAP),
        held=page.call.paging is Paging.CLASSIC,
        mark=_MOVED if page.mark == _MOVED else _edge(page, records[-1]),
        nth=page.nth + 1,
    )
    return Step((following,))


def _past_the_cap(page: Page, answer: Answer) -> Step:
    """Cut the window of a list that is longer than offsets can reach. A list without windows ends there."""
    period = period_in(page.window)
    if period is None or not period.splittable or page.mark == _MOVED:
        return Step()
    return _parted_by_time(page, answer, Cost.BLIND)


def _after_offset(page: Page, answer: Answer) -> Step:
    records, more = served(page, answer), bool(answer.data.get("more"))
    if page.mark and not (records and _edge(page, records[0]) == page.mark):
        if page.pass_ < MAX_PASSES:
            return again(page)
        page = replace(page, mark=_MOVED)  # the rest of the list is still read
    if not more:
        return Step()
    count, total = len(records), answer.data.get("total")
    if count == 0:
        return again(page)
    if page.call.paging is Paging.CHAIN or (page.held and total is None):
        return _chained(page, answer)
    if page.held and count >= page.end - page.number:
        at_the_cap = page.number + count >= OFFSET_CAP
        return _past_the_cap(page, answer) if at_the_cap else _spread(page, count, total)
    return _rest_of_range(page, count)


def _rest_of_range(page: Page, count: int) -> Step:
    """Ask for the records that a short page did not bring. If pages overlap, the next page repeats its last record."""
    overlap = int(page.feed.changing)
    start, end = page.number + max(1, count - overlap), page.end - overlap
    room = _room(page) if page.held else _MOST_SCRAPS - page.nth
    if (page.held or start < end) and room > 0:
        return Step((_within(page, start, end=page.end, held=page.held, nth=page.nth + 1),))
    return Step()


def _edge(page: Page, record: Mapping[str, Any]) -> str:
    """Return a digest of the part of *record* that an overlapping page must repeat."""
    return _digest(f"{key_of(page.segment, record)}\x00{record.get(page.feed.sort_field)}")


def _after_cursor(page: Page, answer: Answer) -> Step:
    cursor = answer.data.get("next_cursor")
    if cursor is None:
        return Step()
    keys = [key_of(page.segment, each) for each in served(page, answer)]
    marks = _digest(cursor), _digest("\x00".join(keys))
    if _repeats(page, cursor, marks):
        return again(page, f"page {page.number} brought nothing new, but the list goes on")
    number = page.number + 1
    if keys and number >= MOST_BEHIND_CURSORS:
        return _parted_by_time(page, answer, Cost.CURSOR)
    mark = " ".join(marks) if number & (number - 1) == 0 else page.mark
    return Step((_within(page, number, cursor=cursor, mark=mark),))


def _repeats(page: Page, cursor: str, marks: Iterable[str]) -> bool:
    """Return whether the cursors, or the records behind them, go in a circle.

    This is Brent's algorithm. Each page carries the digests of cursor and records from the last page whose number is a
    power of two. So a circle of any length is found without remembering every page.
    """
    return cursor == page.cursor or not set(marks).isdisjoint((page.mark or "").split())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
