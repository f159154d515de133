"""Who is on call when: both kinds of schedule rendered for a period, and /oncalls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from simulator import config
from simulator.records import Record, make_id
from simulator.times import DAY_SECONDS, iso, zoned

if TYPE_CHECKING:
    from simulator.world import Account

Body = dict[str, Any]
EPOCH = int(datetime(2024, 1, 1, 9, tzinfo=UTC).timestamp())
"""A Monday, on which the first turn of every rotation begins."""
TWO_WEEKS = 14 * DAY_SECONDS
OVERRIDE_EVERY = 17 * DAY_SECONDS


class Duty(NamedTuple):
    """One user (by number) is on call from start to end."""

    start: int
    end: int
    user: int


class Period(NamedTuple):
    """The period to render, and the time zone to show it in."""

    since: float
    until: float
    zone: ZoneInfo
    overflow: bool

    @property
    def empty(self) -> bool:
        """Say whether the end is before the start, or less than a second after it."""
        return self.until < self.since or 0 < self.until - self.since < 1


def rotation(
    users: Sequence[int], turn_seconds: int, period: Period, from_hour: int | None = None
) -> list[Duty]:
    """Return the turns that overlap the period. With *from_hour*, they cover only nine hours of each UTC day."""
    turn = int((period.since - EPOCH) // turn_seconds)
    duties = []
    while (start := EPOCH + turn * turn_seconds) <= period.until:
        user = users[turn % len(users)]
        end = start + turn_seconds
        spans = [(start, end)]
        if from_hour is not None:
            midnight = start - start % DAY_SECONDS + from_hour * 3_600
            days = range(midnight, end, DAY_SECONDS)
            spans = [(max(start, day), min(end, day + 9 * 3_600)) for day in days]
        duties += [
            Duty(s, e, user) for s, e in spans if s < e and s <= period.until and e > period.since
        ]
        turn += 1
    return duties


def overlay(lower: Sequence[Duty], upper: Sequence[Duty]) -> list[Duty]:
    """Return *lower* with *upper* on top of it; both are sorted and free of overlaps."""
    result, first = list(upper), 0
    for duty in lower:
        while first < len(upper) and upper[first].end <= duty.start:
            first += 1
        free = duty.start  # no part of this duty after this time is placed yet
        for above in islice(upper, first, None):
            if above.start >= duty.end:
                break
            if above.start > free:
                result.append(Duty(free, above.start, duty.user))
            free = max(free, above.end)
        if free < duty.end:
            result.append(Duty(free, duty.end, duty.user))
    return sorted(result)


def _overrides(account: Account, record: Record, period: Period) -> list[Duty]:
    """Return the overrides that touch the period: generated ones, and above them those made while serving."""
    late = [
        d for d in account.late_overrides.get(record.id, ())
        if d.start <= period.until and d.end > period.since
    ]  # fmt: skip
    return overlay(_generated_overrides(account, record, period), late)


def _generated_overrides(account: Account, record: Record, period: Period) -> list[Duty]:
    people = config.crew(account, record.kind, record.number)
    offset = record.number % 5 * DAY_SECONDS
    turn = int((period.since - EPOCH - offset) // OVERRIDE_EVERY)
    duties = []
    while (start := EPOCH + offset + turn * OVERRIDE_EVERY + 7_200) <= period.until:
        if start + 14_400 > period.since:
            duties.append(Duty(start, start + 14_400, people[turn % len(people)]))
        turn += 1
    return duties


def _cut(duties: Sequence[Duty], period: Period) -> list[Duty]:
    if period.overflow:
        return list(duties)
    since, until = int(period.since), int(period.until)
    cut = [Duty(max(d.start, since), min(d.end, until), d.user) for d in duties]
    return [d for d in cut if d.start < d.end or since == until]


def _entries(account: Account, duties: Sequence[Duty], period: Period) -> Body:
    shown = [] if period.empty else _cut(duties, period)
    length = period.until - period.since
    covered = sum(max(0, min(d.end, period.until) - max(d.start, period.since)) for d in shown)
    return {
        "rendered_schedule_entries": [
            {"start": zoned(d.start, period.zone), "end": zoned(d.end, period.zone),
             "user": account.ref("users", d.user)} for d in shown
        ],
        "rendered_coverage_percentage": round(100 * covered / length, 1) if length else None,
    }  # fmt: skip


def _layers(
    account: Account, record: Record, period: Period | None
) -> tuple[list[Body], list[Duty]]:
    """Return the layers in the order of creation, the top one last, and the duties that they add up to."""
    n, people = record.number, config.crew(account, record.kind, record.number)
    zone = period.zone if period else ZoneInfo("UTC")
    shapes: list[tuple[str, int, list[int], int | None]]
    shapes = [("Layer 1", 7 * DAY_SECONDS if n % 3 else DAY_SECONDS, people, None)]
    if n % 2:
        shapes.append(("Tagschicht ☀", DAY_SECONDS, people[::-1], 8))
    made, final = [], list[Duty]()
    for slot, (name, turn, users, hour) in enumerate(shapes):
        duties = rotation(users, turn, period, hour) if period and not period.empty else []
        final = overlay(final, duties)
        restriction = {"type": "daily_restriction", "start_time_of_day": "08:00:00",
                       "duration_seconds": 9 * 3_600}  # fmt: skip
        made.append({
            "id": make_id("schedule_layers", n * 4 + slot), "name": name,
            "start": zoned(EPOCH, zone), "end": None,
            "rotation_virtual_start": zoned(EPOCH, zone), "rotation_turn_length_seconds": turn,
            "users": [{"user": account.ref("users", u)} for u in users],
            "restrictions": [restriction] if hour is not None else [],
            **(_entries(account, duties, period) if period
               else {"rendered_schedule_entries": [], "rendered_coverage_percentage": None}),
        })  # fmt: skip
    return made, final


def render(account: Account, record: Record, body: bytes, period: Period | None) -> Body:
    """Return a complete layer-based schedule. Without a period, nothing is rendered."""
    layers, duties = _layers(account, record, period)
    blank: Body = {"rendered_schedule_entries": [], "rendered_coverage_percentage": None}
    overrides = _overrides(account, record, period) if period and not period.empty else []
    replaced = _entries(account, overrides, period) if period else blank
    final = _entries(account, overlay(duties, overrides), period) if period else blank
    result: Body = orjson.loads(body)
    return result | {
        "schedule_layers": layers,
        "overrides_subschedule": {"name": "Overrides", **replaced},
        "final_schedule": {"name": "Final Schedule", **final},
    }


def overrides(account: Account, record: Record, period: Period) -> list[Body]:
    """Return the overrides of a schedule in a period."""
    return [
        {"id": make_id("overrides", record.number * 100_000_000 + d.start // 60),
         "start": zoned(d.start, period.zone), "end": zoned(d.end, period.zone),
         "user": account.ref("users", d.user)}
        for d in _cut(_overrides(account, record, period), period)
    ]  # fmt: skip


def _shifts(account: Account, record: Record, period: Period) -> Iterator[tuple[Duty, list[int]]]:
    """Yield weekly shifts with their members: the whole crew, one of them in turn, or nobody (a gap)."""
    people = config.crew(account, "v3_schedules", record.number)
    for duty in rotation(people, 7 * DAY_SECONDS, period):
        week = (duty.start - EPOCH) // (7 * DAY_SECONDS)
        if week % 6 == record.number % 6:
            yield duty, []
        else:
            yield duty, people if record.number % 2 else [duty.user]


def render_v3(account: Account, record: Record, body: bytes, period: Period | None) -> Body:
    """Return a complete shift-based schedule. The final schedule needs a period."""
    n = record.number
    people = config.crew(account, "v3_schedules", n)
    rotation_id = make_id("rotations", n)
    known = orjson.loads(body)
    members = [{"type": "user_member", "user_id": account.ref("users", u)["id"]} for u in people]
    everyone = "every_member_assignment_strategy"
    strategy: Body = {"type": everyone if n % 2 else "rotating_member_assignment_strategy",
                      "members": members}  # fmt: skip
    if not n % 2:
        strategy["shifts_per_member"] = 1
    first = datetime.fromtimestamp(EPOCH, UTC)
    times = [
        {"date_time": (first + timedelta(days=d)).isoformat(), "time_zone": known["time_zone"]}
        for d in (0, 7)
    ]
    event = {"id": make_id("events", n), "type": "schedule_event", "name": "Primäre Schicht",
             "start_time": times[0], "end_time": times[1], "effective_since": iso(EPOCH),
             "effective_until": None, "recurrence": ["RRULE:FREQ=WEEKLY"],
             "assignment_strategy": strategy}  # fmt: skip
    result: Body = known | {
        "rotations": [{"id": rotation_id, "type": "schedule_rotation", "events": [event]}],
    }
    if period:
        result["final_schedule"] = _final_v3(account, record, rotation_id, period)
    return result


def _final_v3(account: Account, record: Record, rotation_id: str, period: Period) -> Body:
    computed, covered = [], 0.0
    for duty, members in [] if period.empty else _shifts(account, record, period):
        shown = _cut([duty], period)
        if not shown:
            continue
        covered += (shown[0].end - shown[0].start) if members else 0
        ids = [account.ref("users", u)["id"] for u in members]
        people = [{"type": "user_member", "user_id": id} for id in ids] or [
            {"type": "empty_member"}
        ]
        computed += [
            {"type": "computed_shift_assignment", "member": member,
             "start_time": zoned(shown[0].start, period.zone),
             "end_time": zoned(shown[0].end, period.zone),
             "source": {"type": "schedule_rotation", "rotation_id": rotation_id}}
            for member in people
        ]  # fmt: skip
    length = period.until - period.since
    return {
        "type": "final_schedule",
        "computed_shift_assignments": computed,
        "rendered_coverage_percentage": round(100 * covered / length, 1) if length > 0 else 0.0,
    }


def on_call(account: Account, record: Record, since: int, until: int) -> list[Duty]:
    """Return who is on call in a period, in spans that are cut at its edges; gaps have none."""
    period = Period(since, until, ZoneInfo("UTC"), overflow=False)
    if record.kind == "v3_schedules":
        duties = [duty for duty, members in _shifts(account, record, period) if members]
    else:
        duties = overlay(_layers(account, record, period)[1], _overrides(account, record, period))
    return _cut(duties, period)


def oncalls(account: Account, period: Period) -> Iterator[Body]:
    """Yield who is on call for each level of each escalation policy in the period."""
    policies = account.stores["escalation_policies"]
    for record in policies.rows:
        policy = orjson.loads(policies.body(record))
        head = {
            "escalation_policy": account.refer("escalation_policies", record.id, policy["name"])
        }
        for level, rule in enumerate(policy["escalation_rules"], 1):
            for target in rule["targets"]:
                yield from _oncall(account, head | {"escalation_level": level}, target, period)


def _oncall(account: Account, head: Body, target: Body, period: Period) -> Iterator[Body]:
    if target["type"] == "user_reference":  # always on call, without a schedule
        yield head | {"user": target, "schedule": None, "start": None, "end": None}
        return
    kind = "v3_schedules" if target["type"] == "schedule_v3_reference" else "schedules"
    record = account.stores[kind].by_id.get(target["id"])
    if record is None:
        return
    whole = period._replace(overflow=True)
    if kind == "schedules":
        layers = _layers(account, record, whole)[1]
        duties = [(d, [d.user]) for d in overlay(layers, _overrides(account, record, whole))]
    else:
        duties = list(_shifts(account, record, whole))
    for duty, users in duties:
        for user in users:
            if duty.start <= period.until and duty.end > period.since:
                yield head | {"user": account.ref("users", user), "schedule": target,
                              "start": zoned(duty.start, period.zone),
                              "end": zoned(duty.end, period.zone)}  # fmt: skip
