"""Estimated requests of a run, compared with the requests that a fleet then sends."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reading.answers import Answer
from tasks.reading.estimates import Estimate, Expected, estimate
from tasks.reading.pages import Page, Request
from tasks.reading.plans import Plan
from tasks.reading.sealed import Manifest
from tasks.reading.windows import Period
from tests.lists_model import NOW, Fleet, Lists, answer_to, make, record
from tests.manifests import as_manifest, manifest_document, resource_document

PATHS = ("/incidents", "/log_entries", "/services", "/escalation_policies", "/schedules",
         "/teams", "/users", "/v3/schedules", "/audit/records")  # fmt: skip
"""The last two never have a total."""


def account(**counts: int) -> Lists:
    """Return an account with *counts* records in its lists. Teams have no members, so each takes one page."""
    records = {path: [record(n) for n in range(counts.get(path, 0))] for path in PATHS}
    records |= {f"/teams/{team['id']}/members": [] for team in records["/teams"]}
    return Lists(records)


def told(plan: Plan, lists: Lists, before: Any = ()) -> Estimate:
    return estimate(plan, before, lists.answer)


def resources_of(fleet: Fleet) -> Counter[str]:
    return Counter(page.segment.partition(".")[0] for page, _ in fleet.asked)


def asked(plan: Plan, lists: Lists) -> int:
    return len(Fleet(plan, lists.answer, dice=random.Random(1)).run().asked)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([0, 1, 99, 100, 101, 199, 200, 250]), min_size=7, max_size=7),
    st.sampled_from([0, 7, 100]),
    st.sampled_from([5, 10_000]),
)
def test_an_estimate_is_the_number_of_requests_of_a_run(
    counts: list[int], untold: int, budget: int
) -> None:
    """It is exact if lists state their length or end with their first page."""
    plan = make(budget=budget)
    lists = account(**dict(zip(PATHS, [*counts, untold, untold], strict=True)))
    found = told(plan, lists)
    assert found.unsure == ()
    fleet = Fleet(plan, lists.answer, dice=random.Random(1)).run()
    requests = {name: each.requests for name, each in found.resources.items()}
    assert Counter(requests) == resources_of(fleet)
    assert found.looks <= sum(map(len, plan.windows.values())) + len(PATHS)
    opened = Counter(page.segment for page, _ in fleet.asked if page.chain)
    assert found.backlog == any(opened[n] < len(w) for n, w in plan.windows.items())


def test_a_window_over_the_cap_is_expected_in_even_parts() -> None:
    """If records are spread evenly, the estimate is right to a page for each part."""
    plan, lists = make("log_entries", days=20), account(**{"/log_entries": 25_000})
    requests = told(plan, lists).requests
    assert abs(requests - asked(plan, lists)) <= 4
    assert requests > 250


def test_a_list_of_unknown_length_takes_at_least_one_page_more() -> None:
    plan, lists = make("audit_records", "users", days=30), account(**{"/audit/records": 950})
    found = told(plan, lists)
    assert found.unsure == ("audit_records",)
    assert found.resources["audit_records"] == Expected(2, 100, unsure=True)
    assert asked(plan, lists) == 10 + 1


def manifest(resource: str, feed: str, window: str, pages: int, unique: int) -> Manifest:
    row = {
        "feed": feed,
        "window": window,
        "pass": 1,
        "state": "proved",
        "pages": [{"number": "000000", "sha256": "0" * 64, "bytes": 1, "records": 1}] * pages,
        "unique": unique,
    }
    resources = {resource: resource_document(windows=[row])}
    return as_manifest(manifest_document(resources=resources))


def test_a_list_without_a_total_is_expected_to_be_as_it_was() -> None:
    """A window is estimated in proportion to its length, and a snapshot includes its children."""
    month = Period(NOW - timedelta(days=40), NOW - timedelta(days=10))
    before = [
        as_manifest(manifest_document()),
        manifest("audit_records", "audit_records", str(month), 60, 6_000),
        manifest("schedules", "schedules.shift", "all", 3, 250),
    ]
    plan = make("audit_records", "schedules", days=15)
    lists = account(**{"/audit/records": 950, "/v3/schedules": 101})
    found = told(plan, lists, before)
    assert found.unsure == ()
    assert found.resources["audit_records"].requests == 30
    assert found.resources["schedules"].requests == 1 + 3 + 250


@pytest.mark.parametrize("status", [402, 403, 404])
def test_a_list_that_the_key_may_not_read_is_one_request(status: int) -> None:
    def look(page: Page, request: Request) -> Answer:
        del request
        return answer_to(page, status)

    plan = make()
    found = estimate(plan, (), look)
    lists = [feed for feed in plan.feeds if feed.list]
    assert (found.requests, found.looks, found.backlog) == (len(lists), len(lists), False)
