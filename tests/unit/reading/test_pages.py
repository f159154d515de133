"""The request for a page, and the pages that follow each kind of answer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.answers import Answer, lines, served, well_formed
from tasks.reading.beginnings import child_pages, children_ahead, first_pages
from tasks.reading.catalog import FEEDS, OFFSET_CAP, PAGE_SIZES, Paging, children_of
from tasks.reading.heads import identity
from tasks.reading.pages import Page, request_of
from tasks.reading.paging import MAX_PASSES, Step, decide, too_slow
from tasks.reading.windows import ALL, Period, of, period_in
from tests.lists_model import NOW, answer_to, make

PLAN = make()
SECOND = "20260101T000000Z_20260101T000001Z"

WINDOWED = Page("log_entries", str(PLAN.windows["log_entries"][0]))  # its records don't move
SNAPSHOT = Page("teams", ALL)  # can change while it is read, so pages overlap by a record
CHAIN = Page("schedules.shift", ALL)  # never has a total
CURSOR = Page("audit_records", str(PLAN.windows["audit_records"][0]))
DETAIL = Page("schedules", of("P1"), parent={"id": "P1"})
MEMBERS = Page("team_members", of("T"), parent={"id": "T"})

Rows = list[tuple[int, int, str]]


def at(page: Page, number: int, end: int, held: str = "") -> Page:
    """Return another page of the same pass."""
    return replace(page, number=number, end=end, held=bool(held))


def listed(page: Page, count: int, more: bool, total: int | None = None) -> Answer:
    found = [{"id": f"P{page.number + n}"} for n in range(count)]
    return answer_to(page, **{page.call.wrapper: found}, more=more, total=total)


def rows(step: Step) -> Rows:
    """Return the followers as (offset, end, "held" or ""), the first three and the last two."""
    found = [(p.number, p.end, "held" if p.held else "") for p in step.followers]
    return found if len(found) < 6 else [*found[:3], *found[-2:]]


@pytest.mark.parametrize(
    ("page", "count", "more", "total", "following"),
    [
        (WINDOWED, 0, False, 0, []),
        (WINDOWED, 100, False, 100, []),
        (WINDOWED, 7, False, None, []),
        (WINDOWED, 100, True, 101, [(100, 200, "held")]),
        (WINDOWED, 100, True, 200, [(100, 200, "held")]),
        (WINDOWED, 100, True, 201, [(100, 200, ""), (200, 300, "held")]),
        (WINDOWED, 25, True, 60, [(25, 50, ""), (50, 75, "held")]),
        (WINDOWED, 1, True, 3, [(1, 2, ""), (2, 3, "held")]),
        (WINDOWED, 100, True, 40, [(100, 200, "held")]),
        (
            WINDOWED, 100, True, 10_000,
            [(100, 200, ""), (200, 300, ""), (300, 400, ""), (9800, 9900, ""), (9900, 10_000, "held")],
        ),
        (
            WINDOWED, 99, True, 10_000,
            [(99, 198, ""), (198, 297, ""), (297, 396, ""), (9900, 9999, ""), (9999, 10_000, "held")],
        ),
        (WINDOWED, 100, True, None, [(99, 199, "held")]),
        (SNAPSHOT, 100, True, 101, [(99, 199, "held")]),
        (SNAPSHOT, 100, True, 199, [(99, 199, "held")]),
        (SNAPSHOT, 100, True, 200, [(99, 199, ""), (198, 298, "held")]),
        (SNAPSHOT, 1, True, 3, [(1, 2, ""), (2, 3, "held")]),
        (SNAPSHOT, 2, True, 4, [(1, 3, ""), (2, 4, "held")]),
        (
            SNAPSHOT, 100, True, 10_000,
            [(99, 199, ""), (198, 298, ""), (297, 397, ""), (9801, 9901, ""), (9900, 10_000, "held")],
        ),
        (
            SNAPSHOT, 100, True, 12_345,
            [(99, 199, ""), (198, 298, ""), (297, 397, ""), (9801, 9901, ""), (9900, 10_000, "held")],
        ),
        (SNAPSHOT, 100, True, None, [(99, 199, "held")]),
        (CHAIN, 100, True, None, [(99, 199, "")]),
        (CHAIN, 40, True, None, [(39, 139, "")]),
        (CHAIN, 1, True, None, [(1, 101, "")]),
        (CHAIN, 100, True, 250, [(99, 199, "")]),
        (CHAIN, 12, False, None, []),
    ],
)  # fmt: skip
def test_a_first_page_determines_the_rest_of_its_list(
    page: Page, count: int, more: bool, total: int | None, following: Rows
) -> None:
    step = decide(page, listed(page, count, more, total), PLAN)
    assert (step.ended, rows(step)) == ("", following)


@pytest.mark.parametrize(
    ("page", "count", "more", "total", "following"),
    [
        (at(WINDOWED, 100, 200), 100, True, None, []),
        (at(WINDOWED, 100, 200), 40, True, None, [(140, 200, "")]),
        (at(WINDOWED, 100, 200), 99, True, None, [(199, 200, "")]),
        (at(WINDOWED, 100, 200), 40, False, None, []),
        (at(WINDOWED, 100, 200), 0, False, None, []),
        (at(WINDOWED, 200, 300, "held"), 50, False, 250, []),
        (at(WINDOWED, 200, 300, "held"), 100, True, 320, [(300, 400, "held")]),
        (at(WINDOWED, 200, 300, "held"), 60, True, 320, [(260, 300, "held")]),
        (at(WINDOWED, 200, 300, "held"), 100, True, None, [(299, 399, "held")]),
        (at(WINDOWED, 9850, 9950, "held"), 100, True, 9999, [(9950, 10_000, "held")]),
        (at(WINDOWED, 9900, 10_000, "held"), 100, False, 10_000, []),
        (at(replace(WINDOWED, window=SECOND), 9900, 10_000, "held"), 100, True, 10_400, []),
        (at(SNAPSHOT, 99, 199), 100, True, None, []),
        (at(SNAPSHOT, 99, 199), 99, True, None, [(197, 199, "")]),
        (at(SNAPSHOT, 99, 199), 50, True, None, [(148, 199, "")]),
        (at(SNAPSHOT, 99, 199), 1, True, None, [(100, 199, "")]),
        (at(SNAPSHOT, 198, 298, "held"), 52, False, 250, []),
        (at(SNAPSHOT, 198, 298, "held"), 100, True, 350, [(297, 397, "held")]),
        (at(SNAPSHOT, 198, 298, "held"), 20, True, 350, [(217, 298, "held")]),
        (at(SNAPSHOT, 9801, 9901, "held"), 100, True, 9950, [(9900, 10_000, "held")]),
        (at(SNAPSHOT, 9900, 10_000, "held"), 100, True, 10_001, []),
        (at(CHAIN, 99, 199), 100, True, None, [(198, 298, "")]),
        (at(CHAIN, 99, 199), 3, True, None, [(101, 201, "")]),
        (at(CHAIN, 9801, 9901), 100, True, None, [(9900, 10_000, "")]),
        (at(CHAIN, 9850, 9950), 100, True, None, [(9949, 10_000, "")]),
        (at(CHAIN, 9900, 10_000), 100, True, None, []),
        (at(CHAIN, 9900, 10_000), 100, False, None, []),
    ],
)
def test_a_later_page_requests_the_rest_of_its_own_range_and_the_held_one_continues(
    page: Page, count: int, more: bool, total: int | None, following: Rows
) -> None:
    step = decide(page, listed(page, count, more, total), PLAN)
    assert (step.ended, rows(step)) == ("", following)


HOURS = "20260101T000000Z_20260101T100000Z"


def timed(page: Page, *times: object, **data: Any) -> Answer:
    """Return an answer with a record of each of *times*."""
    found = [{"id": f"P{n}", "created_at": time} for n, time in enumerate(times)]
    return answer_to(page, **{page.call.wrapper: found}, **data)


@pytest.mark.parametrize(
    ("times", "near", "rest"),
    [
        (("T03:00:00Z", "T04:00:00.9Z"), "000000Z_20260101T040000Z", "040000Z_20260101T100000Z"),
        (("T05:00:00Z", "T04:00:00Z"), "040001Z_20260101T100000Z", "000000Z_20260101T040001Z"),
        (("T00:00:00Z", "T00:00:00Z"), "000000Z_20260101T000001Z", "000001Z_20260101T100000Z"),
        (("T10:00:00Z", "T09:59:59Z"), "095959Z_20260101T100000Z", "000000Z_20260101T095959Z"),
        (("T04:00:00", "T05:00:00"), "050000Z_20260101T100000Z", "000000Z_20260101T050000Z"),
        (("T??", "T!!"), "050000Z_20260101T100000Z", "000000Z_20260101T050000Z"),
    ],
)
def test_a_window_over_the_cap_is_cut_at_the_last_record_that_can_be_requested(
    times: tuple[str, ...], near: str, rest: str
) -> None:
    """This holds for both orders of the list. If the times can't be read, the window is cut in the middle."""
    page = replace(WINDOWED, window=HOURS, chain=(0, 7))
    (cut,) = decide(page, listed(page, 100, True, 25_000), PLAN).followers
    assert (cut.group, cut.number, cut.limit) == (page.group, 9_900, 100)
    cut = Page.parse(cut.id, cut.payload())
    step = decide(cut, timed(cut, *(f"2026-01-01{each}" for each in times)), PLAN)
    assert (step.ended, step.onward) == ("split", ())
    (part,) = step.followers
    assert (part.window, part.rest) == (f"20260101T{near}", ((f"20260101T{rest}", 0),))
    assert (part.number, part.chain, part.splits) == (0, (0, 7), 1)
    step = decide(part, listed(part, 100, True, 9_800), PLAN)
    (following,) = step.onward
    assert (following.window, following.rest) == (f"20260101T{rest}", ())
    assert (following.chain, following.splits) == ((0, 7 + 98), 1)


