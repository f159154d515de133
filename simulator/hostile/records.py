"""Records with wrong ids, members or wrappers."""

from __future__ import annotations

import json
from typing import Any

from simulator.hostile.kind import (
    Body,
    Exchange,
    Hostile,
    Spoil,
    is_list,
    pages,
    records,
    wrapper_of,
)

DEPTH = 10_000
LONG_ID = 100_000
DIGITS = 1_000
TIMES = ("created_at", "updated_at", "execution_time", "last_status_change_at", "start", "end")


def _id_is(value: Any) -> Spoil:
    """Return a change that gives *value* as the id of each page's first record."""

    def change(body: Body, _: Exchange) -> None:
        for record in body[wrapper_of(body) or ""][:1]:
            record["id"] = value

    return pages(change)


def _id_missing(record: Body, _: Exchange) -> None:
    record.pop("id", None)


def _id_same(record: Body, _: Exchange) -> None:
    record["id"] = "PSAMEID"


def _members_null(record: Body, _: Exchange) -> None:
    record.update({name: None for name in record if name != "id"})


def _times_garbage(record: Body, _: Exchange) -> None:
    record.update({name: "the day after 99999-13-45T99:99:99Z" for name in TIMES if name in record})


def _number_long(record: Body, _: Exchange) -> None:
    record["number_of_things"] = 10 ** (DIGITS - 1)


def _half_surrogate(record: Body, _: Exchange) -> None:
    record["summary"] = "half a character: \ud83d"


def _wrapped(value: Any) -> Spoil:
    """Return a change that replaces the page's records by *value*, which is made from them."""

    def change(body: Body, _: Exchange) -> None:
        name = wrapper_of(body) or ""
        body[name] = value(body[name])

    return pages(change)


def _wrapper_wrong(body: Body, _: Exchange) -> None:
    body["things"] = body.pop(wrapper_of(body) or "")


def _body_list(exchange: Exchange) -> None:
    reply = exchange.reply
    if reply.status == 200 and is_list(body := json.loads(reply.body)):
        reply.body = json.dumps(body[wrapper_of(body) or ""]).encode()


def _record_deep(exchange: Exchange) -> None:
    # Written by hand, because json.dumps doesn't nest this deep.
    reply = exchange.reply
    if reply.status == 200 and is_list(body := json.loads(reply.body)):
        deep = b'{"deep":' + b"[" * DEPTH + b"]" * DEPTH + b","
        name = json.dumps(wrapper_of(body)).encode()
        reply.body = reply.body.replace(name + b":[{", name + b":[" + deep, 1)


def _members_twice(exchange: Exchange) -> None:
    reply = exchange.reply
    if reply.status == 200 and is_list(body := json.loads(reply.body)):
        again: Body = {wrapper_of(body) or "": [], "more": False, "next_cursor": None, "total": 0}
        reply.body = reply.body[:-1] + b"," + json.dumps(again).encode()[1:]


KINDS: dict[str, Hostile] = {
    "id_dots": Hostile("The first record of each page has the id `..`.", _id_is("..")),
    "id_dot": Hostile("The first record of each page has the id `.`.", _id_is(".")),
    "id_path": Hostile("An id with slashes that leads to another path: `x/../../users/me`.",
                       _id_is("x/../../users/me")),
    "id_percent": Hostile("An id that is encoded already: `%2e%2e%2fusers`.",
                          _id_is("%2e%2e%2fusers")),
    "id_query": Hostile("An id with a question mark and a hash: `P1?limit=1#x`.",
                        _id_is("P1?limit=1#x")),
    "id_lines": Hostile("An id with line breaks and a header in it.",
                        _id_is("P1\r\nX-Evil: yes\r\n\r\n")),
    "id_nul": Hostile("An id with a NUL character.", _id_is("P1\u0000P2")),
    "id_half": Hostile("An id with half a surrogate pair.", _id_is("P\ud83d")),
    "id_long": Hostile("An id of 100,000 characters.", _id_is("P" * LONG_ID)),
    "id_empty": Hostile("An id that is an empty text.", _id_is("")),
    "id_number": Hostile("An id that is a number.", _id_is(7)),
    "id_null": Hostile("An id that is null.", _id_is(None)),
    "id_object": Hostile("An id that is an object.", _id_is({"id": "P1"})),
    "id_missing": Hostile("Records without an id.", records(_id_missing)),
    "id_same": Hostile("All records have the same id.", records(_id_same)),
    "members_null": Hostile("All members of a record but its id are null.", records(_members_null)),
    "times_garbage": Hostile("Times that aren't times.", records(_times_garbage)),
    "number_long": Hostile("A number of 1,000 digits in each record.", records(_number_long)),
    "half_surrogate": Hostile("Half a surrogate pair in each record.", records(_half_surrogate)),
    "record_deep": Hostile("A record with 10,000 nested lists.", _record_deep),
    "members_twice": Hostile("Each member of a page twice, the second one empty.", _members_twice),
    "wrapper_wrong": Hostile("The records under another name.", pages(_wrapper_wrong)),
    "wrapper_null": Hostile("null where the records belong.", _wrapped(lambda _: None)),
    "wrapper_object": Hostile("An object where the list of records belongs.",
                              _wrapped(lambda found: {str(n): r for n, r in enumerate(found)})),
    "records_text": Hostile("Texts where records belong.",
                            _wrapped(lambda found: ["record"] * len(found))),
    "records_null": Hostile("null where each record belongs.",
                            _wrapped(lambda found: [None] * len(found))),
    "records_lists": Hostile("A list where each record belongs.",
                             _wrapped(lambda found: [[r] for r in found])),
    "body_list": Hostile("A list where the body's object belongs.", _body_list),
}  # fmt: skip
