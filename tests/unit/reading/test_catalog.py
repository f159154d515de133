"""The catalog agrees with itself, and has everything that its readers rely on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.catalog import (
    CATALOG,
    FEEDS,
    OFFSET_CAP,
    PAGE_LIMIT,
    SECRETS,
    Call,
    Feed,
    Paging,
    Resource,
    children_of,
    resource_of,
    with_parents,
)

CALLS = [(f, c) for f in FEEDS.values() for c in (f.list, f.each) if c]
OURS = {"limit", "offset", "total", "cursor", "since", "until"}
"""Parameters that paging and windows add."""


@pytest.mark.parametrize("resource", CATALOG.values(), ids=list(CATALOG))
def test_an_entry_is_found_by_its_name_and_by_each_of_its_feeds(resource: Resource) -> None:
    assert CATALOG[resource.name] is resource
    for feed in resource.feeds:
        assert FEEDS[feed.segment] is feed
        assert resource_of(feed.segment) is resource


def test_no_two_feeds_share_a_place_in_storage() -> None:
    segments = [feed.segment for entry in CATALOG.values() for feed in entry.feeds]
    assert len(segments) == len(set(segments)) == len(FEEDS)
    assert all(re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", segment) for segment in segments)


@pytest.mark.parametrize("feed", FEEDS.values(), ids=list(FEEDS))
def test_a_feed_has_the_calls_that_its_kind_needs(feed: Feed) -> None:
    assert feed.list or feed.parent
    if feed.details:
        assert feed.list
        assert feed.each
    if feed.parent:
        assert feed.each
        assert feed.parent in FEEDS
        assert FEEDS[feed.parent].list
        assert feed.parent_field or "id" in resource_of(feed.segment).key
    if feed.window_days:
        assert feed.list
    if feed.settled:
        assert feed.window_days, (
            "records to be read again are added to the pages of a windowed feed"
        )
        assert feed.each
        assert "id" in resource_of(feed.segment).key


@pytest.mark.parametrize(("feed", "call"), CALLS, ids=[c.path for _, c in CALLS])
def test_a_call_has_the_parameters_of_its_feed_and_leaves_paging_to_the_pages(
    feed: Feed, call: Call
) -> None:
    assert call.path.startswith("/")
    assert ("{id}" in call.path) is (call is feed.each)
    assert not {name for name, _ in call.params} & OURS
    assert "schedules" in call.path or not call.rendered
    assert not (call.instant and (call.rendered or feed.window_days)), "one pair of bounds"
    assert call.paging is not Paging.SINGLE or call is feed.each


def test_windows_stay_within_the_documented_limits() -> None:
    assert (PAGE_LIMIT, OFFSET_CAP) == (100, 10_000)
    assert FEEDS["audit_records"].window_days == 31
    assert FEEDS["audit_records"].retention_days == 365
    assert (FEEDS["incidents"].window_days or 0) <= 180


def test_secrets_are_redacted_in_every_resource() -> None:
    assert all(entry.secrets >= SECRETS for entry in CATALOG.values())
    assert {"integration_key", "routing_key", "integration_email", "http_cal_url"} <= SECRETS


def test_a_list_without_windows_can_change_while_it_is_read() -> None:
    windowed = {name for name, entry in CATALOG.items() if entry.windowed}
    assert windowed == {"incidents", "log_entries", "audit_records"}
    assert {f.segment for f in FEEDS.values() if not f.changing} == windowed


@given(st.sets(st.sampled_from(list(CATALOG))))
def test_chosen_resources_come_with_their_parents_in_catalog_order(names: set[str]) -> None:
    found = with_parents(names)
    assert set(found) >= names
    assert list(found) == [name for name in CATALOG if name in found]
    assert all(CATALOG[name].needs <= set(found) for name in found)
    for name in found:
        for need in CATALOG[name].needs:
            assert found.index(need) < found.index(name)
    extra = set(found) - names
    assert all(any(name in CATALOG[other].needs for other in found) for name in extra)


def test_a_name_the_catalog_does_not_have_is_left_out() -> None:
    assert with_parents(["gone", "team_members"]) == ("teams", "team_members")


def test_children_are_read_only_for_the_resources_that_are_collected() -> None:
    def segments(segment: str, *names: str) -> list[str]:
        feeds = [feed for name in names for feed in CATALOG[name].feeds]
        return [feed.segment for feed in children_of(segment, feeds)]

    assert segments("teams", "teams", "team_members") == ["team_members"]
    assert segments("teams", "teams") == []
    assert segments("schedules", "schedules") == ["schedules"]
    assert segments("schedules", *CATALOG) == ["schedules", "schedule_coverage"]
    assert segments("schedules.shift", *CATALOG) == ["schedules.shift", "schedule_coverage.shift"]
    assert segments("incidents", *CATALOG) == []
