"""The proof in a reading of a window. Pages are read in any order, from lists that change and lists that don't."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reading import proofs
from tasks.reading.answers import Answer
from tasks.reading.beginnings import first_pages
from tasks.reading.catalog import FEEDS, Paging
from tasks.reading.pages import Page, Request, request_of
from tasks.reading.paging import too_slow
from tasks.reading.proofs import ProofState, Reading, Verdict, glance, prove, read_pass, walk
from tasks.reading.sealed import Proof
from tasks.reading.windows import ALL, of, period_in
from tests.lists_model import NOW, Fleet, Lists, answer_to, make, named, record

PATHS = {
    "log_entries": "/log_entries",
    "teams": "/teams",
    "schedules": "/v3/schedules",
    "audit_records": "/audit/records",
}


def lists(path: str, count: int, **more: Any) -> Lists:
    """Return an account with *count* records in one list, and nothing in the others."""
    others = {"/log_entries": [], "/teams": [], "/schedules": [], "/v3/schedules": [],
              "/audit/records": []}  # fmt: skip
    return Lists({**others, path: [record(n) for n in range(count)]}, **more)


def spread(path: str, count: int) -> Lists:
    """Return the same account, with its records spread evenly over twenty days."""
    model = lists(path, count)
    for number, each in enumerate(model.records[path]):
        each["made"] = NOW - timedelta(days=20) * ((number + 0.5) / count)
    return model


def least(count: int, served: int, *, overlap: bool) -> int:
    """Return the fewest requests that can prove a list."""
    if count <= served:
        return 1
    stride = served - overlap
    return 1 + -(-(count - served) // stride)


def check_replay(fleet: Fleet) -> None:
    """Check that the sealer finds exactly the readings of the fleet."""
    readings = fleet.readings
    asked = {page.id for page, _ in fleet.asked}
    told = [page.id for reading in readings for page, _ in reading.pages]
    assert len(set(told)) == len(told)
    # After a pass was given up, nothing shows which of its pages were requested in vain.
    lost = {
        page.id
        for reading in readings
        for page, seen in reading.pages
        if seen is None and reading.verdict.state is ProofState.SUPERSEDED
    }
    assert set(told) - lost <= asked
    settled = {r.first.group for r in readings if r.verdict.state is not ProofState.SUPERSEDED}
    assert {i for i in asked if i.rpartition("/")[0] in settled} <= set(told)
    assert max(reading.first.pass_ for reading in readings) <= 3
    again = Counter((r.first.segment, r.first.window, r.first.size) for r in readings)
    assert max(again.values()) <= 3


@given(
    st.sampled_from(list(PATHS)),
    st.integers(0, 30) | st.integers(0, 450),
    st.integers(2, 9) | st.just(100),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_a_list_that_does_not_change_is_proved_with_the_fewest_requests(
    resource: str, count: int, served: int, totals: bool, seed: int
) -> None:
    path = PATHS[resource]
    count = min(count, 40 * served)
    model = lists(path, count, served=served, totals=totals and "v3" not in path)
    fleet = Fleet(make(resource, days=20), model.answer, dice=random.Random(seed)).run()
    check_replay(fleet)
    assert {r.verdict.state for r in fleet.readings} == {ProofState.PROVED}
    (reading,) = (r for r in fleet.readings if r.first.call.path == path)
    paged = reading.first.call.paging is Paging.CLASSIC
    assert reading.keys == {r["id"] for r in model.records[path]}
    told = count if totals and paged else None
    assert (reading.verdict.total, reading.verdict.unique) == (told, count)
    assert reading.verdict.proof
    assert (reading.verdict.proof.total, reading.verdict.proof.unique) == (told, count)
    cursor = resource == "audit_records"
    overlap = resource in ("teams", "schedules") or (resource == "log_entries" and not totals)
    assert model.requests[path] == least(count, served, overlap=overlap and not cursor)
    if resource == "schedules":
        details = {r.first.parent["id"] for r in fleet.readings if r.first.parent}
        assert details == reading.keys
        assert model.requests.total() == model.requests[path] + 1 + count


@given(
    st.sampled_from(["log_entries", "teams", "schedules"]),
    st.integers(1, 120),
    st.integers(3, 12),
    st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_a_list_served_in_pages_of_any_size_is_proved(
    resource: str, count: int, served: int, seed: int
) -> None:
    """Short pages cost more requests, but lose no record."""
    dice = random.Random(seed)
    model = lists(PATHS[resource], count)

    def ask(page: Page, request: Request) -> Answer:
        model.served = served if page.first else dice.randint(2, served)
        return model.answer(page, request)

    fleet = Fleet(make(resource, days=20), ask, dice=dice).run()
    check_replay(fleet)
    assert {r.verdict.state for r in fleet.readings} == {ProofState.PROVED}
    (reading,) = (r for r in fleet.readings if r.first.call.path == PATHS[resource])
    assert reading.keys == {r["id"] for r in model.records[PATHS[resource]]}


class Restless:
    """An account that people work in, so something may change before each request."""

    def __init__(self, model: Lists, path: str, restless: float, dice: random.Random) -> None:
        self.model, self.path = model, path
        self.restless, self.dice = restless, dice
        self.touched: set[str] = set()
        self._next = 1_000

    def answer(self, page: Page, request: Request) -> Answer:
        """Make some changes, then answer."""
        while self.dice.random() < self.restless:
            self.change()
        return self.model.answer(page, request)

    def change(self) -> None:
        """Insert a record, or delete, rename or recreate one."""
        records = self.model.records[self.path]
        what = self.dice.choice(["insert", "delete", "rename", "name back"])
        if what == "insert" or not records:
            self._next += 1
            new = named(record(self._next), self.dice.randrange(1_000))
            self.touched.add(new["id"])
            records.append(new)
            return
        chosen = self.dice.choice(records)
        self.touched.add(chosen["id"])
        if what == "delete":
            records.remove(chosen)
        elif what == "rename":
            named(chosen, self.dice.randrange(1_000))
        else:
            named(chosen, int(chosen["id"][1:]))


@given(
    st.sampled_from(["teams", "schedules"]),
    st.integers(1, 60),
    st.integers(2, 12),
    st.sampled_from([0.02, 0.1, 0.3, 0.6]),
    st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_a_proved_reading_of_a_changing_list_has_every_record_that_was_there_all_the_time(
    resource: str, count: int, served: int, restless: float, seed: int
) -> None:
    path, dice = PATHS[resource], random.Random(seed)
    model = lists(path, count, served=served, totals="v3" not in path)
    people = Restless(model, path, restless, dice)
    fleet = Fleet(make(resource, days=20), people.answer, dice=dice).run()
    check_replay(fleet)
    stable = {r["id"] for r in model.records[path]} - people.touched
    for reading in fleet.settled:
        if reading.first.call.path == path and reading.verdict.state is ProofState.PROVED:
            assert reading.keys >= stable
    if not people.touched:
        assert {r.verdict.state for r in fleet.readings} == {ProofState.PROVED}


@given(
    st.sampled_from(list(PATHS)),
    st.integers(0, 60),
    st.integers(2, 12),
    st.floats(0.05, 0.9),
    st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_nothing_is_proved_while_a_page_is_missing(
    resource: str, count: int, served: int, failing: float, seed: int
) -> None:
    dice = random.Random(seed)
    path = PATHS[resource]
    model = lists(path, count, served=served, totals="v3" not in path)

    def ask(page: Page, request: Request) -> Answer | None:
        return None if dice.random() < failing else model.answer(page, request)

    fleet = Fleet(make(resource, days=20), ask, dice=dice).run()
    check_replay(fleet)
    for reading in fleet.settled:
        lacking = any(seen is None for _, seen in reading.pages)
        assert lacking == (reading.verdict.state is not ProofState.PROVED)
        if lacking:
            assert reading.verdict.reason == "error"
            assert "could not be read" in reading.verdict.words


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(("count", "parts"), [(10_000, 1), (10_001, 2), (15_001, 2), (31_000, 4)])
def test_a_window_over_the_cap_is_read_in_parts(count: int, parts: int, newest_first: bool) -> None:
    """Each part is cut at the last offset that can be requested, so all parts except the last are almost full."""
    model = spread("/log_entries", count)
    if newest_first:
        model.records["/log_entries"].reverse()
    fleet = Fleet(make("log_entries", days=20), model.answer).run()
    check_replay(fleet)
    assert [r.verdict.state for r in fleet.settled] == [ProofState.PROVED] * parts
    found = [key for reading in fleet.settled for key in fleet.records(reading)]
    assert len(found) == len(set(found)) == count
    fewest = sum(-(-len(reading.keys) // 100) for reading in fleet.settled)
    assert model.requests.total() == fewest + 2 * (parts - 1)
    assert model.requests.total() <= 1.04 * count / 100


def test_records_that_crowd_into_an_hour_cost_hardly_more_than_others() -> None:
    """20,000 of 30,000 records take at most 4 % more requests than full pages would."""
    model = spread("/log_entries", 30_000)
    hour = NOW - timedelta(days=7)
    for number, each in enumerate(model.records["/log_entries"][9_000:29_000]):
        each["made"] = hour + timedelta(seconds=3_600 * number / 20_000)
    model.records["/log_entries"].sort(key=lambda each: each["made"])
    fleet = Fleet(make("log_entries", days=20), model.answer).run()
    check_replay(fleet)
    assert {r.verdict.state for r in fleet.settled} == {ProofState.PROVED}
    assert sum(len(r.keys) for r in fleet.settled) == 30_000
    assert model.requests.total() <= 1.04 * 300


def test_a_list_without_an_order_is_read_in_more_parts_and_still_proved() -> None:
    model = spread("/log_entries", 12_000)
    random.Random(1).shuffle(model.records["/log_entries"])
    fleet = Fleet(make("log_entries", days=20), model.answer).run()
    check_replay(fleet)
    assert {r.verdict.state for r in fleet.settled} == {ProofState.PROVED}
    assert sum(len(r.keys) for r in fleet.settled) == 12_000


@pytest.mark.parametrize("resource", ["teams", "schedules", "log_entries"])
def test_the_readable_part_of_a_list_over_the_cap_is_read_once(resource: str) -> None:
    path = PATHS[resource]
    model = lists(path, 10_500, totals="v3" not in path)
    second = NOW - timedelta(seconds=1)
    model.records[path] = [each | {"made": second} for each in model.records[path]]
    plan = make(resource, days=1 / 86_400)
    (first,) = (page for page in first_pages(plan) if page.call.path == path)
    reading = read_pass(first, plan, lambda page: model.answer(page, request_of(page, plan)))
    assert (reading.verdict.state, reading.verdict.reason) == (ProofState.PARTIAL, "unproved")
    assert "record 10000" in reading.verdict.words
    assert len(reading.keys) == 10_000
    assert model.requests[path] == (100 if resource == "log_entries" else 101)
    assert all(page.parent for page in reading.followers)


@given(st.floats(0.7, 30), st.integers(0, 400), st.integers(0, 2**32))
@settings(max_examples=30)
def test_windows_that_are_too_slow_are_read_in_smaller_ones(
    days: float, count: int, seed: int
) -> None:
    """The larger windows have no stored answer. The sealer finds out from the answers of the smaller ones."""
    model = spread("/log_entries", count)

    def slow(page: Page) -> bool:
        period = period_in(page.window)
        return period is not None and period.until - period.since > timedelta(days=days)

    fleet = Fleet(
        make("log_entries", days=20), model.answer, slow=slow, dice=random.Random(seed)
    ).run()
    assert {r.verdict.state for r in fleet.settled} == {ProofState.PROVED}
    found = [key for reading in fleet.settled for key in fleet.records(reading)]
    assert sorted(found) == sorted(each["id"] for each in model.records["/log_entries"])


@given(
    st.sampled_from(list(PATHS)),
    st.sampled_from([100, 60, 50, 25, 10]),
    st.integers(0, 400),
    st.integers(0, 2**32),
)
@settings(max_examples=40)
def test_lists_that_are_too_slow_are_read_in_smaller_pages(
    resource: str, most: int, count: int, seed: int
) -> None:
    """This holds even if only one page is slow. Pages are never smaller than necessary."""
    model, dice = lists(PATHS[resource], count, totals=resource != "schedules"), random.Random(seed)
    slow: dict[str, bool] = {}

    def is_slow(page: Page) -> bool:
        large = page.size > most and page.call.path == PATHS[resource]
        return slow.setdefault(page.id, large and (page.size == 100 or dice.random() < 0.9))

    fleet = Fleet(make(resource, days=20), model.answer, slow=is_slow, dice=dice).run()
    check_replay(fleet)
    assert {r.verdict.state for r in fleet.settled} == {ProofState.PROVED}
    (reading,) = (r for r in fleet.settled if r.first.call.path == PATHS[resource])
    assert reading.keys == {r["id"] for r in model.records[PATHS[resource]]}
    fitting = max(size for size in (100, 50, 25, 10) if size <= most)
    assert fitting <= reading.first.size <= max(50, fitting)
    assert {
        request.params for page, request in fleet.asked if page.size < reading.first.size
    } == set()


def test_a_list_that_is_never_answered_ends_after_all_sizes_and_five_halvings() -> None:
    fleet = Fleet(make("log_entries", days=20), lambda *_: None, slow=lambda page: True)
    fleet.slow = lambda page: too_slow(page, fleet.plan) is not None
    fleet.run()
    assert len(fleet.asked) == 1 + 3 + 5
    (reading,) = fleet.readings
    assert (reading.verdict.state, reading.verdict.reason) == (ProofState.FAILED, "error")


def test_one_slow_quarter_of_an_hour_does_not_cut_a_month_into_quarters_of_an_hour() -> None:
    """A crowded hour is cut into short windows, and one of them is too slow. The windows around it stay long."""
    hour = NOW - timedelta(hours=1)
    crowd = [record(n, made=hour - timedelta(seconds=n / 10)) for n in range(60, 24_060)]
    model = Lists({"/log_entries": [*(record(n) for n in range(60)), *crowd]})
    slow: set[str] = set()

    def is_slow(page: Page) -> bool:
        period = period_in(page.window)
        tiny = period is not None and period.until - period.since < timedelta(minutes=20)
        if tiny and (not slow or page.window in slow):
            slow.add(page.window)
            return True
        return False

    fleet = Fleet(make("log_entries", days=20), model.answer, slow=is_slow, dice=random.Random(1))
    fleet.run(len(crowd) // 10 + 200)
    assert len(slow) == 1, "one window was too slow in each size"
    assert {r.verdict.state for r in fleet.settled} == {ProofState.PROVED}
    found = {key for reading in fleet.settled for key in fleet.records(reading)}
    assert found == {each["id"] for each in model.records["/log_entries"]}


WINDOW = str(make("log_entries", days=20).windows["log_entries"][0])
WINDOWED, SNAPSHOT, CHAIN = (
    Page("log_entries", WINDOW),
    Page("teams", ALL),
    Page("schedules.shift", ALL),
)
CURSOR = Page("audit_records", WINDOW)
DETAIL = Page("schedules", of("P1"), parent={"id": "P1"})
MEMBERS = Page("team_members", of("T1"), parent={"id": "T1"})
UNSETTLED = Page("incidents", of("P1"), parent={"id": "P1"})


def told(*pages: tuple[Page, Answer | None]) -> Verdict:
    """Return the proof of these pages, which are all of one pass."""
    seen = [
        (page, glance(page, answer, parents=False) if answer else None) for page, answer in pages
    ]
    return prove(Reading(pages[0][0], seen))


def served(page: Page, number: int, ids: str, **data: Any) -> tuple[Page, Answer]:
    """Return a page and its answer. Each letter is the id of a record, whose name is the lower-case letter."""
    found = [{"id": sign, "name": sign.lower(), "summary": sign.lower()} for sign in ids]
    at = replace(page, number=number)
    return at, answer_to(at, **{page.call.wrapper: found}, **data)


@pytest.mark.parametrize(
    ("page", "status", "state", "reason"),
    [
        (SNAPSHOT, 402, ProofState.UNAVAILABLE, "plan"),
        (SNAPSHOT, 403, ProofState.UNAVAILABLE, "role"),
        (SNAPSHOT, 404, ProofState.FAILED, "error"),
        (SNAPSHOT, 400, ProofState.FAILED, "error"),
        (CURSOR, 400, ProofState.FAILED, "error"),
        (DETAIL, 404, ProofState.PARTIAL, "vanished"),
        (DETAIL, 403, ProofState.UNAVAILABLE, "role"),
        (MEMBERS, 404, ProofState.PARTIAL, "vanished"),
        (UNSETTLED, 404, ProofState.PROVED, "denied"),
    ],
)
def test_an_error_is_the_verdict_of_its_list_in_pagerdutys_words(
    page: Page, status: int, state: ProofState, reason: str
) -> None:
    verdict = told((page, answer_to(page, status)))
    assert (verdict.state, verdict.reason, verdict.words) == (state, reason, f"said {status}")


def test_an_error_without_words_is_described_by_its_status() -> None:
    answer = replace(answer_to(SNAPSHOT, 418), words="")
    assert told((SNAPSHOT, answer)).words == "PagerDuty answered 418 and did not say why"


def test_a_record_that_could_not_be_asked_for_because_of_its_id_is_named_so() -> None:
    verdict = told((Page("team_members", of(".."), parent={"id": ".."}), None))
    assert (verdict.state, verdict.reason) == (ProofState.FAILED, "error")
    assert "an id that can't be part of a request" in verdict.words


def test_a_documented_gate_behind_404_is_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FEEDS, "teams", replace(FEEDS["teams"], missing_means_plan=True))
    assert told((SNAPSHOT, answer_to(SNAPSHOT, 404))).reason == "plan"


A_TO_C = served(WINDOWED, 0, "ABC", more=True, total=5)
D_AND_E = served(WINDOWED, 3, "DE", more=False, total=5)


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([served(WINDOWED, 0, "", more=False)], ""),
        ([served(WINDOWED, 0, "ABC", more=False, total=3)], ""),
        ([served(WINDOWED, 0, "ABC", more=False, total=5)], "total was 5, then 5; 3 different"),
        ([served(WINDOWED, 0, "", more=False, total=1)], "total was 1, then 1; 0 different"),
        ([served(SNAPSHOT, 0, "AAB", more=False, total=3)], "total was 3, then 3; 2 different"),
        ([A_TO_C, D_AND_E], ""),
        ([D_AND_E, A_TO_C], ""),
        ([A_TO_C, served(WINDOWED, 3, "DE", more=False, total=6)], "total was 5, then 6; 5 different"),
        ([A_TO_C, served(WINDOWED, 3, "D", more=False, total=5)], "then 5; 4 different"),
        ([A_TO_C, served(WINDOWED, 3, "CD", more=False, total=5)], "then 5; 4 different"),
        ([A_TO_C, served(WINDOWED, 3, "DEF", more=False, total=5)], "then 5; 6 different"),
        ([A_TO_C, served(WINDOWED, 3, "DE", more=False)], "then None"),
        ([A_TO_C, served(WINDOWED, 3, "DE", more=True, total=5)], "goes on past record 5,"),
        ([served(WINDOWED, 0, "ABC", more=True), served(WINDOWED, 2, "CDE", more=False)], ""),
        ([served(WINDOWED, 0, "ABC", more=True), served(WINDOWED, 2, "DE", more=False)], "list moved"),
        (
            [served(SNAPSHOT, 0, "ABC", more=True, total=4), served(SNAPSHOT, 2, "CD", more=False, total=4)],
            "",
        ),
        (
            [served(SNAPSHOT, 0, "ABC", more=True, total=4), served(SNAPSHOT, 2, "D", more=False, total=4)],
            "list moved",
        ),
        (
            [served(SNAPSHOT, 0, "ABC", more=True, total=4), served(SNAPSHOT, 2, "", more=False, total=4)],
            "list moved",
        ),
        (
            [served(SNAPSHOT, 0, "ABC", more=True, total=4), served(SNAPSHOT, 2, "CD", more=False, total=5)],
            "total was 4, then 5",
        ),
        ([served(WINDOWED, 0, "ABC")], "doesn't say whether more"),
        ([served(WINDOWED, 0, "ABC", more=None)], "doesn't say whether more"),
        ([served(WINDOWED, 0, "ABC", total=3)], ""),
        ([served(SNAPSHOT, 0, "ABC", total=2)], "total was 2"),
        ([served(CHAIN, 0, "ABC", more=True), served(CHAIN, 2, "CD")], "doesn't say whether more"),
        ([served(CURSOR, 0, "AB", next_cursor="x"), served(CURSOR, 1, "C")], "doesn't say whether more"),
        ([served(CHAIN, 0, "ABC", more=True), served(CHAIN, 2, "CD", more=False)], ""),
        ([served(CHAIN, 0, "ABC", more=True), served(CHAIN, 2, "BD", more=False)], "list moved"),
        ([served(CURSOR, 0, "AB", next_cursor="x"), served(CURSOR, 1, "C", next_cursor=None)], ""),
        ([served(CURSOR, 0, "AB", next_cursor="x"), served(CURSOR, 1, "", next_cursor=None)], ""),
        ([served(CURSOR, 0, "AB", next_cursor="x"), served(CURSOR, 1, "BC", next_cursor=None)], ""),
        ([served(CURSOR, 0, "", next_cursor=None)], ""),
        (
            [served(CURSOR, 0, "AB", next_cursor="x"), served(CURSOR, 1, "BA", next_cursor=None)],
            "page 1 brought nothing new",
        ),
        (
            [served(CURSOR, 0, "", next_cursor="x"), served(CURSOR, 1, "A", next_cursor=None)],
            "page 0 brought nothing new",
        ),
    ],
)  # fmt: skip
def test_a_pass_is_proved_or_it_says_why_not(pages: list[tuple[Page, Answer]], words: str) -> None:
    verdict = told(*pages)
    if words:
        assert (verdict.state, verdict.reason) == (ProofState.PARTIAL, "unproved")
        assert words in verdict.words
    else:
        assert (verdict.state, verdict.reason, verdict.words) == (ProofState.PROVED, "", "")
    assert verdict.unique == len({key for _, answer in pages for key in _ids(answer)})


def _ids(answer: Answer) -> list[str]:
    return [r["id"] for found in answer.data.values() if isinstance(found, list) for r in found]


def test_pages_overlap_only_in_a_record_that_kept_its_place() -> None:
    """A record that was renamed may have moved, so it doesn't show that the pages overlap."""
    page, answer = served(SNAPSHOT, 2, "CD", more=False, total=4)
    answer.data["teams"][0]["name"] = "another"
    assert "moved" in told(served(SNAPSHOT, 0, "ABC", more=True, total=4), (page, answer)).words


