"""The endpoints: which handler answers a path, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from simulator import catalog, incidents, lists, schedules
from simulator.catalog import Listing
from simulator.errors import account_key_has_no_user, forbidden, invalid, lacks_ability, not_found
from simulator.records import Incident, Record, make_id
from simulator.request import Call
from simulator.schedules import TWO_WEEKS, Period
from simulator.simple import SIMPLE, Simple
from simulator.times import DAY_SECONDS, add_months
from simulator.views import expand, view

Answer = bytes | tuple[int, bytes]
Handler = Callable[[Call], Answer]
# include[] values that need an ability: (ability, what its absence answers)
INCLUDE_GATES = {
    "conference_bridge": ("coordinated_responding", lacks_ability("coordinated_responding")),
    "escalation_rule_assignment_strategies": ("round_robin", forbidden()),
}
UNKNOWN_PATH = "(unknown)"
ABILITIES = (
    "teams", "audit", "coordinated_responding", "priorities", "round_robin", "sso",
    "advanced_reports", "urgencies", "manage_schedules", "manage_api_keys", "service_support_hours",
)  # fmt: skip


def gate(call: Call, listing: Listing) -> None:
    """Refuse what the account's plan lacks."""
    if listing.ability and not call.account.has(listing.ability):
        raise lacks_ability(listing.ability)
    for include in call.params.includes:
        ability, answer = INCLUDE_GATES.get(include, (None, None))
        if ability and answer and not call.account.has(ability):
            raise answer


def render(call: Call, listing: Listing, record: Record) -> bytes:
    """Return a record as this request sees it in a list."""
    return view(call.account, record, call.params.includes, call.zone(listing.zone))


def get_list(listing: Listing, call: Call) -> Answer:
    """Answer a list whose records have a history."""
    gate(call, listing)
    rows = lists.select(call, listing)
    includes, zone = call.params.includes, call.zone(listing.zone)
    return lists.classic(call, listing, rows, lambda r: view(call.account, r, includes, zone))


def get_item(listing: Listing, call: Call) -> Answer:
    """Answer one record by id; incidents by number too."""
    gate(call, listing)
    body = view(
        call.account,
        find(call, listing.kind),
        call.params.includes,
        call.zone(listing.zone),
        item=True,
    )
    return wrap(listing.item or listing.wrapper, body)


def wrap(name: str, body: bytes) -> bytes:
    """Return a body under its wrapper key."""
    return b'{"%b":%b}' % (name.encode(), body)


def find(call: Call, kind: str) -> Any:
    """Return the record the path names; 404 if it is gone, unknown or hidden from the key."""
    if kind == "incidents":
        found: Record | None = call.account.incident(call.ids[0])
    else:
        found = call.account.store(kind).by_id.get(call.ids[0])
    if found is None or not lists.visible(call, found):
        raise not_found()
    return found


def get_me(call: Call) -> Answer:
    """Answer who the key belongs to; an account key belongs to nobody."""
    if call.key.kind != "user":
        raise account_key_has_no_user()
    call.ids = (make_id("users", call.key.user),)
    return get_item(catalog.USERS, call)


def get_user_part(field: str, call: Call) -> Answer:
    """Answer a user's contact methods or notification rules, all at once."""
    body = orjson.loads(view(call.account, find(call, "users"), (field,)))
    parts = body[field]
    if field == "notification_rules" and (urgency := call.params.get("urgency") or "high") != "all":
        parts = [p for p in parts if p["urgency"] == urgency]
    return orjson.dumps({field: parts})


def get_members(call: Call) -> Answer:
    """Answer the members of a team."""
    gate(call, catalog.MEMBERS)
    team = find(call, "teams")
    rows = [r for r in call.account.stores["members"].rows if r.order[0] == team.id]
    return lists.classic(call, catalog.MEMBERS, rows, partial(render, call, catalog.MEMBERS))


