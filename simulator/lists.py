"""The records of a list, and its pages: windows, filters, order, offset and cursor."""

from __future__ import annotations

import base64
import json
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import orjson

from simulator import audit, incidents
from simulator.catalog import Listing
from simulator.errors import Refusal, invalid, over_cap
from simulator.records import Record
from simulator.request import Call
from simulator.times import DAY_SECONDS, add_months

CREATED = attrgetter("created")
OVERVIEW = ("trigger", "acknowledge", "resolve", "escalate", "assign")
AUDIT_DAYS = 31
INCIDENT_MONTHS = 6
KEPT_SELECTIONS = 32


def _team_ids(call: Call, record: Any) -> set[str]:
    kind, number = record.kind, record.number
    if kind in ("incidents", "log_entries"):
        incident = record if kind == "incidents" else record.incident
        kind, number = "services", incident.service
    return {call.account.ref("teams", t)["id"] for t in call.account.teams_of(kind, number)}


def _people(call: Call, record: Any) -> set[str]:
    if record.kind == "escalation_policies":
        body = orjson.loads(call.account.store(record.kind).body(record))
        return {t["id"] for r in body["escalation_rules"] for t in r["targets"]}
    if record.status == "resolved":  # matches open incidents only
        return set()
    return {call.account.ref("users", incidents.responder(call.account, record))["id"]}


def _audit(call: Call, record: Record) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(call.account.store("audit_records").body(record))
    return body


# parameter -> a record's values for it; a record passes if one of them was requested
FILTERS: dict[str, Callable[[Call, Any], set[str]]] = {
    "statuses[]": lambda _, r: {r.status},
    "urgencies[]": lambda _, r: {r.urgency},
    "service_ids[]": lambda c, r: {c.account.ref("services", r.service)["id"]},
    "team_ids[]": _team_ids,
    "user_ids[]": _people,
    "incident_key": lambda c, r: {orjson.loads(c.account.store(r.kind).body(r))["incident_key"]},
    "name": lambda c, r: {orjson.loads(c.account.store(r.kind).body(r))["name"]},
    "is_overview": lambda _, r: {"true", "false"} if r.what in OVERVIEW else {"false"},
    "actions[]": lambda c, r: {_audit(c, r)["action"]},
    "method_type": lambda c, r: {_audit(c, r)["method"]["type"]},
    "method_truncated_token": lambda c, r: {_audit(c, r)["method"]["truncated_token"]},
    "root_resource_types[]": lambda c, r: {
        str(
            c.account.kind_of_type(_audit(c, r)["root_resource"]["type"].removesuffix("_reference"))
        )
    },
    "actor_type": lambda c, r: {a["type"] for a in _audit(c, r).get("actors", ())},
    "actor_id": lambda c, r: {a["id"] for a in _audit(c, r).get("actors", ())},
}
SORTS: dict[str, Callable[[Any], Any]] = {
    "incident_number": lambda r: r.number,
    "created_at": CREATED,
    "resolved_at": lambda r: r.resolved_at or 0,
    "urgency": lambda r: r.urgency,
    "name": lambda r: r.order,
}


def bounds(call: Call, listing: Listing, bounded: bool = True) -> tuple[float, float]:
    """Return [since, until) of a list's window, with the defaults and maxima of its kind.

    If it isn't *bounded*, missing bounds mean everything, and any length is allowed.
    """
    since, until = call.time("since"), call.time("until")
    if not bounded:
        return (since if since is not None else 0), (until if until is not None else float("inf"))
    if listing.window == "incidents":
        return _incident_bounds(call, since, until)
    if listing.window == "audit":
        until = call.now if until is None else until
        since = until - DAY_SECONDS if since is None else since
        if until - since > AUDIT_DAYS * DAY_SECONDS:
            raise invalid("Until must be at most 31 days after since.")
        return max(since, add_months(call.now, -audit.KEPT_MONTHS)), until
    habits = call.account.spec.habits
    until = call.now + 1 if until is None else until
    since = until - habits.log_default_days * DAY_SECONDS if since is None else since
    if habits.log_max_days is not None and until - since > habits.log_max_days * DAY_SECONDS:
        raise invalid()
    return since, until


def _incident_bounds(call: Call, since: float | None, until: float | None) -> tuple[float, float]:
    if call.params.get("date_range") == "all":
        return 0, float("inf")
    if since is None:
        since = add_months(call.now if until is None else until, -1)
        until = call.now + 1 if until is None else until
    elif until is None:
        until = add_months(since, 1)
    if until < since or until > add_months(since, INCIDENT_MONTHS):
        raise invalid()
    return since, until


def select(
    call: Call, listing: Listing, rows: Sequence[Any] | None = None, bounded: bool = True
) -> Sequence[Any]:
    """Return every record that the request asks for, in order. Results are reused until a record changes."""
    since, until = bounds(call, listing, bounded) if listing.window else (0, 0)
    store = call.account.store(listing.kind)
    asked = [
        p for p in call.params.pairs if p[0] in listing.filters or p[0] in ("sort_by", "query")
    ]
    token = (listing.path, call.ids, tuple(asked), since, until, store.revision, call.key.key)
    cache = call.account.selections
    if token in cache:
        return cache[token]
    rows = store.rows if rows is None else rows
    if listing.window:
        rows = rows[bisect_left(rows, since, key=CREATED) : bisect_left(rows, until, key=CREATED)]
    result = _sorted(call, listing, _filtered(call, listing, rows))
    while len(cache) >= KEPT_SELECTIONS:
        del cache[next(iter(cache))]
    cache[token] = result
    return result


