"""Defines a hostile kind: a sentence, and its changes to a request and to the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from simulator.wire import Reply

Pairs = Sequence[tuple[str, str]]
Body = dict[str, Any]
PAGING = ("offset", "cursor")


@dataclass(slots=True)
class Exchange:
    """One request under a hostile rule, and the honest answer to it, which the kind may change."""

    turn: int  # number of this request in its rule, from 1
    seconds: float  # how long the rule makes the answer last
    served: int  # how many records the rule serves at most
    path: str  # as requested, including the region
    ids: tuple[str, ...]  # the ids in the path
    query: Pairs  # as sent
    reply: Reply

    def number(self, name: str) -> int:
        """Return a parameter that is a whole number; 0 if it wasn't sent."""
        return next((int(v) for k, v in self.query if k == name and v.isdecimal()), 0)


Spoil = Callable[[Exchange], None]


class Hostile(NamedTuple):
    """A kind: its *sentence* describes the answer, and *spoil* makes it from the honest one."""

    sentence: str
    spoil: Spoil
    without: tuple[str, ...] = ()  # parameters that are removed for the honest answer


def asked(kind: Hostile, query: Pairs) -> Pairs:
    """Return the query for the honest answer."""
    return [pair for pair in query if pair[0] not in kind.without]


def is_list(body: object) -> bool:
    """Say whether a body is a page of a list, by offset or by cursor."""
    return isinstance(body, dict) and ("more" in body or "next_cursor" in body)


def wrapper_of(body: Body) -> str | None:
    """Return the name of the member that holds a body's records."""
    return next((name for name, value in body.items() if isinstance(value, list)), None)


def pages(change: Callable[[Body, Exchange], None]) -> Spoil:
    """Return a function that applies *change* to each page of a list, and leaves other answers alone."""

    def spoil(exchange: Exchange) -> None:
        body = _decoded(exchange.reply)
        if is_list(body):
            change(body, exchange)
            exchange.reply.body = json.dumps(body).encode()

    return spoil


def records(change: Callable[[Body, Exchange], None]) -> Spoil:
    """Return a function that applies *change* to each record of each page of a list."""

    def each(body: Body, exchange: Exchange) -> None:
        for record in body[wrapper_of(body) or ""]:
            change(record, exchange)

    return pages(each)


def _decoded(reply: Reply) -> Any:
    if reply.status != 200:
        return None
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def set_header(reply: Reply, name: str, value: str) -> None:
    """Set a header of *reply* to *value*, and drop earlier values."""
    reply.headers = [pair for pair in reply.headers if pair[0].lower() != name.lower()]
    reply.headers.append((name, value))
