"""What a hostile kind is: a sentence, and what it does to a question and to its answer."""

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

    turn: int  # which request of its rule this is, from 1 on
    seconds: float  # how long the rule makes the answer last
    served: int  # how many records the rule serves at most
    path: str  # as it was asked for, region included
    ids: tuple[str, ...]  # what stands in the path's places for ids
    query: Pairs  # as it was sent
    reply: Reply

    def number(self, name: str) -> int:
        """Return a parameter that is a whole number; 0 if it wasn't sent."""
        return next((int(v) for k, v in self.query if k == name and v.isdecimal()), 0)


Spoil = Callable[[Exchange], None]


class Hostile(NamedTuple):
    """A kind: its *sentence* says what comes back, *spoil* makes it of the honest answer."""

    sentence: str
    spoil: Spoil
    without: tuple[str, ...] = ()  # parameters that the honest answer is made without


def asked(kind: Hostile, query: Pairs) -> Pairs:
    """Return the query that the honest answer is made for."""
    return [pair for pair in query if pair[0] not in kind.without]


def is_list(body: object) -> bool:
    """Tell whether a body is a page of a list, by offset or by cursor."""
    return isinstance(body, dict) and ("more" in body or "next_cursor" in body)


def wrapper_of(body: Body) -> str | None:
    """Return the name of the member that holds a body's records."""
    return next((name for name, value in body.items() if isinstance(value, list)), None)


def pages(change: Callable[[Body, Exchange], None]) -> Spoil:
    """Return what applies *change* to each page of a list, and leaves other answers alone."""

    def spoil(exchange: Exchange) -> None:
        body = _decoded(exchange.reply)
        if is_list(body):
            change(body, exchange)
            exchange.reply.body = json.dumps(body).encode()

    return spoil


def records(change: Callable[[Body, Exchange], None]) -> Spoil:
    """Return what applies *change* to each record of each page of a list."""

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
    """Let *reply* say *value*, whatever it or the wire would have said."""
    reply.headers = [pair for pair in reply.headers if pair[0].lower() != name.lower()]
    reply.headers.append((name, value))
