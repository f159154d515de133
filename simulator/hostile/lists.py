"""Lists with a wrong total, a wrong `more`, or a wrong offset or cursor."""

from __future__ import annotations

import math
from typing import Any

from simulator.hostile.kind import PAGING, Body, Exchange, Hostile, Spoil, pages, wrapper_of

OVERSIZED = 5_000
CURSOR_LENGTH = 2**20


def _says(**members: Any) -> Spoil:
    """Return a change that overwrites members of the page with *members*."""

    def change(body: Body, _: Exchange) -> None:
        body.update({name: value for name, value in members.items() if name in body})

    return pages(change)


def _total_of(value: Any) -> Spoil:
    def change(body: Body, _: Exchange) -> None:
        if "more" in body:
            body["total"] = value(body.get("total") or 0) if callable(value) else value

    return pages(change)


def _total_wavers(body: Body, exchange: Exchange) -> None:
    if "more" in body:
        body["total"] = 10 * (exchange.turn % 7)


def _more_again(body: Body, exchange: Exchange) -> None:
    if "more" in body:
        body |= {"more": True, "total": None, "offset": exchange.number("offset")}
    else:
        body["next_cursor"] = f"again-{exchange.turn}"


def _more_invented(body: Body, exchange: Exchange) -> None:
    _more_again(body, exchange)
    for record in body[wrapper_of(body) or ""]:
        if isinstance(record, dict) and "id" in record:
            record["id"] += f"{exchange.turn:06X}"


def _more_empty(body: Body, exchange: Exchange) -> None:
    _more_again(body, exchange)
    body[wrapper_of(body) or ""] = []


def _paging_missing(body: Body, _: Exchange) -> None:
    for name in ("more", "limit", "offset", "total", "next_cursor"):
        body.pop(name, None)


def _oversized(body: Body, _: Exchange) -> None:
    name = wrapper_of(body) or ""
    found = body[name][:1]
    body[name] = [record | {"id": f"OVER{number:06}"} for record in found
                  for number in range(OVERSIZED)]  # fmt: skip


def _cursor_circle(body: Body, exchange: Exchange) -> None:
    if "next_cursor" in body:
        body["next_cursor"] = f"circle-{exchange.turn % 3}"


def _cursor_new(body: Body, exchange: Exchange) -> None:
    if "next_cursor" in body:
        body["next_cursor"] = f"new-{exchange.turn}"


KINDS: dict[str, Hostile] = {
    "total_billion": Hostile("A total of 10^9.", _total_of(10**9)),
    "total_trillion": Hostile("A total of 10^12.", _total_of(10**12)),
    "total_beyond_64_bits": Hostile("A total of 10^30.", _total_of(10**30)),
    "total_negative": Hostile("A total of -1.", _total_of(-1)),
    "total_fraction": Hostile("A total of 12.5.", _total_of(12.5)),
    "total_text": Hostile('A total of `"many"`.', _total_of("many")),
    "total_true": Hostile("A total of `true`.", _total_of(True)),
    "total_nan": Hostile("A total of `NaN`, which isn't JSON.", _total_of(math.nan)),
    "total_infinite": Hostile("A total of `Infinity`, which isn't JSON.", _total_of(math.inf)),
    "total_lower": Hostile("A total of half the records.", _total_of(lambda real: real // 2)),
    "total_higher": Hostile("A total of 1,000 too many.", _total_of(lambda real: real + 1_000)),
    "total_wavers": Hostile("A different total on each page.", pages(_total_wavers)),
    "page_again": Hostile(
        "The first page again, whatever page was asked for.", lambda _: None, without=PAGING),
    "more_forever": Hostile(
        "The first page again, whatever page was asked for, and always more.",
        pages(_more_again), without=PAGING),
    "more_invented": Hostile(
        "Records with new ids on each page, and always more.",
        pages(_more_invented), without=PAGING),
    "more_empty": Hostile(
        "Pages without records that say there is more.", pages(_more_empty), without=PAGING),
    "more_text": Hostile('`more` is `"yes"`.', _says(more="yes")),
    "more_null": Hostile("`more` is null.", _says(more=None)),
    "paging_missing": Hostile("Pages that don't say whether more follows.", pages(_paging_missing)),
    "limit_zero": Hostile("A page that says it was served with a limit of 0.", _says(limit=0)),
    "offset_elsewhere": Hostile("A page that says it starts at 9,999.", _says(offset=9_999)),
    "page_oversized": Hostile("5,000 records on a page of 100.", pages(_oversized)),
    "cursor_new": Hostile(
        "The first page again, each time with a new cursor.", pages(_cursor_new), without=("cursor",)),
    "cursor_circle": Hostile(
        "Three cursors in a circle.", pages(_cursor_circle), without=("cursor",)),
    "cursor_huge": Hostile("A cursor of 1 MB.", _says(next_cursor="c" * CURSOR_LENGTH)),
    "cursor_number": Hostile("A cursor that is a number.", _says(next_cursor=42)),
    "cursor_object": Hostile("A cursor that is an object.", _says(next_cursor={"at": 1})),
    "cursor_blank": Hostile("A cursor that is an empty text.", _says(next_cursor="")),
}  # fmt: skip
