"""A record as one request sees it: references expanded, extra fields added, times in a zone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson

from simulator import config, incidents, log
from simulator.records import Record
from simulator.times import parse, zoned

if TYPE_CHECKING:
    from simulator.world import Account

UTC_ZONE = ZoneInfo("UTC")

# include -> place in the body of the references that it expands ("*": each of a list)
EXPANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "incidents": {
        "acknowledgers": ("acknowledgements", "*", "acknowledger"),
        "agents": ("last_status_change_by",),
        "assignees": ("assignments", "*", "assignee"),
        "escalation_policies": ("escalation_policy",),
        "first_trigger_log_entries": ("first_trigger_log_entry",),
        "priorities": ("priority",),
        "services": ("service",),
        "teams": ("teams", "*"),
        "users": ("assignments", "*", "assignee"),
    },
    "log_entries": {"incidents": ("incident",), "services": ("service",), "teams": ("teams", "*")},
    "services": {"escalation_policies": ("escalation_policy",), "teams": ("teams", "*")},
    "users": {"teams": ("teams", "*")},
    "escalation_policies": {
        "services": ("services", "*"),
        "teams": ("teams", "*"),
        "targets": ("escalation_rules", "*", "targets", "*"),
    },
    "members": {"users": ("user",)},
    "oncalls": {
        "escalation_policies": ("escalation_policy",),
        "users": ("user",),
        "schedules": ("schedule",),
    },
}
# include -> the fields of the kind's MORE function that it adds or replaces
ADDS: dict[str, dict[str, tuple[str, ...]]] = {
    "incidents": {"conference_bridge": ("conference_bridge",), "custom_fields": ("custom_fields",)},
    "log_entries": {"channels": ("channel",)},
    "services": {
        "integrations": ("integrations",),
        "auto_pause_notifications_parameters": ("auto_pause_notifications_parameters",),
    },
    "users": {
        "contact_methods": ("contact_methods",),
        "notification_rules": ("notification_rules",),
        "subdomains": ("subdomains",),
        "calendar_urls": ("http_cal_url", "web_cal_url"),
    },
}
ITEM_ONLY = {("incidents", "custom_fields"), ("users", "calendar_urls")}
MORE: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    **config.MORE,
    "incidents": incidents.more,
    "log_entries": log.more,
}
TIMES = {
    "incidents": ("created_at", "updated_at", "resolved_at", "last_status_change_at"),
    "log_entries": ("created_at",),
    "services": ("created_at", "updated_at", "last_incident_timestamp"),
}


def view(
    account: Account,
    record: Record,
    includes: Collection[str] = (),
    zone: ZoneInfo = UTC_ZONE,
    *,
    at: float | None = None,
    item: bool = False,
) -> bytes:
    """Return the record's JSON for one request. With *at*, return it as it was then."""
    store = account.store(record.kind)
    plain = store.body(record) if at is None else store.body_at(record, at)
    assert plain is not None
    local = zone is not UTC_ZONE and record.kind in TIMES
    if not local and not includes:
        return plain
    body = orjson.loads(plain)
    adds = ADDS.get(record.kind, {})
    wanted = [i for i in includes if i in adds and (item or (record.kind, i) not in ITEM_ONLY)]
    if wanted:
        more = MORE[record.kind](account, record)
        body |= {field: more[field] for include in wanted for field in adds[include]}
    for field in TIMES.get(record.kind, ()) if local else ():
        if body[field]:
            body[field] = zoned(parse(body[field], UTC_ZONE), zone)
    expand(account, record.kind, body, includes, at)
    return orjson.dumps(body)


def expand(
    account: Account, kind: str, body: Any, includes: Collection[str], at: float | None = None
) -> None:
    """Replace references by whole objects, as *includes* says. References to deleted records stay."""
    paths = EXPANDS.get(kind, {})
    for include in includes:
        for holder, place in _places(body, paths.get(include, ())):
            reference = holder[place]
            if not isinstance(reference, dict):  # null, or expanded by another include
                continue
            found = lookup(account, reference, deleted=at is not None)
            whole = found and (
                account.store(found.kind).body(found)
                if at is None
                else account.store(found.kind).body_at(found, at)
            )
            if whole:
                holder[place] = orjson.Fragment(whole)


def _places(node: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value at *path*."""
    if not path or not node or isinstance(node, orjson.Fragment):
        return
    step, rest = path[0], path[1:]
    keys = range(len(node)) if step == "*" else (step,) if step in node else ()
    for key in keys:
        if rest:
            yield from _places(node[key], rest)
        else:
            yield node, key


def referred(account: Account, kind: str, body: Any, includes: Collection[str]) -> Iterator[Record]:
    """Yield the records that *includes* would put into *body*, also deleted ones."""
    paths = EXPANDS.get(kind, {})
    for include in includes:
        for holder, place in _places(body, paths.get(include, ())):
            if isinstance(holder[place], dict) and (found := lookup(account, holder[place], True)):
                yield found


def lookup(account: Account, reference: dict[str, Any], deleted: bool = False) -> Record | None:
    """Return the record that a reference names, if it exists (or, if asked, existed)."""
    type_ = reference["type"].removesuffix("_reference")
    kind = account.kind_of_type(type_)
    if kind is None:
        return None
    store = account.store(kind)
    found: Record | None = store.by_id.get(reference["id"])
    if found is None and deleted:
        found = next((r for r in store.removed if r.id == reference["id"]), None)
    return found