@pytest.mark.parametrize(
    ("date", "state"),
    [
        (NOW, ProofState.PROVED),
        (NOW + timedelta(hours=1), ProofState.PROVED),
        (NOW - timedelta(seconds=1), ProofState.PARTIAL),
        (None, ProofState.PARTIAL),
    ],
)
def test_with_cursors_only_a_period_that_is_over_can_be_proved(
    date: datetime | None, state: ProofState
) -> None:
    """The newest records come first, so a record that is written after the first page was read is on no page."""
    page, answer = served(CURSOR, 0, "A", next_cursor=None)
    assert told((page, replace(answer, date=date))).state is state


@pytest.mark.parametrize(
    ("answers", "state", "words"),
    [
        ([None], ProofState.FAILED, "1 of 1 pages"),
        ([None, None], ProofState.FAILED, "2 of 2 pages"),
        ([A_TO_C[1], None], ProofState.PARTIAL, "1 of 2 pages"),
        ([None, D_AND_E[1]], ProofState.PARTIAL, "1 of 2 pages"),
    ],
)
def test_pages_that_could_not_be_read_are_counted(
    answers: list[Answer | None], state: ProofState, words: str
) -> None:
    pages = [(replace(WINDOWED, number=3 * n), answer) for n, answer in enumerate(answers)]
    verdict = told(*pages)
    assert (verdict.state, verdict.reason) == (state, "error")
    assert verdict.words.startswith(words)


