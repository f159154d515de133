"""Whatever an answer says, reading it raises nothing, it opens a bounded number of pages, and every run ends."""

from __future__ import annotations

import json
import random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reading import paging, proofs
from tasks.reading.answers import Answer, lines, members_of, read_answer, well_formed
from tasks.reading.beginnings import MOST_OPENED, children_ahead, first_pages
from tasks.reading.catalog import CATALOG, FEEDS, OFFSET_CAP, PAGE_SIZES, Paging, children_of
from tasks.reading.pages import Page, Request
from tasks.reading.paging import MAX_PASSES, decide
from tasks.reading.proofs import ProofState, read_pass
from tasks.reading.splits import MOST_SPLITS
from tasks.reading.windows import of
from tests.lists_model import NOW, Fleet, make
from workers import exact

PLAN = make()
SAID = {"words": "", "fetched_at": "2026-03-01T00:00:00.000000Z"}
ODD = st.sampled_from(
    [None, True, False, -1, 0, 1, 12.5, 10**9, 10**12, 10**30, "", "..", "x/../y", "\0", "\ud83d",
     "2026-02-01T00:00:00Z", "99999-13-45T99:99:99Z", "P" * 1_100, [], {}, [[]], [None]]
)  # fmt: skip
JSON = st.recursive(
    ODD | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = ("type", "created_at", "execution_time", "name", "summary", "status", "self", "user")
RECORD = st.dictionaries(st.sampled_from(("id", *MEMBERS)), JSON, max_size=6) | (
    st.fixed_dictionaries(
        {"id": st.text(min_size=1, max_size=5)}, optional=dict.fromkeys(MEMBERS, JSON)
    )
)
PAGING = dict.fromkeys(("more", "total", "next_cursor", "offset", "limit"), JSON)


def first_of(segment: str) -> Page:
    """Return the page that a feed begins with."""
    if FEEDS[segment].list is None:
        return Page(segment, of("P1"), parent={"id": "P1"})
    return next(page for page in first_pages(PLAN) if page.segment == segment)


def read(page: Page, status: int, body: bytes) -> Answer | None:
    """Return the answer that the fetch task reads from a body, or None if the body counts as a failure."""
    try:
        answer = read_answer(page, status, NOW, exact.members(body, members_of(page)), **SAID)
    except ValueError:
        return None
    return answer if well_formed(page, answer) else None


@pytest.mark.parametrize("segment", FEEDS)
@given(data=st.data())
def test_any_answer_is_read_without_a_fault_and_opens_a_bounded_number_of_pages(
    segment: str, data: st.DataObject
) -> None:
    """An answer with any JSON is either refused as malformed, or it decides the next pages.

    Then its pass is read back.
    """
    page = first_of(segment)
    found = data.draw(st.lists(RECORD, max_size=4) | RECORD | JSON)
    shaped = st.fixed_dictionaries({page.call.wrapper: st.just(found)}, optional=PAGING)
    body = json.dumps(data.draw(shaped | JSON)).encode()
    status = data.draw(st.sampled_from([200, 200, 200, 206, 299, 400, 402, 403, 404, 418]))
    answer = read(page, status, body)
    if answer is None:
        return
    step = decide(page, answer, PLAN)
    assert len(step.followers) + len(step.onward) <= MOST_OPENED + 1
    ahead = children_ahead(page, answer, PLAN, opened=False)
    assert ahead is None or 0 <= ahead <= OFFSET_CAP
    reading = read_pass(page, PLAN, lambda asked: answer if asked.id == page.id else None)
    served = len(found) if isinstance(found, list) else 1
    assert len(reading.followers) <= MOST_OPENED + served * len(children_of(segment, PLAN.feeds))
    assert reading.verdict.state is not ProofState.PROVED or answer.ok or page.of_record
    list(lines(page, answer))


HABIT = st.fixed_dictionaries(
    {
        "more": st.sampled_from([True, True, False, None, "yes"]),
        "total": st.sampled_from([None, 0, -1, 99, 250, 10_001, 10**9, 10**30]),
        "cursor": st.sampled_from([None, "", "a", "new"]),
        "count": st.sampled_from([0, 1, 13, 100]),
        "ids": st.sampled_from(["same", "page", "new"]),
        "made": st.sampled_from([None, "2026-02-01T00:00:00Z", "1970-01-01T00:00:00Z", "soon"]),
        "fails": st.sampled_from([0.0, 0.3]),
        "slow": st.sampled_from([0.0, 0.0, 0.1]),
    }
)
CAP, BEHIND_CURSORS = 300, 36
"""Far smaller than the real values. With a cap of 10,000, a list that lies well takes 22,000 requests."""
MOST_REQUESTS = (MOST_SPLITS + 1) * MAX_PASSES * 5 * CAP // min(PAGE_SIZES)
"""For one list: its parts are read three times in the smallest pages, with five times as many pages as needed."""


@pytest.mark.parametrize("resource", ["incidents", "services", "audit_records"])
@settings(max_examples=60, deadline=None)
@given(habits=st.lists(HABIT, min_size=1, max_size=3), seed=st.integers(0, 9))
def test_a_run_ends_whatever_its_lists_tell_in_turn(
    resource: str, habits: list[dict[str, Any]], seed: int
) -> None:
    """Lists lie in a few ways, in any order. Each window has a verdict after a bounded number of requests."""
    dice = random.Random(seed)

    def ask(page: Page, request: Request) -> Answer | None:
        habit = dice.choice(habits)
        return None if dice.random() < habit["fails"] else read(page, 200, body_of(page, habit))

    def is_slow(_page: Page) -> bool:
        return dice.random() < dice.choice(habits)["slow"]

    def body_of(page: Page, habit: dict[str, Any]) -> bytes:
        nth = len(fleet.asked)
        start = {"same": 0, "page": page.number, "new": 1_000 * nth}[habit["ids"]]
        times = {"created_at": habit["made"], "execution_time": habit["made"]}
        found = [
            {"id": f"P{n}", "name": f"n{n}", "type": "x", **times}
            for n in range(start, start + habit["count"])
        ]
        single = page.call.paging is Paging.SINGLE
        cursor = f"new-{nth}" if habit["cursor"] == "new" else habit["cursor"]
        body = {"more": habit["more"], "total": habit["total"], "next_cursor": cursor}
        return json.dumps(
            {page.call.wrapper: found[0] if single and found else found} | body
        ).encode()

    fleet = Fleet(make(resource, days=25, budget=10), ask, slow=is_slow, dice=dice)
    with (
        patch.multiple(paging, OFFSET_CAP=CAP, MOST_BEHIND_CURSORS=BEHIND_CURSORS),
        patch.object(proofs, "OFFSET_CAP", CAP),
    ):
        fleet.run(MOST_REQUESTS * len(CATALOG[resource].feeds))
        verdicts = [reading.verdict for reading in fleet.settled]
    assert all(each.state is ProofState.PROVED or each.reason for each in verdicts)
