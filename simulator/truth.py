"""The truth: every record as the API would answer it, now or in each of its versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from operator import attrgetter
from typing import Any

import orjson

from simulator import catalog, lists, rota
from simulator.accounts import KeySpec
from simulator.catalog import Listing
from simulator.records import Record
from simulator.request import Call, Params
from simulator.simple_table import SIMPLE
from simulator.times import iso_micros
from simulator.views import referred, view
from simulator.world import Account

EVERYTHING = KeySpec("(truth)")
CHUNK_BYTES = 1 << 18
LISTINGS = {
    li.kind: li
    for li in (
        *catalog.LISTINGS,
        catalog.AUDIT,
        catalog.SCHEDULES,
        catalog.V3_SCHEDULES,
        catalog.MEMBERS,
    )
}
SCHEDULES = ("schedules", "v3_schedules")
RESOURCES = {
    "team_members": ("members",),
    "schedules": SCHEDULES,
    "schedule_coverage": SCHEDULES,
}


class TruthError(ValueError):
    """Says in one sentence what is wrong with a request for the truth."""


async def stream(
    account: Account, resource: str, params: Params, history: bool = False, at: float | None = None
) -> AsyncIterator[bytes]:
    """Yield one JSON line per record, in chunks: as it is now, with its *history*, or as it was *at* a moment.

    Other requests are answered between the chunks.
    """
    size, lines = 0, list[bytes]()
    for line in _lines(account, resource, params, history, at):
        lines += (account.relinked(line), b"\n")
        size += len(line)
        if size >= CHUNK_BYTES:
            yield b"".join(lines)
            size, lines = 0, []
            await asyncio.sleep(0)
    if lines:
        yield b"".join(lines)


def check(resource: str) -> None:
    """Raise TruthError for an unknown resource."""
    known = {"oncalls", *RESOURCES, *LISTINGS, *(s.path[1:] for s in SIMPLE)}
    if resource not in known:
        raise TruthError(f"resource must be one of {', '.join(sorted(known))}.")


def _lines(
    account: Account, resource: str, params: Params, history: bool, at: float | None
) -> Iterator[bytes]:
    if resource == "oncalls":
        path = catalog.ONCALLS.path
        yield from rota.oncalls(Call(account, EVERYTHING, path, params, account.now()))
        return
    for simple in SIMPLE:
        if simple.path == f"/{resource}":
            yield from map(orjson.dumps, simple.items(account, ()))
            return
    for kind in RESOURCES.get(resource, (resource,)):
        listing = LISTINGS[kind]
        call = Call(account, EVERYTHING, listing.path, params, account.now())
        shown = _viewer(call, listing)
        if at is not None:
            yield from (shown(record, at) for record in _there(call, listing, at))
            continue
        rows = list(lists.select(call, listing, bounded=False))
        if not history:
            yield from (shown(record, None) for record in rows)
            continue
        for record in [*rows, *account.store(kind).removed]:
            yield _history(call, record, shown)


def _there(call: Call, listing: Listing, at: float) -> Iterator[Record]:
    """Yield the records of a list's window that existed at a moment, in today's order."""
    store = call.account.store(listing.kind)
    since, until = lists.bounds(call, listing, bounded=False) if listing.window else (0, 0)
    for record in sorted([*store.rows, *store.removed], key=attrgetter("order")):
        inside = not listing.window or since <= record.created < until
        hidden = call.account.restricted.get(record.id, at + 1) <= at
        if inside and not hidden and record.created <= at and store.body_at(record, at) is not None:
            yield record


def _viewer(call: Call, listing: Listing) -> Callable[[Record, float | None], bytes]:
    """Return the function that shows a record to the call, now or at a moment."""
    account, kind = call.account, listing.kind
    if kind == "members":
        return lambda record, at: _member(call, record, at)
    if kind in ("schedules", "v3_schedules"):
        return lambda record, at: orjson.dumps(
            rota.detail(call, record, view(account, record, at=at))
        )
    zone = call.zone(listing.zone)
    return lambda record, at: view(account, record, call.params.includes, zone, at=at)


def _team(account: Account, record: Record) -> Record | None:
    teams = account.stores["teams"]
    found: Record | None = teams.by_id.get(record.order[0])
    return found or next((t for t in teams.removed if t.id == record.order[0]), None)


def _member(call: Call, record: Record, at: float | None) -> bytes:
    """Return a membership with a reference to its team, which the API leaves out."""
    account, team = call.account, _team(call.account, record)
    body = orjson.loads(view(account, record, call.params.includes, at=at))
    if team is not None:
        store = account.stores["teams"]
        known = (store.body_at(team, at) if at is not None else None) or store.body(team)
        body["team"] = account.refer("teams", team.id, orjson.loads(known)["summary"])
    return orjson.dumps(body)


def _history(call: Call, record: Record, shown: Callable[[Record, float | None], bytes]) -> bytes:
    """Return a record's history as one line: created, deleted, and each version with its times."""
    account, store = call.account, call.account.store(record.kind)
    involved = [record]
    for version in store.versions(record):
        body = orjson.loads(version.body)
        involved += referred(account, record.kind, body, call.params.includes)
    if record.kind == "members" and (team := _team(account, record)):
        involved.append(team)
    moments = {v.since for r in involved for v in account.store(r.kind).versions(r)}
    moments |= {r.gone for r in involved}
    start, end = record.born or 0.0, record.gone
    inner = sorted(m for m in moments if m is not None and m > start and (end is None or m < end))
    edges = [start, *inner]
    versions: list[dict[str, Any]] = []
    for since, until in zip(edges, [*inner, end], strict=True):
        body = orjson.loads(shown(record, since))
        if versions and versions[-1]["record"] == body:
            versions[-1]["to"] = _moment(until)
        else:
            versions.append({"from": _moment(since), "to": _moment(until), "record": body})
    return orjson.dumps({"id": record.id, "created": _moment(record.born), "deleted": _moment(end),
                         "versions": versions})  # fmt: skip


def _moment(epoch_seconds: float | None) -> str | None:
    return iso_micros(epoch_seconds) if epoch_seconds else None
