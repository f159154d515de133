"""The windows that a run will read, and the times when a source is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tasks.evidence import documents
from tasks.reading.beginnings import first_pages
from tasks.reading.catalog import CATALOG, CATALOG_VERSION, FEEDS
from tasks.reading.plans import AGING, Plan, following_run, next_due
from tasks.reading.sealed import PageSize, PreviousRun
from tasks.reading.windows import OVERLAP, Period, merged, missing, moment, rfc3339
from tests.lists_model import NOW, make
from tests.manifests import period

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ALL_TIME = timedelta(days=3000)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def manifest(reached: datetime = NOW - DAY, **more: Any) -> dict[str, Any]:
    """Return the members that a plan takes from the last manifest."""
    covered = {k: [period(*p.times()) for p in v] for k, v in more.pop("covered", {}).items()}
    return {
        "run": "00000041",
        "sha256": "ab" * 32,
        "account": {"region": "us", "subdomain": "acme"},
        "reached": rfc3339(reached),
        "scheduled_at": rfc3339(reached + MINUTE),
        "covered": covered,
        "unsettled": {},
        "denied": {},
        "credential": {"kind": "account"},
        "sizes": {},
        **more,
    }


moments = st.integers(0, 400_000_000).map(lambda s: datetime(2020, 1, 1, tzinfo=UTC) + s * SECOND)
intervals = st.integers(60, 60 * 86_400)


@given(moments, intervals, moments)
def test_a_source_is_due_after_now_and_never_more_than_an_interval_later(
    connected: datetime, every: int, after: datetime
) -> None:
    due = next_due("acme/main", connected, every, after)
    assert due
    assert due > after
    first = connected + timedelta(seconds=every)
    assert first <= due <= max(after, first) + timedelta(seconds=min(every * 1.05, every + 600))


@given(moments, intervals, st.integers(0, 500))
def test_due_times_follow_each_other_an_interval_apart(
    connected: datetime, every: int, count: int
) -> None:
    """This holds exactly at a due time and just before one: none is skipped, and none comes twice."""
    first = next_due("acme/main", connected, every, connected)
    assert first
    nth = first + timedelta(seconds=every) * count
    assert next_due("acme/main", connected, every, nth) == nth + timedelta(seconds=every)
    moment_before = nth - timedelta(microseconds=1)
    assert next_due("acme/main", connected, every, moment_before) == nth


def test_a_source_that_is_only_collected_when_asked_is_never_due() -> None:
    assert next_due("acme/main", NOW, None, NOW) is None


@pytest.mark.parametrize(("every", "most"), [(3_600, 180), (86_400, 600), (60, 3)])
def test_sources_connected_together_spread_and_each_keeps_its_place(every: int, most: int) -> None:
    def delay(source: str) -> float:
        due = next_due(source, NOW, every, NOW)
        assert due
        return (due - NOW).total_seconds() - every

    delays = [delay(f"tenant-{n}/main") for n in range(400)]
    assert delays == [delay(f"tenant-{n}/main") for n in range(400)]
    assert 0 <= min(delays) <= max(delays) < most
    in_quarters = [sum(q <= 4 * d / most < q + 1 for d in delays) for q in range(4)]
    assert min(in_quarters) > 60, in_quarters


@pytest.mark.parametrize(
    ("newest", "following"),
    [
        (None, "00000001"),
        ("00000001", "00000002"),
        ("00000999", "00001000"),
        ("99999998", "99999999"),
    ],
)
def test_runs_are_numbered_in_eight_digits(newest: str | None, following: str) -> None:
    assert following_run(newest) == following


PERIODS = st.tuples(st.integers(0, 500), st.integers(1, 200)).map(
    lambda pair: Period(ago(pair[0] + pair[1]), ago(pair[0]))
)
COVERED = st.dictionaries(st.sampled_from(["incidents", "log_entries", "audit_records", "old"]),
                          st.lists(PERIODS, max_size=4), max_size=3)  # fmt: skip
PLANS = st.builds(
    lambda covered, days, resources, last, more: make(
        *resources, days=days, last=manifest(covered=covered) if last else None, **more
    ),
    COVERED,
    st.integers(1, 900),
    st.lists(st.sampled_from([*CATALOG, "gone"]), unique=True),
    st.booleans(),
    st.fixed_dictionaries({"backfill": st.booleans(), "budget": st.integers(1, 10**6)}),
)


@given(PLANS)
def test_a_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    assert documents.read(documents.written(plan), Plan) == plan
    assert documents.written(documents.read(documents.written(plan), Plan)) == documents.written(
        plan
    )
    assert plan.catalog == CATALOG_VERSION


@given(COVERED, st.integers(1, 900))
@settings(max_examples=200)
def test_every_missing_period_that_pagerduty_keeps_is_planned_once(
    covered: dict[str, list[Period]], days: int
) -> None:
    plan = make(days=days, last=manifest(covered=covered) if covered else None)
    for name, windows in plan.windows.items():
        feed = FEEDS[name]
        kept = timedelta(days=feed.retention_days) if feed.retention_days else ALL_TIME
        target = Period(max(ago(days), NOW - kept), NOW)
        known = covered.get(name, [])
        assert not missing(target, [*windows, *known]), "a period nobody reads"
        assert all(target.since <= w.since < w.until <= target.until for w in windows)
        assert all(w.until - w.since <= timedelta(days=feed.window_days or 0) for w in windows)
        ordered = sorted(windows)
        assert all(a.until <= b.since for a, b in pairwise(ordered)), "a period read twice"
        again = sum((w.until - w.since for w in windows), timedelta())
        gaps = sum((g.until - g.since for g in missing(target, known)), timedelta())
        assert again <= gaps + OVERLAP, "more is read again than necessary"


@given(COVERED, st.integers(1, 900))
def test_windows_are_read_new_first_then_those_about_to_expire_then_from_newest_to_oldest(
    covered: dict[str, list[Period]], days: int
) -> None:
    plan = make(days=days, last=manifest(covered=covered) if covered else None)
    for name, windows in plan.windows.items():
        kept = FEEDS[name].retention_days
        edge = NOW - timedelta(days=kept) + AGING if kept else None
        first, *rest = windows
        assert first.until == max(w.until for w in windows)
        aging = [w for w in rest if edge and w.since < edge]
        others = [w for w in rest if w not in aging]
        assert rest == [*sorted(aging, reverse=True), *sorted(others, reverse=True)]


def test_the_year_of_audit_records_that_is_about_to_end_comes_before_other_history() -> None:
    new, *aging, second = make("audit_records", days=900).windows["audit_records"][:5]
    assert new.until == NOW
    assert [w.since for w in aging][-1] == ago(365)
    assert all(w.since < ago(365) + AGING for w in aging)
    assert second.until == new.since


def test_a_run_continues_ten_minutes_before_the_end_of_the_proved_period() -> None:
    covered = {name: [Period(ago(100), ago(1))] for name in ("incidents", "log_entries")}
    plan = make("incidents", "log_entries", "audit_records", last=manifest(ago(1), covered=covered))
    assert plan.windows["incidents"] == (Period(ago(1) - OVERLAP, NOW),)
    assert plan.windows["log_entries"] == (Period(ago(1) - OVERLAP, NOW),)
    assert plan.windows["audit_records"][0] == Period(ago(31), NOW)
    assert plan.period == Period(ago(1) - OVERLAP, NOW)
    assert plan.previous == PreviousRun("00000041", "ab" * 32)


@pytest.mark.parametrize("covered_until", [NOW, NOW - SECOND, NOW - 5 * MINUTE])
def test_a_run_right_after_another_reads_the_ten_minutes_again(covered_until: datetime) -> None:
    covered = {"log_entries": [Period(ago(100), covered_until)]}
    (window,) = make("log_entries", last=manifest(covered_until, covered=covered)).windows[
        "log_entries"
    ]
    assert window == Period(covered_until - OVERLAP, NOW)


def test_a_gap_in_the_proved_periods_is_read_beside_the_new_period() -> None:
    covered = {"log_entries": [Period(ago(90), ago(40)), Period(ago(20), ago(1))]}
    plan = make("log_entries", days=100, last=manifest(covered=covered))
    assert plan.windows["log_entries"] == (
        Period(ago(1) - OVERLAP, NOW),
        Period(ago(40), ago(20)),
        Period(ago(100), ago(90)),
    )


def test_a_source_after_a_long_pause_reads_the_new_period_from_newest_to_oldest() -> None:
    covered = {"log_entries": [Period(ago(100), ago(70))]}
    plan = make("log_entries", last=manifest(ago(70), covered=covered))
    assert plan.windows["log_entries"] == (
        Period(ago(31), NOW),
        Period(ago(62), ago(31)),
        Period(ago(70) - OVERLAP, ago(62)),
    )


def test_a_clock_that_was_ahead_does_not_leave_an_empty_period() -> None:
    """The last run proved a period that ends after now. So nothing is new, and nothing fails."""
    ahead = NOW + timedelta(hours=2)
    covered = {"log_entries": [Period(ago(100), ahead)], "incidents": [Period(ago(50), ahead)]}
    plan = make("log_entries", "incidents", last=manifest(ahead, covered=covered))
    for windows in (*plan.windows.values(), (plan.period,)):
        assert windows
        assert all(w.since < w.until <= NOW for w in windows)
    since_later = make("log_entries", "services", days=-3)
    assert since_later.windows["log_entries"] == (Period(NOW - SECOND, NOW),)
    assert since_later.period == Period(NOW - SECOND, NOW)


def test_a_backfill_run_keeps_the_schedule_of_the_run_that_it_continues() -> None:
    last = manifest(ago(1))
    assert make(last=last, backfill=True).scheduled_at == ago(1) + MINUTE
    assert make(last=last).scheduled_at == make(last=last).opened_at


def test_the_knowledge_of_earlier_runs_is_passed_on() -> None:
    """This includes resources that aren't collected this time."""
    covered = {"log_entries": [Period(ago(90), ago(40))], "incidents": [Period(ago(9), ago(4))]}
    last = manifest(covered=covered, unsettled={"incidents": ["P1", "P2"]})
    plan = make("teams", last=last)
    assert plan.windows == {}
    assert {k: list(v) for k, v in plan.covered.items()} == covered
    assert plan.unsettled == {"incidents": ("P1", "P2")}
    assert [p.id for p in first_pages(plan)] == ["teams/all.1/000000"]