@pytest.mark.parametrize("served", [[], ["2025-01-01T00:00:00Z"]])
def test_a_total_that_the_list_contradicts_splits_nothing(served: list[str]) -> None:
    """At the offset where its total promises records, there are none, or they are of another period."""
    (cut,) = decide(WINDOWED, listed(WINDOWED, 100, True, 10**9), PLAN).followers
    step = decide(cut, timed(cut, *served, more=False), PLAN)
    assert (step.ended, [p.pass_ for p in step.followers]) == ("again", [2])
    last = decide(replace(cut, pass_=MAX_PASSES), timed(cut, *served, more=False), PLAN)
    assert last.followers == ()
    assert "served at 9900" in last.words or "outside of its period" in last.words


def test_the_rest_of_a_split_window_follows_an_answer_but_not_a_failure() -> None:
    part = replace(WINDOWED, window=HOURS, chain=(0, 0), rest=((SECOND, 0),))
    for answer in (listed(part, 5, False, 5), answer_to(part, 400)):
        (following,) = decide(part, answer, PLAN).onward
        assert (following.window, following.rest) == (SECOND, ())
    for nothing in (None, answer_to(part, 403)):
        assert SECOND not in {p.window for p in decide(part, nothing, PLAN).onward}


def test_the_splits_of_a_planned_window_are_counted_and_end() -> None:
    """However long a list claims to be, each answer opens one window, and the last window is not split further."""
    page = WINDOWED
    for splits in range(1, 130):
        step = decide(page, listed(page, 100, True, 10**9), PLAN)
        if step.ended:
            break
        (cut,) = step.followers
        period = period_in(page.window)
        assert period
        oldest = f"{period.since + timedelta(minutes=splits):%FT%TZ}"
        (part,) = decide(cut, timed(cut, oldest, oldest), PLAN).followers
        assert part.splits == splits
        (page,) = decide(part, listed(part, 100, True, 9_900), PLAN).onward
    assert (splits, step.followers) == (129, ())
    assert step.words


