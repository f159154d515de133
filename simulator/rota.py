"""The endpoints for schedules and on-call duty: both kinds of schedule, overrides, /oncalls."""

from __future__ import annotations

from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from simulator import catalog, lists, schedules
from simulator.errors import invalid, lacks_ability
from simulator.records import Record
from simulator.request import Call
from simulator.schedules import TWO_WEEKS, Period
from simulator.times import DAY_SECONDS
from simulator.views import expand

RENDERED = ("schedule_layers", "overrides_subschedule", "final_schedule")
ONCALL_DAYS = 90  # how far into the future /oncalls looks


def period(call: Call, zone_name: str) -> Period | None:
    """Return the period to render a schedule for. One bound gives two weeks. Without bounds, nothing is rendered."""
    since, until = call.time("since"), call.time("until")
    if since is None and until is None:
        return None
    start = (until or 0) - TWO_WEEKS if since is None else since
    end = start + TWO_WEEKS if until is None else until
    zone = call.zone("utc") if call.params.get("time_zone") else ZoneInfo(zone_name)
    return Period(start, end, zone, call.params.flag("overflow"))


def detail(call: Call, record: Record, body: bytes) -> dict[str, Any]:
    """Return the detail body of either kind of schedule, for a stored *body* of it."""
    shown = period(call, orjson.loads(body)["time_zone"])
    if record.kind == "schedules":
        return schedules.render(call.account, record, body, shown)
    if "final_schedule" not in call.params.includes:
        return schedules.render_v3(call.account, record, body, None)
    shown = shown or Period(0, 0, ZoneInfo("UTC"), overflow=False)
    return schedules.render_v3(call.account, record, body, shown)


def get_schedule(call: Call) -> bytes:
    """Answer a layer-based schedule. An upgraded schedule isn't found here."""
    record = call.find("schedules")
    body = call.account.stores["schedules"].body(record)
    return orjson.dumps({"schedule": detail(call, record, body)})


def _gate(call: Call) -> None:
    """Refuse shift-based schedules if the account's plan lacks them."""
    ability = catalog.V3_SCHEDULES.ability
    if ability and not call.account.has(ability):
        raise lacks_ability(ability)


def get_v3_schedule(call: Call) -> bytes:
    """Answer a shift-based schedule. The id of a layer-based one gives a 400."""
    _gate(call)
    if call.ids[0] in call.account.stores["schedules"].by_id:
        raise invalid({"id": ["belongs to a layer-based schedule"]})
    record = call.find("v3_schedules")
    body = call.account.stores["v3_schedules"].body(record)
    return orjson.dumps({"schedule": detail(call, record, body)})


def get_schedules(call: Call) -> bytes:
    """Answer the layer-based schedules. Included layers are only partly rendered."""
    store = call.account.stores["schedules"]
    asked = set(RENDERED).intersection(call.params.includes)

    def shown(record: Record) -> bytes:
        if not asked:
            return store.body(record)
        whole = detail(call, record, store.body(record))
        for field in RENDERED[1:]:  # a list only renders layers; the rest needs the item call
            whole[field] = {"name": whole[field]["name"], "rendered_schedule_entries": []}
        return orjson.dumps({k: v for k, v in whole.items() if k in asked or k not in RENDERED})

    return lists.classic(call, catalog.SCHEDULES, lists.select(call, catalog.SCHEDULES), shown)


def get_v3_schedules(call: Call) -> bytes:
    """Answer references to the shift-based schedules, without a total."""
    _gate(call)
    store = call.account.stores["v3_schedules"]

    def reference(record: Record) -> bytes:
        name = orjson.loads(store.body(record))["name"]
        return orjson.dumps(call.account.refer("v3_schedules", record.id, name))

    rows = lists.select(call, catalog.V3_SCHEDULES)
    return lists.classic(call, catalog.V3_SCHEDULES, rows, reference)


def get_overrides(call: Call) -> tuple[int, bytes]:
    """Answer a schedule's overrides in a period. Both bounds are required; the status is 201."""
    record = call.find("schedules")
    zone = orjson.loads(call.account.stores["schedules"].body(record))["time_zone"]
    shown = period(call, zone)
    if shown is None or call.time("since") is None or call.time("until") is None:
        raise invalid("Since and until are required.")
    return 201, orjson.dumps({"overrides": schedules.overrides(call.account, record, shown)})


def oncalls(call: Call) -> list[bytes]:
    """Return who is on call between since and until, by default now. Items have no id."""
    since, until = call.time("since") or call.now, call.time("until")
    until = max(since, call.now) if until is None else until
    if until < since or until > call.now + ONCALL_DAYS * DAY_SECONDS:
        raise invalid("Until must be within 90 days.")
    shown = Period(since, until, call.zone("account"), overflow=True)
    parts = ("user", "escalation_policy", "schedule")
    wanted = {part: set(call.params.all(f"{part}_ids[]")) for part in parts}
    rows = []
    for oncall in islice(schedules.oncalls(call.account, shown), catalog.CAP):
        if all(not ids or (oncall[part] or {}).get("id") in ids for part, ids in wanted.items()):
            expand(call.account, "oncalls", oncall, call.params.includes)
            rows.append(orjson.dumps(oncall))
    return rows


def get_oncalls(call: Call) -> bytes:
    """Answer who is on call."""
    return lists.classic(call, catalog.ONCALLS, oncalls(call), bytes)