def get_story(call: Call) -> Answer:
    """Answer the log entries of one incident."""
    found = find(call, "incidents")
    _ = call.account.log
    rows = lists.select(call, catalog.STORY, call.account.log_of.get(found.id, []))
    return lists.classic(call, catalog.STORY, rows, partial(render, call, catalog.STORY))


def get_part(parts: Callable[[Call, Incident], list[Any]], wrapper: str, call: Call) -> Answer:
    """Answer what belongs to one incident, all at once."""
    return orjson.dumps({wrapper: parts(call, find(call, "incidents"))})


def alerts_of(call: Call, incident: Incident) -> list[Any]:
    """Return an incident's alerts."""
    current = orjson.loads(call.account.stores["incidents"].body(incident))
    made = incidents.alerts(call.account, incident, current)
    asked = call.params.all("statuses[]")
    return [a for a in made if not asked or a["status"] in asked]


def get_alerts(call: Call) -> Answer:
    """Answer the alerts of one incident."""
    listing = Listing("/incidents/{id}/alerts", "incidents", "alerts")
    return lists.classic(call, listing, alerts_of(call, find(call, "incidents")), orjson.dumps)


def get_audit(call: Call) -> Answer:
    """Answer the account's audit trail, newest first."""
    gate(call, catalog.AUDIT)
    return lists.cursor(
        call, catalog.AUDIT, lists.select(call, catalog.AUDIT), partial(render, call, catalog.AUDIT)
    )


def get_audit_of(kind: str, call: Call) -> Answer:
    """Answer the audit trail of one resource, which needs no audit ability of its own."""
    root = find(call, kind)
    store = call.account.stores["audit_records"]
    rows = [
        r for r in lists.select(call, catalog.AUDIT)
        if orjson.loads(store.body(r))["root_resource"]["id"] == root.id
    ]  # fmt: skip
    return lists.cursor(call, catalog.AUDIT, rows, store.body)


def period(call: Call, zone_name: str, required: bool = False) -> Period | None:
    """Return the bounds to render a schedule for; one alone gives two weeks, none nothing."""
    since, until = call.time("since"), call.time("until")
    if required and (since is None or until is None):
        raise invalid("Since and until are required.")
    if since is None and until is None:
        return None
    start = (until or 0) - TWO_WEEKS if since is None else since
    end = start + TWO_WEEKS if until is None else until
    zone = call.zone(zone_name) if call.params.get("time_zone") else None
    return Period(start, end, zone or ZoneInfo(zone_name), call.params.flag("overflow"))


def schedule_detail(call: Call, record: Record, body: bytes) -> dict[str, Any]:
    """Return the detail body of either kind of schedule."""
    shown = period(call, orjson.loads(body)["time_zone"])
    if record.kind == "schedules":
        return schedules.render(call.account, record, body, shown)
    if "final_schedule" not in call.params.includes:
        return schedules.render_v3(call.account, record, body, None)
    shown = shown or Period(0, 0, ZoneInfo("UTC"), overflow=False)
    return schedules.render_v3(call.account, record, body, shown)


def get_schedule(call: Call) -> Answer:
    """Answer a layer-based schedule; an upgraded one is gone from here."""
    record = find(call, "schedules")
    body = call.account.stores["schedules"].body(record)
    return orjson.dumps({"schedule": schedule_detail(call, record, body)})


def get_v3_schedule(call: Call) -> Answer:
    """Answer a shift-based schedule; the id of a layer-based one is a 400."""
    if call.ids[0] in call.account.stores["schedules"].by_id:
        raise invalid({"id": ["belongs to a layer-based schedule"]})
    record = find(call, "v3_schedules")
    body = call.account.stores["v3_schedules"].body(record)
    return orjson.dumps({"schedule": schedule_detail(call, record, body)})