def test_a_second_over_the_cap_is_read_as_far_as_possible() -> None:
    page = replace(WINDOWED, window=SECOND)
    step = decide(page, listed(page, 100, True, 10_001), PLAN)
    assert (step.ended, rows(step)[-1]) == ("", (9900, 10_000, "held"))


@pytest.mark.parametrize(("page", "total"), [(WINDOWED, 10_100), (WINDOWED, None)])
def test_a_window_that_grows_past_the_cap_while_it_is_read_is_cut(
    page: Page, total: int | None
) -> None:
    """This costs more than a split that a total announces, so it is done less often."""
    last = at(page, 9900, 10_000, "held")
    step = decide(last, listed(last, 100, True, total), PLAN)
    (part,) = step.followers
    assert (step.ended, len(part.rest), part.splits) == ("split", 1, 32)
    spent = replace(last, splits=100)
    assert decide(spent, listed(spent, 100, True, total), PLAN).followers == ()


@pytest.mark.parametrize("page", [WINDOWED, SNAPSHOT, CHAIN, at(SNAPSHOT, 99, 199, "held")])
def test_an_empty_page_that_promises_more_ends_its_pass(page: Page) -> None:
    for pass_ in range(1, MAX_PASSES + 1):
        step = decide(replace(page, pass_=pass_), listed(page, 0, True, 10), PLAN)
        passes = [(p.pass_, p.number) for p in step.followers]
        assert (step.ended, passes) == ("again", [(pass_ + 1, 0)] if pass_ < MAX_PASSES else [])


@pytest.mark.parametrize("status", [400, 402, 403])
def test_an_error_ends_the_list_at_its_first_page_and_the_pass_later(status: int) -> None:
    for page in (WINDOWED, SNAPSHOT, CHAIN, CURSOR, DETAIL):
        assert decide(page, answer_to(page, status), PLAN) == Step()
        later = replace(page, number=1, cursor="x")
        step = decide(later, answer_to(later, status), PLAN)
        assert step.ended == "again"
        (restart,) = step.followers
        assert restart == Page(page.segment, page.window, 2, parent=page.parent)


def test_a_404_at_a_records_own_address_is_asked_again_once() -> None:
    """On a list it is an answer like any other. The second 404 at a record is believed."""
    for page in (WINDOWED, SNAPSHOT, CHAIN, CURSOR):
        assert decide(page, answer_to(page, 404), PLAN) == Step()
    for page in (
        DETAIL,
        Page("team_members", of("T"), number=100, parent={"id": "T"}),
        replace(DETAIL, pass_=2),
    ):
        step = decide(page, answer_to(page, 404), PLAN)
        assert step.ended == "again"
        (second,) = step.followers
        assert (second.pass_, second.number) == (page.pass_ + 1, 0)
        assert second.denied_at == answer_to(page, 404).fetched_at
        assert decide(second, answer_to(second, 404), PLAN) == Step()
    last = replace(DETAIL, pass_=MAX_PASSES)
    assert decide(last, answer_to(last, 404), PLAN) == Step()