def test_records_without_an_id_are_told_apart_by_their_references() -> None:
    page = MEMBERS
    users = [{"user": {"id": f"U{n}"}, "role": "manager"} for n in range(3)]
    first = answer_to(page, members=users, more=True, total=4)
    second = answer_to(page, members=[users[2], {"user": {"id": "U3"}}], more=False, total=4)
    verdict = told((page, first), (replace(page, number=2), second))
    assert (verdict.state, verdict.unique) == (ProofState.PROVED, 4)


def test_a_list_that_keeps_changing_is_partial_after_three_passes() -> None:
    model = lists("/teams", 30, served=10)
    people = Restless(model, "/teams", 0.97, random.Random(5))
    fleet = Fleet(make("teams", "team_members"), people.answer, dice=random.Random(5)).run()
    passes = [r for r in fleet.readings if r.first.segment == "teams"]
    assert [(r.first.pass_, r.verdict.state) for r in passes] == [
        (1, ProofState.SUPERSEDED),
        (2, ProofState.SUPERSEDED),
        (3, ProofState.PARTIAL),
    ]
    assert passes[-1].verdict.reason == "unproved"
    assert passes[-1].verdict.unique == len(passes[-1].keys)
    members = [r.first.parent["id"] for r in fleet.settled if r.first.parent]
    assert sorted(members) == sorted(passes[-1].keys), "each record of the last pass, once"