def get_schedules(call: Call) -> Answer:
    """Answer the layer-based schedules; what is included is rendered in part only."""
    store = call.account.stores["schedules"]
    fields = {"schedule_layers", "overrides_subschedule", "final_schedule"} & set(
        call.params.includes
    )

    def shown(record: Record) -> bytes:
        if not fields:
            return store.body(record)
        whole = schedule_detail(call, record, store.body(record))
        for field in ("overrides_subschedule", "final_schedule"):
            whole[field] = {"name": whole[field]["name"], "rendered_schedule_entries": []}
        left_out = {"schedule_layers", "overrides_subschedule", "final_schedule"} - fields
        return orjson.dumps({k: v for k, v in whole.items() if k not in left_out})

    rows = lists.select(call, catalog.SCHEDULES)
    return lists.classic(call, catalog.SCHEDULES, rows, shown)


def get_v3_schedules(call: Call) -> Answer:
    """Answer references to the shift-based schedules; there is no total."""
    store = call.account.stores["v3_schedules"]

    def reference(record: Record) -> bytes:
        name = orjson.loads(store.body(record))["name"]
        return orjson.dumps(call.account.refer("v3_schedules", record.id, name))

    rows = lists.select(call, catalog.V3_SCHEDULES)
    return lists.classic(call, catalog.V3_SCHEDULES, rows, reference)


def get_overrides(call: Call) -> Answer:
    """Answer a schedule's overrides in a period; success is a 201."""
    record = find(call, "schedules")
    zone = orjson.loads(call.account.stores["schedules"].body(record))["time_zone"]
    shown = period(call, zone, required=True)
    assert shown is not None
    return 201, orjson.dumps({"overrides": schedules.overrides(call.account, record, shown)})


def get_oncalls(call: Call) -> Answer:
    """Answer who is on call between since and until, both now by default; items have no id."""
    since, until = call.time("since") or call.now, call.time("until")
    until = max(since, call.now) if until is None else until
    if until < since or until > call.now + 90 * DAY_SECONDS:
        raise invalid("Until must be within 90 days.")
    shown = Period(since, until, call.zone("account"), True)
    wanted = {
        part: set(call.params.all(f"{part}_ids[]"))
        for part in ("user", "escalation_policy", "schedule")
    }
    rows = [
        o for o in islice(schedules.oncalls(call.account, shown), catalog.CAP)
        if all(not ids or (o[part] or {}).get("id") in ids for part, ids in wanted.items())
    ]  # fmt: skip

    def shown_whole(oncall: Any) -> bytes:
        body = dict(oncall)
        expand(call.account, "oncalls", body, call.params.includes)
        return orjson.dumps(body)

    return lists.classic(call, Listing("/oncalls", "users", "oncalls"), rows, shown_whole)


def get_abilities(call: Call) -> Answer:
    """Answer the plan's abilities as plain strings."""
    return orjson.dumps({"abilities": [a for a in ABILITIES if call.account.has(a)]})


def get_ability(call: Call) -> Answer:
    """Answer 204 for an ability of the plan, 402 for one it lacks, 404 for an unknown one."""
    if call.ids[0] not in ABILITIES:
        raise not_found()
    if not call.account.has(call.ids[0]):
        raise lacks_ability(call.ids[0])
    return 204, b""


def get_nothing(_: Call) -> Answer:
    """Answer a path that does not exist."""
    raise not_found()


def get_simple(simple: Simple, call: Call) -> Answer:
    """Answer a collection that is nothing but data."""
    if simple.gate and not call.account.has(simple.gate):
        raise not_found(None) if simple.gate_status == 404 else lacks_ability(simple.gate)
    if simple.bounds:
        since, until = call.time("since"), call.time("until")
        if since is None or until is None or until > add_months(since, 3):
            raise invalid("Since and until are required, at most 3 months apart.")
    if simple.utc_only and any(not (call.params.get(n) or "Z").endswith(("Z", "+00:00"))
                               for n in ("since", "until")):  # fmt: skip
        raise invalid("Times must be in UTC.")
    items = simple.items(call.account, call.ids)
    if simple.paging == "one":
        return orjson.dumps({simple.wrapper: items[0]})
    if simple.paging == "none":
        return orjson.dumps({simple.wrapper: items} | simple.extra)
    listing = Listing(simple.path, "users", simple.wrapper, has_total=simple.has_total)
    if simple.paging == "cursor":
        return _simple_cursor(call, listing, items, simple.extra)
    return lists.classic(call, listing, items, orjson.dumps)