@pytest.mark.parametrize(
    ("known", "days", "size"),
    [(25, 6.9, 25), (25, 7, 50), (10, 8, 25), (50, 6.9, 50), (50, 7, 100), (50, 700, 100)],
)
def test_a_list_begins_with_the_page_size_that_worked_and_after_a_week_with_a_larger_one(
    known: int, days: float, size: int
) -> None:
    opened = make().opened_at
    since = rfc3339(opened - timedelta(days=days))
    sizes = {name: {"size": known, "since": since} for name in ("incidents", "teams")}
    plan = make("incidents", "teams", last=manifest(sizes=sizes))
    assert [page.size for page in first_pages(plan)] == [size, size]
    began = since if size == known else rfc3339(opened)
    expected = PageSize(size, moment(began))
    assert plan.sizes == ({} if size == 100 else dict.fromkeys(sizes, expected))
    assert documents.read(documents.written(plan), Plan) == plan


@pytest.mark.parametrize(
    ("budget", "resources", "share"),
    [(900, ("incidents", "log_entries", "audit_records"), 300), (10, ("incidents",), 10),
     (1, ("incidents", "log_entries"), 1), (50, ("teams",), 50)],
)  # fmt: skip
def test_the_page_budget_is_shared_evenly_by_windowed_feeds(
    budget: int, resources: tuple[str, ...], share: int
) -> None:
    assert make(*resources, budget=budget).page_share == share