def test_a_list_of_more_parents_than_can_be_opened_at_once_is_partial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proofs, "MOST_PARENTS", 20)
    fleet = Fleet(make("teams", "team_members"), lists("/teams", 30).answer).run()
    [teams] = [r for r in fleet.settled if r.first.segment == "teams"]
    assert (teams.verdict.state, teams.verdict.reason) == (ProofState.PARTIAL, "unproved")
    assert teams.verdict.words == "more than 20 records, and only so many are looked into"
    assert len([r for r in fleet.settled if r.first.parent]) == 20


def test_a_pass_that_ends_in_the_middle_for_the_third_time_keeps_its_records() -> None:
    def ask(page: Page, _request: Request) -> Answer:
        if page.first:
            return served(SNAPSHOT, 0, "ABC", more=True, total=9)[1]
        return answer_to(page, teams=[], more=True)

    fleet = Fleet(make("teams"), ask).run()
    *_, last = fleet.readings
    assert last.verdict == Verdict(
        ProofState.PARTIAL, "unproved", "read 3 times, different each time", unique=3
    )
    assert len(fleet.asked) >= 6


def test_a_cursor_that_expires_starts_its_window_again() -> None:
    model = lists("/audit/records", 50, served=10)

    def ask(page: Page, request: Request) -> Answer:
        expired = page.pass_ == 1 and page.number == 3
        return answer_to(page, 400) if expired else model.answer(page, request)

    fleet = Fleet(make("audit_records", days=20), ask).run()
    assert [r.verdict.state for r in fleet.readings] == [ProofState.SUPERSEDED, ProofState.PROVED]
    assert len(fleet.readings[1].keys) == 50


