"""The endpoints: the handler of each path, and the handlers that have no module of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from simulator import catalog, incidents, lists, rota
from simulator.catalog import Listing
from simulator.errors import account_key_has_no_user, forbidden, lacks_ability, not_found
from simulator.records import Incident, Record
from simulator.request import Call
from simulator.simple import get_simple, get_simple_item
from simulator.simple_table import SIMPLE
from simulator.views import view

Answer = bytes | tuple[int, bytes]
Handler = Callable[[Call], Answer]
# include[] values that need an ability: (ability, answer without it)
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
    """Refuse endpoints that the account's plan lacks."""
    if listing.ability and not call.account.has(listing.ability):
        raise lacks_ability(listing.ability)
    for include in call.params.includes:
        ability, answer = INCLUDE_GATES.get(include, (None, None))
        if ability and answer and not call.account.has(ability):
            raise answer


def render(call: Call, listing: Listing, record: Record) -> bytes:
    """Return a record as this request gets it in a list."""
    return view(call.account, record, call.params.includes, call.zone(listing.zone))


def get_list(listing: Listing, call: Call) -> Answer:
    """Answer a list whose records have a history."""
    gate(call, listing)
    rows = lists.select(call, listing)
    includes, zone = call.params.includes, call.zone(listing.zone)
    return lists.classic(call, listing, rows, lambda r: view(call.account, r, includes, zone))


def get_item(listing: Listing, call: Call) -> Answer:
    """Answer one record by id, or an incident by number."""
    gate(call, listing)
    body = view(
        call.account,
        call.find(listing.kind),
        call.params.includes,
        call.zone(listing.zone),
        item=True,
    )
    return wrap(listing.item or listing.wrapper, body)


def wrap(name: str, body: bytes) -> bytes:
    """Return a body under its wrapper key."""
    return b'{"%b":%b}' % (name.encode(), body)


def get_me(call: Call) -> Answer:
    """Answer the user of the key; an account key has no user."""
    if call.key.kind != "user":
        raise account_key_has_no_user()
    call.ids = (call.account.id("users", call.key.user),)
    return get_item(catalog.USERS, call)


def get_user_part(field: str, call: Call) -> Answer:
    """Answer a user's contact methods or notification rules, all at once."""
    body = orjson.loads(view(call.account, call.find("users"), (field,)))
    parts = body[field]
    if field == "notification_rules" and (urgency := call.params.get("urgency") or "high") != "all":
        parts = [p for p in parts if p["urgency"] == urgency]
    return orjson.dumps({field: parts})


def get_members(call: Call) -> Answer:
    """Answer the members of a team."""
    gate(call, catalog.MEMBERS)
    team = call.find("teams")
    rows = [r for r in call.account.stores["members"].rows if r.order[0] == team.id]
    return lists.classic(call, catalog.MEMBERS, rows, partial(render, call, catalog.MEMBERS))


def get_story(call: Call) -> Answer:
    """Answer the log entries of one incident."""
    found = call.find("incidents")
    _ = call.account.log
    rows = lists.select(call, catalog.STORY, call.account.log_of.get(found.id, []))
    return lists.classic(call, catalog.STORY, rows, partial(render, call, catalog.STORY))


def get_part(parts: Callable[[Call, Incident], list[Any]], wrapper: str, call: Call) -> Answer:
    """Answer one kind of part of an incident, all parts at once."""
    return orjson.dumps({wrapper: parts(call, call.find("incidents"))})


def notes_of(call: Call, incident: Incident) -> list[Any]:
    """Return an incident's notes."""
    account = call.account
    return [orjson.Fragment(account.notes.body(note)) for note in account.notes_of(incident)]


def alerts_of(call: Call, incident: Incident) -> list[Any]:
    """Return an incident's alerts."""
    current = orjson.loads(call.account.stores["incidents"].body(incident))
    made = incidents.alerts(call.account, incident, current)
    asked = call.params.all("statuses[]")
    return [a for a in made if not asked or a["status"] in asked]


def get_alerts(call: Call) -> Answer:
    """Answer the alerts of one incident."""
    listing = Listing("/incidents/{id}/alerts", "incidents", "alerts")
    return lists.classic(call, listing, alerts_of(call, call.find("incidents")), orjson.dumps)


def get_audit(call: Call) -> Answer:
    """Answer the account's audit trail, newest first."""
    gate(call, catalog.AUDIT)
    return lists.cursor(
        call, catalog.AUDIT, lists.select(call, catalog.AUDIT), partial(render, call, catalog.AUDIT)
    )


def get_audit_of(kind: str, call: Call) -> Answer:
    """Answer the audit trail of one resource, which doesn't need the audit ability."""
    root = call.find(kind)
    store = call.account.stores["audit_records"]
    rows = [
        r for r in lists.select(call, catalog.AUDIT)
        if orjson.loads(store.body(r))["root_resource"]["id"] == root.id
    ]  # fmt: skip
    return lists.cursor(call, catalog.AUDIT, rows, store.body)


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


ROUTES: dict[str, Handler] = {
    **{li.path: partial(get_list, li) for li in catalog.LISTINGS},
    **{f"{li.path}/{{id}}": partial(get_item, li) for li in catalog.LISTINGS},
    **{f"/{path}/{{id}}/audit/records": partial(get_audit_of, path.replace("/", "_"))
       for path in catalog.AUDITED},
    **{s.path: partial(get_simple, s) for s in SIMPLE},
    **{f"{s.path}/{{id}}": partial(get_simple_item, s) for s in SIMPLE if s.item},
    "/incidents/{id}/log_entries": get_story,
    "/incidents/{id}/alerts": get_alerts,
    "/incidents/{id}/notes": partial(get_part, notes_of, "notes"),
    "/incidents/{id}/custom_fields/values": partial(
        get_part, lambda _, i: incidents.custom_fields(i), "custom_fields"),
    "/users/me": get_me,
    "/users/{id}/contact_methods": partial(get_user_part, "contact_methods"),
    "/users/{id}/notification_rules": partial(get_user_part, "notification_rules"),
    "/teams/{id}/members": get_members,
    "/audit/records": get_audit,
    "/schedules": rota.get_schedules,
    "/schedules/{id}": rota.get_schedule,
    "/schedules/{id}/overrides": rota.get_overrides,
    "/v3/schedules": rota.get_v3_schedules,
    "/v3/schedules/{id}": rota.get_v3_schedule,
    "/oncalls": rota.get_oncalls,
    "/abilities": get_abilities,
    "/abilities/{id}": get_ability,
}  # fmt: skip
_BY_LENGTH: dict[int, list[tuple[list[str], str, Handler]]] = {}
for _path, _handler in sorted(ROUTES.items(), key=lambda r: r[0].count("{")):  # literal paths first
    _parts = _path.split("/")[1:]
    _BY_LENGTH.setdefault(len(_parts), []).append((_parts, _path, _handler))


def route(path: str) -> tuple[str, tuple[str, ...], Handler]:
    """Return the pattern, the ids and the handler of a path. The handler of an unknown path answers 404."""
    if (handler := ROUTES.get(path)) is not None and "{" not in path:
        return path, (), handler
    parts = path.split("/")[1:]
    for pattern, name, candidate in _BY_LENGTH.get(len(parts), ()):
        pairs = list(zip(pattern, parts, strict=True))
        if all(want == got or want[:1] == "{" for want, got in pairs):
            return name, tuple(got for want, got in pairs if want[:1] == "{"), candidate
    return UNKNOWN_PATH, (), get_nothing