def test_nothing_follows_a_detail_or_a_page_that_kept_failing() -> None:
    assert decide(DETAIL, answer_to(DETAIL, schedule={"id": "P1"}), PLAN) == Step()
    for page in (WINDOWED, at(SNAPSHOT, 99, 199), CHAIN, CURSOR, DETAIL):
        assert decide(page, None, PLAN) == Step()


def cursors(page: Page, cursor: str | None, record: str = "") -> Step:
    found = [{"id": record or f"A{page.number}"}]
    return decide(page, answer_to(page, records=found, next_cursor=cursor), PLAN)


def test_cursor_pages_follow_each_other_by_ordinal() -> None:
    (second,) = cursors(CURSOR, "aaa").followers
    (third,) = cursors(second, "bbb").followers
    assert [(p.number, p.cursor, p.held) for p in (second, third)] == [
        (1, "aaa", False),
        (2, "bbb", False),
    ]
    assert second.id == f"{CURSOR.group}/000001"
    assert cursors(third, None) == Step()
    assert cursors(third, "bbb").ended == "again"
    assert cursors(third, "ccc", "A1").ended == "again", "the records of the page before"


@given(st.integers(0, 40), st.integers(1, 40))
def test_a_circle_of_cursors_is_noticed_whatever_its_length(tail: int, circle: int) -> None:
    page, asked = CURSOR, 1
    while step := cursors(page, f"c{asked if asked < tail else tail + (asked - tail) % circle}"):
        if step.ended:
            break
        (page,) = step.followers
        page = Page.parse(page.id, page.payload())
        asked += 1
        assert asked <= 4 * (tail + circle) + 2
    assert step.ended == "again"


@given(st.integers(1, 300))
def test_cursors_that_never_repeat_are_never_taken_for_a_circle(length: int) -> None:
    page = CURSOR
    for number in range(1, length):
        step = cursors(page, f"c{number}")
        assert not step.ended
        (page,) = step.followers
    assert cursors(page, None) == Step()


@given(st.integers(0, 40), st.integers(1, 40))
def test_records_that_repeat_behind_new_cursors_are_noticed_too(tail: int, circle: int) -> None:
    page, asked = CURSOR, 1
    while True:
        record = asked if asked < tail else tail + (asked - tail) % circle
        step = cursors(page, f"new-{asked}", f"A{record}")
        if step.ended:
            break
        (page,) = step.followers
        asked += 1
        assert asked <= 4 * (tail + circle) + 2
    assert step.ended == "again"


def test_a_list_behind_cursors_that_goes_on_is_cut_once_and_then_ended() -> None:
    """100,000 audit records of a month are read in one pass, but a list without an end is cut."""
    page = replace(CURSOR, number=1_000, cursor="x")
    assert cursors(page, "y").followers[0].number == 1_001
    page = replace(CURSOR, number=1_199, cursor="x")
    step = cursors(page, "y")
    (part,) = step.followers
    assert (step.ended, part.number, part.cursor, part.splits) == ("split", 0, None, 128)
    step = cursors(replace(page, splits=128), "y")
    assert (step.ended, step.followers) == ("split", ())
    assert step.words


@pytest.mark.parametrize(("page", "total"), [(WINDOWED, None), (SNAPSHOT, None), (CHAIN, None)])
def test_a_list_that_repeats_itself_without_a_total_is_read_again_at_once(
    page: Page, total: None
) -> None:
    """Only its last pass is read as far as possible, and then ends."""
    first = listed(page, 100, True, total)
    (second,) = decide(page, first, PLAN).followers
    assert decide(second, first, PLAN).ended == "again"
    second, requests = replace(second, pass_=MAX_PASSES), 2
    while followers := decide(second, first, PLAN).followers:
        (second,) = followers
        requests += 1
    assert requests == 101
    assert decide(second, first, PLAN).ended == ""


def test_no_answer_opens_more_pages_than_others_could_bear() -> None:
    """This holds however long a list claims to be and however few records it serves. Later answers open the rest."""
    page, asked = SNAPSHOT, 1
    step = decide(page, listed(page, 2, True, 10**15), PLAN)
    while step.followers:
        assert len(step.followers) <= 128
        asked += len(step.followers)
        held = step.followers[-1]
        assert held.held
        held = Page.parse(held.id, held.payload())
        step = decide(held, listed(held, 2, True, 10**15), PLAN)
    assert asked == 501, "five times the pages of a full list"
    scraps, short = 0, at(WINDOWED, 100, 200)
    while followers := decide(short, listed(short, 1, True), PLAN).followers:
        (short,) = followers
        scraps += 1
    assert scraps == 12