def test_all_resources_are_planned_unless_some_are_chosen_with_their_parents() -> None:
    assert make().resources == tuple(CATALOG)
    assert make("team_members").resources == ("teams", "team_members")
    assert set(make().windows) == {"incidents", "log_entries", "audit_records"}


def test_a_resource_that_left_the_catalog_stays_in_the_plan_to_be_named() -> None:
    plan = make("teams", "gone")
    assert plan.resources == ("teams", "gone")
    assert [feed.segment for feed in plan.feeds] == ["teams"]
    assert [p.id for p in first_pages(plan)] == ["teams/all.1/000000"]


def test_a_plan_of_another_catalog_version_is_followed_as_far_as_possible() -> None:
    plan = structs.replace(
        make("teams", "incidents"),
        resources=("teams", "incidents", "later"),
        windows={**make("incidents").windows, "later": (Period(ago(2), NOW),)},
        unsettled={"incidents": ("P1",), "later": ("X1",)},
        catalog=CATALOG_VERSION + 1,
    )
    read = documents.read(documents.written(plan), Plan)
    assert read == plan
    assert {p.segment for p in first_pages(read)} == {"teams", "incidents"}


PLAN = documents.written(make("teams"))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'"plan"',
        b'{"format":2,"source":"a/b"}',
        b"[" * 100_000,
        PLAN + b"\n",
        PLAN.replace(b"\n", b""),
        PLAN.replace(b'"format": 2', b'"format": 3'),
        PLAN.replace(b"{", b'{\n  "added": 1,', 1),
        PLAN.replace(b'"region": "us"', b'"region": "eu",\n  "region": "us"'),
    ],
)
def test_a_text_that_is_not_written_like_a_plan_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"it isn't|it is nested"):
        documents.read(text, Plan)


def test_covered_periods_are_never_planned_again() -> None:
    covered = {
        "audit_records": merged([Period(ago(300), ago(200)), Period(ago(100), NOW - SECOND)])
    }
    windows = make("audit_records", days=365, last=manifest(covered=covered)).windows[
        "audit_records"
    ]
    assert sum((w.until - w.since for w in windows), timedelta()) == 165 * DAY + SECOND + OVERLAP