def _simple_cursor(
    call: Call, listing: Listing, items: Sequence[Any], extra: dict[str, Any]
) -> bytes:
    start = int(call.params.get("cursor") or 0)
    limit = min(max(call.params.whole("limit", 25), 1), 100)
    follows = str(start + limit) if start + limit < len(items) else None
    page = list(items[start : start + limit])
    return orjson.dumps({listing.wrapper: page, "next_cursor": follows, "limit": limit} | extra)


def get_simple_item(simple: Simple, call: Call) -> Answer:
    """Answer one item of a collection that is nothing but data."""
    for item in simple.items(call.account, call.ids):
        if item.get("id") == call.ids[-1]:
            return orjson.dumps({simple.item: item})
    raise not_found()


ROUTES: dict[str, Handler] = {
    **{li.path: partial(get_list, li) for li in catalog.LISTINGS},
    **{f"{li.path}/{{id}}": partial(get_item, li) for li in catalog.LISTINGS},
    **{f"/{path}/{{id}}/audit/records": partial(get_audit_of, path.replace("/", "_"))
       for path in catalog.AUDITED},
    **{s.path: partial(get_simple, s) for s in SIMPLE},
    **{f"{s.path}/{{id}}": partial(get_simple_item, s) for s in SIMPLE if s.item},
    "/incidents/{id}/log_entries": get_story,
    "/incidents/{id}/alerts": get_alerts,
    "/incidents/{id}/notes": partial(get_part, lambda c, i: incidents.notes(c.account, i), "notes"),
    "/incidents/{id}/custom_fields/values": partial(
        get_part, lambda _, i: incidents.custom_fields(i), "custom_fields"),
    "/users/me": get_me,
    "/users/{id}/contact_methods": partial(get_user_part, "contact_methods"),
    "/users/{id}/notification_rules": partial(get_user_part, "notification_rules"),
    "/teams/{id}/members": get_members,
    "/audit/records": get_audit,
    "/schedules": get_schedules,
    "/schedules/{id}": get_schedule,
    "/schedules/{id}/overrides": get_overrides,
    "/v3/schedules": get_v3_schedules,
    "/v3/schedules/{id}": get_v3_schedule,
    "/oncalls": get_oncalls,
    "/abilities": get_abilities,
    "/abilities/{id}": get_ability,
}  # fmt: skip
_BY_LENGTH: dict[int, list[tuple[list[str], str, Handler]]] = {}
for _path, _handler in sorted(ROUTES.items(), key=lambda r: r[0].count("{")):  # literal paths first
    _parts = _path.split("/")[1:]
    _BY_LENGTH.setdefault(len(_parts), []).append((_parts, _path, _handler))


def route(path: str) -> tuple[str, tuple[str, ...], Handler]:
    """Return the pattern, the ids and the handler of a path; one that answers 404 if unknown."""
    if (handler := ROUTES.get(path)) is not None and "{" not in path:
        return path, (), handler
    parts = path.split("/")[1:]
    for pattern, name, candidate in _BY_LENGTH.get(len(parts), ()):
        pairs = list(zip(pattern, parts, strict=True))
        if all(want == got or want[:1] == "{" for want, got in pairs):
            return name, tuple(got for want, got in pairs if want[:1] == "{"), candidate
    return UNKNOWN_PATH, (), get_nothing