def test_records_to_be_read_again_are_opened_some_at_a_time() -> None:
    ids = [f"P{n:05d}" for n in range(1_000)]
    last = {
        "run": "00000001", "sha256": "0" * 64, "covered": {}, "reached": "2026-02-28T00:00:00Z",
        "scheduled_at": "2026-02-28T00:00:00Z", "unsettled": {"incidents": ids}, "denied": {}, "sizes": {},
        "account": {"region": "us", "subdomain": "acme"},
        "credential": {"kind": "account"},
    }  # fmt: skip
    plan = make("incidents", last=last)
    pages = [page for page in first_pages(plan) if page.parent]
    assert len(pages) == 128
    asked = []
    while pages:
        page = pages.pop()
        asked.append(page.parent and page.parent["id"])
        answer = None if len(asked) % 7 == 0 else answer_to(page, 403)
        following = decide(Page.parse(page.id, page.payload()), answer, plan).onward
        assert len(following) <= 1
        pages += following
    assert sorted(filter(None, asked)) == ids


def test_a_page_that_is_too_slow_is_read_in_smaller_pages_and_then_in_halves_of_its_window() -> (
    None
):
    page = replace(WINDOWED, chain=(0, 3), pass_=2)
    for size in (50, 25, 10):
        slow = too_slow(page, PLAN)
        assert slow
        assert (slow.ended, slow.onward) == ("smaller", ())
        (page,) = slow.followers
        assert page.id == f"log_entries/{WINDOWED.window}.2s{size}/000000"
        assert (page.chain, page.limit) == ((0, 3), size)
        page = Page.parse(page.id, page.payload())
    lengths = []
    while slow := too_slow(page, PLAN):
        (page,) = slow.followers
        (last, *_) = page.rest[-1:]
        period = period_in(page.window)
        assert period
        lengths.append((period.until - period.since).total_seconds())
        assert (slow.ended, page.pass_, page.size, last[1]) == ("split", 1, 10, int(lengths[-1]))
    assert len(lengths) == 5
    answer = decide(page, listed(page, 10, True, 40), PLAN)
    (following,) = answer.onward
    after = period_in(following.window)
    assert after
    assert (after.until - after.since).total_seconds() == lengths[-1], "that size is kept"
    assert following.size == 10


def test_a_later_page_that_is_too_slow_ends_its_whole_pass() -> None:
    slow = too_slow(at(WINDOWED, 300, 400), PLAN)
    assert slow
    assert [(p.size, p.number, p.chain, p.rest) for p in slow.followers] == [(50, 0, None, ())]
    for page in (SNAPSHOT, MEMBERS, CHAIN, CURSOR):
        assert too_slow(page, PLAN)
    for page in (SNAPSHOT, MEMBERS, CHAIN):
        assert too_slow(replace(page, size=10), PLAN) is None
    assert too_slow(DETAIL, PLAN) is None
    assert too_slow(replace(WINDOWED, size=10, window=SECOND), PLAN) is None


LONG = make(days=365, budget=300)  # 100 pages for each of three feeds
FIRST = Page("audit_records", str(LONG.windows["audit_records"][0]), chain=(0, 0))
LOGS = Page("log_entries", str(LONG.windows["log_entries"][0]), chain=(0, 0))


@pytest.mark.parametrize(
    ("page", "answer", "following"),
    [
        (LOGS, listed(LOGS, 100, True, 250), (1, 3)),
        (LOGS, listed(LOGS, 0, False, 0), (1, 1)),
        (LOGS, listed(LOGS, 50, False, None), (1, 1)),
        (LOGS, listed(LOGS, 100, True, 9_900), (1, 99)),
        (LOGS, listed(LOGS, 100, True, 9_901), None),
        (replace(LOGS, chain=(4, 99)), listed(LOGS, 5, False, 5), None),
        (replace(LOGS, chain=(4, 98)), listed(LOGS, 5, False, 5), (5, 99)),
        (replace(LOGS, chain=(11, 0)), listed(LOGS, 5, False, 5), None),
        (replace(LOGS, chain=None), listed(LOGS, 5, False, 5), None),
        (LOGS, None, (1, 50)),
        (replace(LOGS, chain=(1, 50)), None, None),
        (LOGS, answer_to(LOGS, 400), (1, 1)),
        (LOGS, answer_to(LOGS, 402), None),
        (LOGS, answer_to(LOGS, 403), None),
        (LOGS, answer_to(LOGS, 404), None),
        (FIRST, answer_to(FIRST, records=[], next_cursor="more"), (1, 1)),
    ],
)
def test_the_next_window_opens_while_the_pages_planned_are_below_the_budget(
    page: Page, answer: Answer | None, following: tuple[int, int] | None
) -> None:
    onward = decide(page, answer, LONG).onward
    assert [p.chain for p in onward] == ([following] if following else [])
    for each in onward:
        assert each.chain
        assert each.window == str(LONG.windows[page.segment][each.chain[0]])
        assert each.first


def test_only_the_first_page_of_a_window_opens_the_next() -> None:
    """It does so whatever its result is. If its window is split or too slow, a follower does it instead."""
    for answer in (listed(LOGS, 100, True, 9_000), listed(LOGS, 0, True, 9_000)):
        step = decide(LOGS, answer, LONG)
        assert len(step.onward) == 1
        assert all(p.chain is None for p in step.followers)
    slow = too_slow(LOGS, LONG)
    assert slow
    assert [p.chain for p in slow.followers] == [LOGS.chain]
    (cut,) = decide(LOGS, listed(LOGS, 100, True, 30_000), LONG).followers
    assert cut.chain == LOGS.chain
    assert slow.onward == ()


