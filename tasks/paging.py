"""What follows a page's answer: pure functions of plan, page and body."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.answers import Answer, served
from tasks.catalog import FEEDS, OFFSET_CAP, PAGE_LIMIT, Feed, Paging, children_of
from tasks.pages import Page
from tasks.runs import Plan
from tasks.windows import ALL, of, period_in, split

MAX_PASSES = 3
_SPLIT_TARGET = 7_500
"""Records aimed at per part of a window over the cap: room for uneven parts."""


@dataclass(frozen=True, slots=True)
class Step:
    """What follows an answer. `ended`: the pass is superseded and the followers replace it."""

    followers: tuple[Page, ...] = ()
    ended: str = ""  # "" | "split" | "again"
    onward: tuple[Page, ...] = ()  # the plan's next window, whatever becomes of this one


def first_pages(plan: Plan) -> list[Page]:
    """Return what a run opens with: one page per list, and one per record to be read again."""
    pages = []
    for feed in plan.feeds:
        if windows := plan.windows.get(feed.segment):
            pages.append(Page(feed.segment, str(windows[0]), chain=(0, 0)))
        elif feed.list:
            pages.append(Page(feed.segment, ALL))
    if not plan.backfill:
        pages += [
            Page(
                segment,
                of(record_id),
                parent={"id": record_id},
                denied_at=plan.denied.get(segment, {}).get(record_id),
            )
            for segment, ids in plan.unsettled.items()
            if segment in plan.windows and segment in FEEDS
            for record_id in ids
        ]
    return pages


def decide(page: Page, answer: Answer | None, plan: Plan) -> Step:
    """Return what follows *page*; None stands for a page that kept failing."""
    return replace(_decide(page, answer), onward=_next_window(page, answer, plan))


def too_slow(page: Page, plan: Plan) -> Step | None:
    """Return the halves that replace the window of a page nobody can wait for, if it has any."""
    period = period_in(page.window)
    if period is None or not period.splittable:
        return None
    return replace(halved(page), onward=_next_window(page, None, plan))


def _decide(page: Page, answer: Answer | None) -> Step:
    if answer is None:
        return Step()
    if _to_be_asked_again(page, answer):
        (first,) = again(page).followers
        return Step((replace(first, denied_at=answer.envelope["fetched_at"]),), "again")
    if not answer.ok:
        return Step() if page.first else again(page)
    match page.call.paging:
        case Paging.SINGLE:
            return Step()
        case Paging.CURSOR:
            return _after_cursor(page, answer)
    return _after_first(page, answer) if page.first else _after_offset(page, answer)


def _to_be_asked_again(page: Page, answer: Answer) -> bool:
    """Whether a 404 is not believed yet: PagerDuty may list a record before it shows it everywhere."""
    denied = answer.status == 404 and page.of_record
    return denied and page.denied_at is None and page.pass_ < MAX_PASSES


def again(page: Page) -> Step:
    """Supersede the pass of *page* by another, unless it was the last one allowed."""
    if page.pass_ >= MAX_PASSES:
        return Step((), "again")
    return Step((_restart(page, page.window, page.pass_ + 1),), "again")


def halved(page: Page, parts: int = 2) -> Step:
    """Supersede the pass of *page* by equal parts of its window, or by another pass."""
    period = period_in(page.window)
    if period is None or not period.splittable:
        return again(page)
    return Step(tuple(_restart(page, str(part), 1) for part in split(period, parts)), "split")


def _restart(page: Page, window: str, pass_: int) -> Page:
    return Page(page.segment, window, pass_, parent=page.parent)


def children_ahead(page: Page, answer: Answer | None, plan: Plan, *, opened: bool) -> int | None:
    """Return how many pages the records of a list are still to open; None: nothing new is known."""
    feeds = children_of(page.segment, plan.feeds) if page.window == ALL else ()
    total = answer.data.get("total") if page.first and answer and answer.ok else None
    if feeds and opened:
        return 0
    return int(total) * len(feeds) if feeds and total is not None else None


def _next_window(page: Page, answer: Answer | None, plan: Plan) -> tuple[Page, ...]:
    if page.chain is None:
        return ()
    index, planned = page.chain
    windows = plan.windows[page.segment]
    if answer is not None and not answer.ok and answer.status != 400:
        return ()  # the resource isn't there for this key: neither are its other windows
    planned += _pages_in(answer)
    if index + 1 >= len(windows) or planned >= plan.page_share:
        return ()
    return (Page(page.segment, str(windows[index + 1]), chain=(index + 1, planned)),)


def _pages_in(answer: Answer | None) -> int:
    total = answer.data.get("total") if answer and answer.ok else None
    return max(1, -(-int(total or 0) // PAGE_LIMIT))


def _after_first(page: Page, answer: Answer) -> Step:
    data, count = answer.data, len(served(page, answer))
    if not data.get("more"):
        return Step()
    if count == 0:
        return again(page)
    total = data.get("total") if page.call.paging is Paging.CLASSIC else None
    if total is None:
        return _chained(page, count)
    if total > OFFSET_CAP:
        period = period_in(page.window)
        if period and period.splittable:
            return halved(page, -(-total // _SPLIT_TARGET))
    stride = max(1, count - 1) if page.feed.changing else count
    reach = min(total, OFFSET_CAP)
    offsets: list[int] = []
    offset = stride
    while not offsets or offsets[-1] + count < reach:
        offsets.append(offset)
        offset += stride
    return Step(
        tuple(
            replace(
                page,
                number=start,
                end=min(start + count, OFFSET_CAP),
                held=start == offsets[-1],
                chain=None,
            )
            for start in offsets
        )
    )


def _chained(page: Page, count: int) -> Step:
    """Go on behind the records served, the last of them again; `total` is asked for each time."""
    held = page.call.paging is Paging.CLASSIC
    return _further(replace(page, held=held, chain=None), count, overlap=1)


def _further(page: Page, count: int, *, overlap: int) -> Step:
    """Go on behind the *count* records served; in smaller windows where no offset goes so far."""
    if page.number + count < OFFSET_CAP:
        start = page.number + max(1, count - overlap)
        return Step((replace(page, number=start, end=min(start + PAGE_LIMIT, OFFSET_CAP)),))
    period = period_in(page.window)
    return halved(page) if period and period.splittable else Step()


def _after_offset(page: Page, answer: Answer) -> Step:
    count, more = len(served(page, answer)), bool(answer.data.get("more"))
    if not more:
        return Step()
    if count == 0:
        return again(page)
    if page.call.paging is Paging.CHAIN or (page.held and answer.data.get("total") is None):
        return _chained(page, count)
    overlap = int(page.feed.changing)
    if page.held and count >= page.end - page.number:
        return _further(page, count, overlap=overlap)
    # A short page: the rest of its own range, no more. Where pages overlap, its last record
    # is the next page's.
    start, end = page.number + max(1, count - overlap), page.end - overlap
    if page.held or start < end:
        return Step((replace(page, number=start),))
    return Step()


def _after_cursor(page: Page, answer: Answer) -> Step:
    cursor = answer.data.get("next_cursor")
    if cursor is None:
        return Step()
    if _repeats(page, cursor):
        return again(page)
    number = page.number + 1
    mark = _digest(cursor) if number & (number - 1) == 0 else page.mark
    following = replace(page, number=number, cursor=cursor, mark=mark, chain=None)
    return Step((following,))


def _repeats(page: Page, cursor: str) -> bool:
    """Whether the cursors go in a circle.

    Brent's algorithm: the digest of the cursor at each power of two is carried along, so a
    circle of any length is met without remembering every cursor.
    """
    return cursor == page.cursor or _digest(cursor) == page.mark


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def child_pages(feeds: Iterable[Feed], records: Iterable[Mapping[str, Any]]) -> tuple[Page, ...]:
    """Return the first page of each child list (or detail) of *records*."""
    return tuple(
        Page(feed.segment, of(str(record["id"])), parent=_reference(feed, record))
        for record in records
        for feed in feeds
    )


def _reference(feed: Feed, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return PagerDuty's five-field reference to *record*; the id alone where none is kept."""
    if not feed.parent_field:
        return {"id": record["id"]}
    kind = str(record.get("type", feed.parent_field)).removesuffix("_reference")
    return {"id": record["id"], "type": f"{kind}_reference"} | {
        name: record.get(name) for name in ("summary", "self", "html_url")
    }