@given(st.integers(0, 3), st.integers(1, 5))
def test_cursors_in_a_circle_end_in_three_passes(tail: int, circle: int) -> None:
    def ask(page: Page, _request: Request) -> Answer:
        number = page.number + 1
        cursor = number if number < tail else tail + (number - tail) % circle
        return answer_to(page, records=[{"id": f"A{page.cursor}"}], next_cursor=f"c{cursor}")

    fleet = Fleet(make("audit_records", days=20), ask).run()
    assert [r.verdict.state for r in fleet.readings] == [
        ProofState.SUPERSEDED,
        ProofState.SUPERSEDED,
        ProofState.PARTIAL,
    ]


def test_windows_follow_each_other_whatever_their_results_are() -> None:
    """They come newest first, and the first page of each window opens the next window."""
    plan = make("log_entries", days=100)
    model = lists("/log_entries", 10)
    opened = [str(period) for period in plan.windows["log_entries"]]

    def ask(page: Page, request: Request) -> Answer | None:
        match opened.index(page.window):
            case 0:
                return None
            case 1:
                return answer_to(page, 400)
        return model.answer(page, request)

    fleet = Fleet(plan, ask).run()
    check_replay(fleet)
    assert [r.first.window for r in fleet.readings] == opened
    assert [r.verdict.state for r in fleet.readings] == [
        ProofState.FAILED,
        ProofState.FAILED,
        ProofState.PROVED,
        ProofState.PROVED,
    ]