def test_a_run_opens_with_every_list_and_the_records_to_read_again() -> None:
    last = {
        "account": {"region": "us", "subdomain": "acme"},
        "run": "00000001", "sha256": "0" * 64, "covered": {}, "reached": "2026-02-28T00:00:00Z",
        "scheduled_at": "2026-02-28T00:00:00Z", "unsettled": {"incidents": ["P1", "P2"], "old": ["X"]},
        "sizes": {}, "credential": {"kind": "account"}, "denied": {"incidents": {"P2": "2026-02-28T00:00:09.000000Z"}},
    }  # fmt: skip
    plan = make(last=last)
    ids = [page.id for page in first_pages(plan)]
    lists = [f"{s}/{plan.windows[s][0] if s in plan.windows else ALL}.1/000000" for s in FEEDS
             if FEEDS[s].list]  # fmt: skip
    assert ids == [*lists, "incidents/of-P1.1/000000", "incidents/of-P2.1/000000"]
    assert [p.denied_at for p in first_pages(plan)[-2:]] == [None, "2026-02-28T00:00:09.000000Z"]
    assert [p.id for p in first_pages(make(last=last, backfill=True))] == lists
    assert [p.chain for p in first_pages(plan) if p.segment in plan.windows][:3] == [(0, 0)] * 3


@pytest.mark.parametrize(
    ("page", "path", "params"),
    [
        (
            Page("incidents", SECOND),
            "/incidents",
            "sort_by=incident_number:asc time_zone=UTC since=2026-01-01T00:00:00Z "
            "until=2026-01-01T00:00:01Z limit=100 offset=0 total=true",
        ),
        (at(SNAPSHOT, 99, 199), "/teams", "limit=100 offset=99"),
        (at(SNAPSHOT, 197, 199), "/teams", "limit=2 offset=197"),
        (at(SNAPSHOT, 9999, 10_000, "held"), "/teams", "limit=1 offset=9999 total=true"),
        (CHAIN, "/v3/schedules", "limit=100 offset=0"),
        (
            Page("audit_records", SECOND),
            "/audit/records",
            "since=2026-01-01T00:00:00Z until=2026-01-01T00:00:01Z limit=100",
        ),
        (
            Page("audit_records", SECOND, number=4, cursor="a=&b"),
            "/audit/records",
            "since=2026-01-01T00:00:00Z until=2026-01-01T00:00:01Z limit=100 cursor=a=&b",
        ),
        (DETAIL, "/schedules/P1", "time_zone=UTC"),
        (
            Page("schedule_coverage", of("P1"), parent={"id": "P1"}),
            "/schedules/P1",
            "time_zone=UTC since=2025-11-21T00:00:00Z until=2026-03-01T00:00:00Z",
        ),
        (Page("incidents", of("Q9"), parent={"id": "Q9"}), "/incidents/Q9", ""),
        (
            Page("team_members", of("P_1-a"), parent={"id": "P_1-a"}),
            "/teams/P_1-a/members",
            "limit=100 offset=0 total=true",
        ),
    ],
)
def test_a_request_follows_pagerdutys_documentation(page: Page, path: str, params: str) -> None:
    request = request_of(page, PLAN)
    assert request.path == path
    assert " ".join(f"{name}={value}" for name, value in request.params) == params


@pytest.mark.parametrize("odd", ["..", ".", "", "../a?b#c", "%2E%2E", "a b", "a\nb", "\u00fc"])
def test_a_record_with_an_id_that_can_not_be_part_of_a_path_is_not_requested(odd: str) -> None:
    page = Page("team_members", of(odd), parent={"id": odd})
    assert not page.askable
    assert page.id.startswith("team_members/of-sha256-")
    with pytest.raises(ValueError, match="isn't plain"):
        request_of(page, PLAN)


OFFSETS = st.sampled_from([WINDOWED, replace(WINDOWED, window=SECOND), SNAPSHOT, CHAIN])


@given(st.data())
def test_no_answer_leads_to_a_request_past_the_cap(data: st.DataObject) -> None:
    """No request is for zero records, for records of another page, or has a time without a zone."""
    page = data.draw(OFFSETS)
    for _ in range(8):
        params = dict(request_of(page, PLAN).params)
        limit, offset = int(params["limit"]), int(params["offset"])
        assert 1 <= limit <= 100
        assert 0 <= offset <= offset + limit <= OFFSET_CAP
        assert (offset, min(offset + 100, page.end)) == (page.number, offset + limit)
        assert ("total" in params) == (
            page.call.paging is Paging.CLASSIC and (page.held or not offset)
        )
        for name in {"since", "until"} & params.keys():
            assert datetime.fromisoformat(params[name]).tzinfo
        count = data.draw(st.integers(0, limit) | st.just(limit) | st.just(5_000))
        total = data.draw(
            st.none() | st.integers(0, 40_000) | st.integers(9_990, 10_010) | st.just(2**53 - 1)
        )
        step = decide(
            page, listed(page, count, data.draw(st.booleans() | st.just(True)), total), PLAN
        )
        if not step.followers:
            break
        assert len(step.followers) <= 128
        later = [p for p in step.followers if p.group == page.group]
        assert all(p.number > page.number for p in later), "a page continues after itself"
        assert len({p.number for p in later}) == len(later)
        assert sum(p.held for p in later) <= 1
        page = data.draw(st.sampled_from([step.followers[0], step.followers[-1]]))


