"""The pages with which a run begins to read a list: those of its plan, and those of the records of other lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tasks.reading.answers import Answer
from tasks.reading.catalog import FEEDS, OFFSET_CAP, Feed, Paging, children_of
from tasks.reading.pages import Page
from tasks.reading.plans import Plan
from tasks.reading.windows import ALL, of

MOST_OPENED = 128
"""Most pages that one answer opens. The last of these pages, or a later page of the plan, opens the rest."""


def first_pages(plan: Plan) -> list[Page]:
    """Return the first pages of a run: one for each list, and one for each of the first records to be read again."""
    pages = []
    for feed in plan.feeds:
        if windows := plan.windows.get(feed.segment):
            size = plan.size_of(feed.segment)
            pages.append(Page(feed.segment, str(windows[0]), size=size, chain=(0, 0)))
        elif feed.list:
            pages.append(Page(feed.segment, ALL, size=plan.size_of(feed.segment)))
    for segment in plan.unsettled:
        indexes = range(min(MOST_OPENED, len(_read_again(plan, segment))))
        pages += [_again_by_id(plan, segment, index) for index in indexes]
    return pages


def _read_again(plan: Plan, segment: str) -> tuple[str, ...]:
    known = segment in plan.windows and segment in FEEDS
    return plan.unsettled.get(segment, ()) if known and not plan.backfill else ()


def _again_by_id(plan: Plan, segment: str, index: int) -> Page:
    record_id = plan.unsettled[segment][index]
    denied_at = plan.denied.get(segment, {}).get(record_id)
    return Page(
        segment, of(record_id), parent={"id": record_id}, chain=(index, 0), denied_at=denied_at
    )


def next_planned(page: Page, answer: Answer | None, plan: Plan) -> tuple[Page, ...]:
    """Return the plan's page after the window of *page*, if the plan has one and the page budget allows it."""
    if page.chain is None:
        return ()
    index, planned = page.chain
    if page.of_record:
        index += MOST_OPENED
        left = index < len(_read_again(plan, page.segment))
        return (_again_by_id(plan, page.segment, index),) if left else ()
    windows = plan.windows[page.segment]
    if answer is not None and not answer.ok and answer.status != 400:
        return ()  # this key can't read the resource, so its other windows fail too
    # A window that was given up took as long as many pages. So it counts as half of the share, and after two such
    # windows the run reads no more of the feed.
    planned += pages_in(page, answer) if answer else -(-plan.page_share // 2)
    if index + 1 >= len(windows) or planned >= plan.page_share:
        return ()
    window, chain = str(windows[index + 1]), (index + 1, planned)
    return (Page(page.segment, window, size=page.size, chain=chain),)


def pages_in(page: Page, answer: Answer | None) -> int:
    total = answer.data.get("total") if answer and answer.ok else None
    return max(1, -(-(total or 0) // page.size))


def child_pages(
    feeds: Iterable[Feed], records: Iterable[Mapping[str, Any]], plan: Plan
) -> tuple[Page, ...]:
    """Return the first page of each child list, or the page of the details, of each of *records*."""
    pages = (
        Page(feed.segment, of(str(record["id"])), parent=_reference(feed, record))
        for record in records
        for feed in feeds
    )
    return tuple(
        page
        if page.call.paging is Paging.SINGLE
        else replace(page, size=plan.size_of(page.segment))
        for page in pages
    )


def _reference(feed: Feed, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reference to *record* with PagerDuty's five fields, or only its id if the feed keeps no reference."""
    if not feed.parent_field:
        return {"id": record["id"]}
    kind = str(record.get("type", feed.parent_field)).removesuffix("_reference")
    return {"id": record["id"], "type": f"{kind}_reference"} | {
        name: record.get(name) for name in ("summary", "self", "html_url")
    }


def children_ahead(page: Page, answer: Answer | None, plan: Plan, *, opened: bool) -> int | None:
    """Return how many pages the records of a list will still open; None if this answer doesn't tell."""
    feeds = children_of(page.segment, plan.feeds) if page.window == ALL else ()
    total = answer.data.get("total") if page.first and answer and answer.ok else None
    if feeds and opened:
        return 0
    return min(total, OFFSET_CAP) * len(feeds) if feeds and total is not None else None