def test_a_resource_this_key_may_not_read_is_asked_for_once() -> None:
    fleet = Fleet(make("log_entries", days=100), lambda page, _: answer_to(page, 403)).run()
    assert [r.verdict.state for r in fleet.readings] == [ProofState.UNAVAILABLE]
    assert len(fleet.asked) == 1


def test_every_answer_of_a_pass_is_given_once_and_in_order() -> None:
    model = lists("/teams", 250)
    fleet = Fleet(make("teams"), model.answer).run()
    used: list[str] = []
    (reading,) = walk(fleet.plan, fleet.read, lambda page, _: used.append(page.id), fleet.parts)
    assert used == [f"teams/all.1/{number:06d}" for number in (0, 99, 198)]
    assert used == [page.id for page, _ in reading.pages]


def test_records_without_a_key_are_told_apart_by_their_whole_content() -> None:
    """A person who is on call by one schedule at two levels of a policy has two records."""
    names = {"user": {"id": "U"}, "schedule": {"id": "S"}, "escalation_policy": {"id": "P"}}
    found = [{**names, "escalation_level": level, "start": None} for level in range(4)]
    first = Page("oncalls", ALL)
    held = replace(first, number=2, held=True)
    pages = [
        (first, answer_to(first, oncalls=found[:3], more=True, total=4)),
        (held, answer_to(held, oncalls=found[2:], more=False, total=4)),
    ]
    proof = Proof(by="total", total=4, overlaps=1, unique=4)
    assert told(*pages) == Verdict(ProofState.PROVED, total=4, unique=4, proof=proof)
    moved = answer_to(held, oncalls=found[1:], more=False, total=4)
    assert told(pages[0], (held, moved)).state is ProofState.PARTIAL