WINDOWS = st.just(ALL) | st.just(SECOND) | st.text(max_size=40).map(of)
PARENTS = st.none() | st.fixed_dictionaries(
    {"id": st.text()}, optional={"type": st.text(), "summary": st.text() | st.none()}
)
PAGES = st.builds(
    Page,
    segment=st.sampled_from(list(FEEDS)),
    window=WINDOWS,
    pass_=st.integers(1, 3),
    number=st.integers(0, 999_999),
    end=st.integers(1, OFFSET_CAP),
    held=st.booleans(),
    cursor=st.none() | st.text(),
    mark=st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
    parent=PARENTS,
    chain=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 10**6)),
    size=st.sampled_from(PAGE_SIZES),
    cuts=st.booleans(),
    nth=st.integers(0, 5_000),
    rest=st.lists(st.tuples(st.just(SECOND), st.integers(0, 10**7)), max_size=3).map(tuple),
    splits=st.integers(0, 128),
)  # fmt: skip


@given(PAGES)
def test_a_page_is_read_back_from_its_id_and_payload_with_only_the_id_of_its_parent(
    page: Page,
) -> None:
    parent = page.parent and {"id": page.parent["id"]}
    assert Page.parse(page.id, page.payload()) == replace(page, parent=parent)
    assert page.id.startswith(f"{page.group}/")
    assert page.id.count("/") == 2


@given(PAGES)
def test_most_pages_need_no_payload(page: Page) -> None:
    plain = Page(page.segment, page.window, page.pass_, page.number, size=page.size)
    assert plain.payload() == ""
    assert (page == plain) == (page.payload() == "")


GOOD: dict[str, Any] = {"teams": [{"id": "P1"}, {"id": "P2"}], "more": False}


@pytest.mark.parametrize(
    ("page", "data"),
    [
        (SNAPSHOT, None),
        (SNAPSHOT, []),
        (SNAPSHOT, "teams"),
        (SNAPSHOT, {}),
        (SNAPSHOT, {"team": []}),
        (SNAPSHOT, {"teams": None}),
        (SNAPSHOT, {"teams": {}}),
        (SNAPSHOT, {"teams": {"id": "P1"}}),
        (SNAPSHOT, {"teams": "P1"}),
        (SNAPSHOT, {"teams": [None]}),
        (SNAPSHOT, {"teams": [["P1"]]}),
        (SNAPSHOT, {"teams": [{"name": "no id"}]}),
        (SNAPSHOT, {"teams": [{"id": None}]}),
        (SNAPSHOT, {"teams": [{"id": ""}]}),
        (SNAPSHOT, {"teams": [{"id": 7}]}),
        (SNAPSHOT, GOOD | {"total": "many"}),
        (SNAPSHOT, GOOD | {"total": 2.0}),
        (SNAPSHOT, GOOD | {"total": [2]}),
        (SNAPSHOT, GOOD | {"total": True}),
        (SNAPSHOT, GOOD | {"total": -1}),
        (SNAPSHOT, GOOD | {"total": 2**53}),
        (SNAPSHOT, GOOD | {"total": 10**30}),
        (SNAPSHOT, {"teams": [{"id": "P" * 1_025}]}),
        (CURSOR, {"records": [], "next_cursor": "c" * 4_097}),
        (CURSOR, {"records": [], "next_cursor": 5}),
        (CURSOR, {"records": [], "next_cursor": {}}),
        (DETAIL, {"schedule": None}),
        (DETAIL, {"schedule": [{"id": "P1"}]}),
        (DETAIL, {"schedule": {}}),
    ],
)
def test_an_answer_of_another_shape_is_none(page: Page, data: Any) -> None:
    assert not well_formed(page, Answer(200, NOW, data, {}))
    assert well_formed(page, Answer(404, NOW, data, {})), "errors come in any shape"


@pytest.mark.parametrize(
    ("page", "data"),
    [
        (SNAPSHOT, GOOD),
        (SNAPSHOT, {"teams": []}),
        (SNAPSHOT, GOOD | {"total": None, "unknown": object()}),
        (SNAPSHOT, GOOD | {"total": 2, "more": None}),
        (MEMBERS, {"members": [{"user": {"id": "U"}, "role": "manager"}]}),
        (CURSOR, {"records": [{"id": "A"}], "next_cursor": "x"}),
        (DETAIL, {"schedule": {"id": "P1"}}),
    ],
)
def test_fields_that_no_decision_needs_may_be_anything(page: Page, data: Any) -> None:
    assert well_formed(page, Answer(200, NOW, data, {}))