def _filtered(call: Call, listing: Listing, rows: Sequence[Any]) -> Sequence[Any]:
    for name in listing.filters:
        asked = set(call.params.all(name))
        if name == "query" and asked:
            words = [a.casefold() for a in asked]
            rows = [r for r in rows if any(w in r.order[0] for w in words)]
        elif asked:
            rows = [r for r in rows if not asked.isdisjoint(FILTERS[name](call, r))]
    if call.key.sees < 1 or call.account.restricted:
        rows = [r for r in rows if call.sees(r)]
    return rows


def _sorted(call: Call, listing: Listing, rows: Sequence[Any]) -> Sequence[Any]:
    asked = ",".join(call.params.all("sort_by"))
    wanted = [part.partition(":") for part in asked.split(",") if part][:2]
    for field, _, direction in reversed(wanted):
        if field not in listing.sorts or direction not in ("", "asc", "desc"):
            raise invalid("Sort by is invalid.")
        rows = sorted(rows, key=SORTS[field], reverse=direction == "desc")
    return rows


def classic(
    call: Call, listing: Listing, rows: Sequence[Any], render: Callable[[Any], bytes]
) -> bytes:
    """Return one page of the current list, by offset; Refusal above the cap."""
    limit, offset = page_bounds(call, listing)
    if call.account.spec.habits.ties and listing.window:
        rows = _with_loose_ties(call, rows)
    start = offset - 1 if call.trick("duplicate") and offset else offset
    items = [render(r) for r in rows[start : start + limit]]
    more = b"true" if start + limit < len(rows) else b"false"
    tail = b'],"limit":%d,"offset":%d,"more":%b' % (limit, offset, more)
    if listing.has_total:
        total = b"%d" % len(rows) if call.params.flag("total") else b"null"
        tail += b',"total":%b' % total
    return b"".join((b'{"%b":[' % listing.wrapper.encode(), b",".join(items), tail, b"}"))


def page_bounds(call: Call, listing: Listing) -> tuple[int, int]:
    """Return the limit, as it is served, and the offset."""
    habits = call.account.spec.habits
    limit = call.params.whole("limit", listing.limit_default)
    offset = call.params.whole("offset", 0)
    if limit > listing.limit_max and habits.over_limit == "refuse":
        raise invalid(f"Limit must be at most {listing.limit_max}.")
    limit = min(max(limit, 1), listing.limit_max)
    if listing.cap is not None and offset + limit > listing.cap:
        auto = "2001" if listing.window == "log_entries" else "2002"
        raise over_cap(auto if habits.cap_body == "auto" else habits.cap_body)
    limit = min(limit, habits.served.get(listing.path, limit))
    if call.fault is not None and call.fault.kind == "smaller":
        limit = min(limit, call.fault.served)
    return limit, offset


def _with_loose_ties(call: Call, rows: Sequence[Any]) -> Sequence[Any]:
    """Return the rows, with a new order for those that have equal sort values."""
    field = (call.params.get("sort_by") or "created_at").partition(":")[0]
    key = SORTS.get(field, CREATED)
    dice = random.Random(call.now)
    shuffled = sorted(rows, key=lambda _: dice.random())
    down = bool(rows) and key(rows[0]) > key(rows[-1])
    return sorted(shuffled, key=key, reverse=down)


def cursor(
    call: Call, listing: Listing, rows: Sequence[Any], render: Callable[[Any], bytes]
) -> bytes:
    """Return one page by cursor, newest first. New records don't move the cursor."""
    limit = min(max(call.params.whole("limit", listing.limit_default), 1), listing.limit_max)
    if call.fault is not None and call.fault.kind == "smaller":
        limit = min(limit, call.fault.served)
    token = call.params.get("cursor")
    end = len(rows)
    if token is not None:
        end = bisect_left(rows, _place(call, token), key=attrgetter("order"))
    first = max(0, end - limit)
    page = rows[first:end][::-1]
    follows = _token(call, page[-1].order) if first and page else None
    if token is not None and call.trick("cursor_repeated"):
        follows = token
    tail = b'],"next_cursor":%b,"limit":%d,"response_metadata":null}' % (
        orjson.dumps(follows),
        limit,
    )
    items = b",".join(render(r) for r in page)
    return b"".join((b'{"%b":[' % listing.wrapper.encode(), items, tail))


def _token(call: Call, order: tuple[float, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps([*order, call.now]).encode()).decode()


def _place(call: Call, token: str) -> tuple[float, int]:
    """Return the position of a cursor; Refusal (400) if the cursor is invalid or too old."""
    try:
        at, number, issued = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise expired() from None
    lifetime = call.account.spec.habits.cursor_seconds
    if call.trick("cursor_expired") or (lifetime is not None and call.now > issued + lifetime):
        raise expired()
    return at, number


def expired() -> Refusal:
    """Return the 400 of a cursor that is no longer known."""
    return invalid("Cursor is invalid or has expired.")
