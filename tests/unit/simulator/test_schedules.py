"""Who is on call when: rotations, layers over them, and the bounds of a rendering."""

from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.accounts import AccountSpec
from simulator.records import Record
from simulator.schedules import EPOCH, Duty, Period, oncalls, overlay, render, render_v3, rotation
from simulator.times import DAY_SECONDS
from simulator.world import Account

UTC_ZONE = ZoneInfo("UTC")
WEEK = 7 * DAY_SECONDS
ACCOUNT = Account(
    AccountSpec("acme", schedules=7, shift_schedules=4, anchor="2026-01-01T00:00:00Z"), 0
)


def month(overflow: bool = False) -> Period:
    """Return thirty days that start in the middle of a turn."""
    return Period(EPOCH + 3 * DAY_SECONDS, EPOCH + 33 * DAY_SECONDS, UTC_ZONE, overflow)


@st.composite
def duties(draw: st.DrawFn, user: int) -> list[Duty]:
    """Draw sorted duties that don't overlap."""
    edges = sorted(draw(st.sets(st.integers(0, 60), max_size=12)))
    return [Duty(a, b, user) for a, b in zip(edges[::2], edges[1::2], strict=False)]


@given(lower=duties(1), upper=duties(2))
def test_overlay_puts_the_upper_duties_in_front(lower: list[Duty], upper: list[Duty]) -> None:
    """At every moment, the upper layer's user is on call if it has one, or else the lower layer's user."""

    def at(moment: int, layer: list[Duty]) -> list[int]:
        return [d.user for d in layer if d.start <= moment < d.end]

    result = overlay(lower, upper)
    for moment in range(61):
        assert at(moment, result) == (at(moment, upper) or at(moment, lower))


def test_a_rotation_covers_its_period_without_a_gap() -> None:
    """Turns follow each other without a gap, their users rotate in order, and they overlap both bounds."""
    made = rotation([4, 5, 6], WEEK, month())
    assert made[0].start <= month().since < made[0].end
    assert made[-1].start <= month().until <= made[-1].end
    assert all(a.end == b.start for a, b in pairwise(made))
    assert [d.user for d in made] == [4, 5, 6, 4, 5]


def whole(record: Record, period: Period | None) -> dict[str, Any]:
    """Return the detail body of a schedule."""
    body = ACCOUNT.stores[record.kind].body(record)
    return (render if record.kind == "schedules" else render_v3)(ACCOUNT, record, body, period)


@pytest.mark.parametrize("record", ACCOUNT.stores["schedules"].rows, ids=lambda r: str(r.number))
def test_a_final_schedule_is_cut_at_its_bounds_and_full(record: Record) -> None:
    """The first layer has no gaps, so exactly the period is covered."""
    final = whole(record, month())["final_schedule"]
    entries = final["rendered_schedule_entries"]
    assert final["rendered_coverage_percentage"] == 100.0
    assert entries[0]["start"] == "2024-01-04T09:00:00Z"
    assert entries[-1]["end"] == "2024-02-03T09:00:00Z"
    assert [e["start"] for e in entries[1:]] == [e["end"] for e in entries[:-1]]


def test_overflow_does_not_cut_entries() -> None:
    """With overflow, the first entry starts before the period."""
    record = next(r for r in ACCOUNT.stores["schedules"].rows if r.number % 3)
    first = whole(record, month(overflow=True))["final_schedule"]["rendered_schedule_entries"][0]
    assert first["start"] < "2024-01-04T09:00:00Z"


@pytest.mark.parametrize(
    ("until", "entries"),
    [(EPOCH, 1), (EPOCH + 0.001, 0), (EPOCH - 1, 0)],
    ids=["an instant", "nearly equal bounds", "bounds the wrong way round"],
)
def test_odd_bounds(until: float, entries: int) -> None:
    """Equal bounds are one instant. Nearly equal or reversed bounds render nothing."""
    record = next(r for r in ACCOUNT.stores["schedules"].rows if r.number == 1)
    layers = whole(record, Period(EPOCH, until, UTC_ZONE, True))["schedule_layers"]
    assert bool(layers[0]["rendered_schedule_entries"]) == bool(entries)


def test_nothing_is_rendered_without_bounds() -> None:
    """Without a period, a schedule has its layers but no entries."""
    body = whole(ACCOUNT.stores["schedules"].rows[0], None)
    assert body["schedule_layers"]
    assert body["final_schedule"]["rendered_schedule_entries"] == []


def test_shifts_have_several_people_at_once_and_gaps() -> None:
    """A shift-based schedule only shows the ids of users, and shows a gap as an empty member."""
    crowded = next(r for r in ACCOUNT.stores["v3_schedules"].rows if r.number % 2)
    quarter = Period(EPOCH, EPOCH + 90 * DAY_SECONDS, UTC_ZONE, False)
    shifts = whole(crowded, quarter)["final_schedule"]["computed_shift_assignments"]
    starts = [s["start_time"] for s in shifts]
    assert len(starts) > len(set(starts))
    assert {"type": "empty_member"} in [s["member"] for s in shifts]
    assert all(set(s["member"]) <= {"type", "user_id"} for s in shifts)


def test_oncalls_have_no_id_and_no_end_for_direct_targets() -> None:
    """A person whom a policy names directly is on call forever, without a schedule."""
    found = list(oncalls(ACCOUNT, Period(EPOCH, EPOCH, UTC_ZONE, True)))
    direct = [o for o in found if o["schedule"] is None]
    assert direct
    assert all(o["start"] is None and o["end"] is None for o in direct)
    assert any(o["schedule"] for o in found)
    assert not any("id" in o for o in found)
    assert orjson.dumps(found)


def test_no_two_oncalls_of_a_moment_are_the_same() -> None:
    """Otherwise a complete list would look like a list with a repeated record."""
    found = [orjson.dumps(o) for o in oncalls(ACCOUNT, Period(EPOCH, EPOCH, UTC_ZONE, True))]
    assert len(found) == len(set(found)) > 1