TEAM = {
    "id": "T1", "type": "team", "name": "Ops", "summary": "Ops", "self": "https://x", "html_url": None,
    "description": "not part of a reference",
}  # fmt: skip
REFERENCE = {
    "id": "T1", "type": "team_reference", "summary": "Ops", "self": "https://x", "html_url": None,
}  # fmt: skip


def test_children_know_their_parent_and_carry_it_in_their_records() -> None:
    feeds = children_of("teams", [FEEDS["team_members"]])
    (page,) = child_pages(feeds, [TEAM], PLAN)
    assert (page.id, page.parent) == ("team_members/of-T1.1/000000", REFERENCE)
    (again_,) = child_pages(feeds, [TEAM | {"type": "team_reference"}], PLAN)
    assert again_ == page
    answer = answer_to(page, members=[{"user": {"id": "U1"}, "role": "manager"}])
    ((key, line),) = lines(page, answer)
    assert json.loads(line) == {"user": {"id": "U1"}, "role": "manager", "team": REFERENCE}
    assert key == "T1\x00U1"


@pytest.mark.parametrize(
    ("page", "total", "opened", "ahead"),
    [
        (SNAPSHOT, 30, False, 30),
        (SNAPSHOT, 10**15, False, 10_000),  # a list of members for each team
        (SNAPSHOT, 0, False, 0),
        (SNAPSHOT, None, False, None),
        (SNAPSHOT, 30, True, 0),
        (at(SNAPSHOT, 99, 199), 200, False, None),  # foreseen from the first page only
        (Page("schedules", ALL), 7, False, 14),  # the definition of each, and its rendering
        (DETAIL, None, True, None),
        (WINDOWED, 30, False, None),
    ],
)
def test_the_requests_for_the_records_of_a_list_are_foreseen(
    page: Page, total: int | None, opened: bool, ahead: int | None
) -> None:
    answer = listed(page, 1, more=True, total=total) if page != DETAIL else None
    assert children_ahead(page, answer, PLAN, opened=opened) == ahead


def test_lists_and_cursors_are_of_unknown_length_until_they_end() -> None:
    assert [page.unsure for page in (WINDOWED, SNAPSHOT, CHAIN, CURSOR)] == [True] * 4
    assert [at(page, 100, 200).unsure for page in (CHAIN, CURSOR)] == [True] * 2
    assert [page.unsure for page in (at(WINDOWED, 100, 200), DETAIL)] == [False] * 2


def test_only_the_details_are_records_in_a_resource_with_details() -> None:
    page = Page("schedules", ALL)
    assert list(lines(page, answer_to(page, schedules=[{"id": "P1"}]))) == []
    assert served(page, answer_to(page, schedules=[{"id": "P1"}])) == [{"id": "P1"}]
    detail = answer_to(DETAIL, schedule={"id": "P1", "type": "schedule"})
    assert list(lines(DETAIL, detail)) == [("schedule\x00P1", b'{"id":"P1","type":"schedule"}\n')]
    assert list(lines(DETAIL, answer_to(DETAIL, 404))) == []


@pytest.mark.parametrize(
    ("segment", "record", "key"),
    [
        ("teams", {"id": "T1", "name": "a"}, "T1"),
        ("schedules", {"id": "P1", "type": "schedule"}, "schedule\x00P1"),
        ("schedules.shift", {"id": "P1", "type": "schedule_v3"}, "schedule_v3\x00P1"),
        ("team_members", {"team": {"id": "T"}, "user": {"id": "U"}}, "T\x00U"),
    ],
)
def test_the_catalog_says_which_fields_identify_a_record(
    segment: str, record: dict[str, Any], key: str
) -> None:
    assert identity(segment, record) == key


@pytest.mark.parametrize(
    "record",
    [
        {"team": {"id": "T"}, "user": None},
        {"team": {"id": "T"}, "user": "U"},
        {"team": {"id": "T"}},
        {"team": {"id": None}, "user": {"id": "U"}, "n": 2**80},
    ],
)
def test_a_record_without_its_key_is_identified_by_its_content(record: dict[str, Any]) -> None:
    key = identity("team_members", record)
    assert len(key) == 64
    assert identity("team_members", dict(reversed(record.items()))) == key
    assert identity("team_members", record | {"role": "manager"}) != key


def test_pages_of_a_period_are_named_as_the_storage_layout_says() -> None:
    page = Page("incidents", str(Period.parse("20260801T000000Z_20260901T000000Z")), 2, 100)
    assert page.id == "incidents/20260801T000000Z_20260901T000000Z.2/000100"


def test_every_page_of_the_on_calls_is_about_the_same_moment_and_counts_against_its_class() -> None:
    page = Page("oncalls", ALL, number=99, end=199)
    moment = f"{PLAN.period.until:%FT%TZ}"
    request = request_of(page, PLAN)
    assert dict(request.params) == {
        "time_zone": "UTC", "since": moment, "until": moment, "limit": "100", "offset": "99",
    }  # fmt: skip
    assert request.endpoint_class == "oncalls"
    assert request_of(SNAPSHOT, PLAN).endpoint_class == ""
