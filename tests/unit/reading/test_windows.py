"""Periods of time, and the arithmetic of covered periods."""

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.windows import (
    ALL,
    Period,
    common,
    cut,
    is_plain,
    merged,
    missing,
    moment,
    of,
    period_in,
    rfc3339,
    split,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = 365 * 86_400


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def span(since: float, until: float) -> Period:
    return Period(at(since), at(until))


def periods(longest: int = YEAR) -> st.SearchStrategy[Period]:
    """Any period of whole seconds, at least one long."""
    begin = st.integers(0, 3 * YEAR)
    return st.builds(lambda s, n: span(s, s + n), begin, st.integers(1, longest))


def small_periods() -> st.SearchStrategy[list[Period]]:
    """Many periods within a minute: they touch, overlap and repeat."""
    ends = st.tuples(st.integers(0, 60), st.integers(1, 20))
    return st.lists(ends.map(lambda e: span(e[0], e[0] + e[1])), max_size=12)


def seconds_in(found: list[Period]) -> list[datetime]:
    """Every second of *found*, as often as it occurs."""
    return [
        period.since + timedelta(seconds=n)
        for period in found
        for n in range(int((period.until - period.since).total_seconds()))
    ]


@given(small_periods(), small_periods())
def test_the_common_part_is_in_both_periods(some: list[Period], others: list[Period]) -> None:
    for period in some:
        found = common(period, others)
        assert seconds_in(found) == sorted({*seconds_in([period])} & {*seconds_in(others)})


def check_tiling(whole: Period, parts: list[Period]) -> None:
    """Check that *parts* cover *whole* exactly, newest first, in whole seconds, and that none is empty."""
    assert parts[0].until == whole.until
    assert parts[-1].since == whole.since
    for newer, older in pairwise(parts):
        assert older.until == newer.since
    for part in parts:
        assert part.since < part.until
        assert part.since.microsecond == 0


@given(periods(), st.integers(1, 200))
def test_cutting_covers_a_period_exactly_newest_first(period: Period, days: int) -> None:
    parts = list(cut(period, days))
    check_tiling(period, parts)
    assert all(p.until - p.since <= timedelta(days=days) for p in parts)
    assert all(p.until - p.since == timedelta(days=days) for p in parts[:-1])


@given(periods().filter(lambda p: p.splittable), st.floats(-10, 2 * YEAR))
def test_a_split_covers_a_period_exactly_wherever_it_is_cut(period: Period, where: float) -> None:
    older, newer = split(period, period.since + timedelta(seconds=where))
    check_tiling(period, [newer, older])


@given(small_periods())
def test_a_union_has_the_same_seconds_once_and_nothing_touches(found: list[Period]) -> None:
    union = merged(found)
    assert seconds_in(union) == sorted(set(seconds_in(found)))
    assert all(before.until < after.since for before, after in pairwise(union))


@given(st.integers(0, 60), st.integers(1, 40), small_periods())
def test_missing_and_covered_periods_make_the_whole(
    since: int, length: int, covered: list[Period]
) -> None:
    target = span(since, since + length)
    gaps = missing(target, covered)
    inside = set(seconds_in(covered)) & set(seconds_in([target]))
    assert seconds_in(gaps) == sorted(set(seconds_in([target])) - inside)
    assert all(before.until < after.since for before, after in pairwise(gaps))


@given(periods())
def test_a_period_is_read_back_from_its_name(period: Period) -> None:
    assert Period.parse(str(period)) == period == period_in(str(period))
    assert [rfc3339(period.since), rfc3339(period.until)] == period.times()


@pytest.mark.parametrize(
    "text",
    ["", "all", "20260101T000000Z", "20260101T000000Z_", "20260101_20260102", "a_b_c"],
)
def test_anything_else_than_a_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Period.parse(text)


def test_some_windows_have_no_period() -> None:
    assert period_in(ALL) is None
    assert period_in(of("20260101T000000Z_20260102T000000Z")) is None


NASTY = st.text(max_size=200) | st.text("sha256-of.%/~0", max_size=90)


@given(st.lists(NASTY, unique=True, min_size=2, max_size=6))
def test_different_ids_never_share_a_window_name(ids: list[str]) -> None:
    assert len({of(each) for each in ids}) == len(ids)


def test_an_id_that_looks_like_a_hashed_one_is_not_taken_for_it() -> None:
    assert of(of("x" * 300).removeprefix("of-")) != of("x" * 300)


@given(NASTY)
def test_a_window_name_is_one_safe_segment_of_a_storage_key(parent: str) -> None:
    name = of(parent)
    assert name.isascii()
    assert name.replace("-", "").replace("_", "").isalnum()
    assert len(name) <= 123


@pytest.mark.parametrize("plain", ["PABC123", "a_b-C", "x" * 120])
def test_an_id_that_is_plain_names_its_window(plain: str) -> None:
    assert of(plain) == f"of-{plain}"


@pytest.mark.parametrize(
    "odd",
    ["", ".", "..", "a.b", "a/b", "a%2Fb", "a?b", "a#b", "a b", "a\n", "é", "٣", "~", "x" * 121],
)  # fmt: skip
def test_an_id_that_is_not_plain_is_named_by_its_digest(odd: str) -> None:
    assert not is_plain(odd)
    assert re.fullmatch("of-sha256-[0-9a-f]{64}", of(odd))


BERLIN, KATHMANDU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2026, 3, 29, 1, 59, 59, tzinfo=BERLIN), "2026-03-29T00:59:59Z"),
        (datetime(2026, 3, 29, 3, 0, tzinfo=BERLIN), "2026-03-29T01:00:00Z"),
        (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), "2026-10-25T00:30:00Z"),
        (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), "2026-10-25T01:30:00Z"),
        (datetime(2026, 1, 1, tzinfo=KATHMANDU), "2025-12-31T18:15:00Z"),
        (datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-12))), "2026-01-01T12:00:00Z"),
    ],
)
def test_a_time_of_any_zone_is_sent_in_utc_and_whole_seconds(when: datetime, text: str) -> None:
    assert rfc3339(when) == text
    assert moment(text) == when.replace(microsecond=0).astimezone(UTC)
    assert moment(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["2026-03-29T02:59:59+02:00", "2026-03-29T00:59:59Z", "2026-03-29T06:44:59+05:45"]
)
def test_any_offset_names_the_same_moment(text: str) -> None:
    assert moment(text) == datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)


def test_the_zone_of_a_time_is_never_guessed() -> None:
    """Otherwise a time without a zone would count as local time of this machine."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - must be refused
    with pytest.raises(ValueError, match="zone"):
        rfc3339(naive)
    with pytest.raises(ValueError, match="zone"):
        moment("2026-01-01T00:00:00")
