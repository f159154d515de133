"""Heads with a wrong status, redirect, limit or date."""

from __future__ import annotations

from simulator.hostile.kind import Exchange, Hostile, Spoil, set_header
from simulator.wire import Reply

HEADER_LENGTH, HEADERS = 2**20, 10_000
NOT_FOUND = b'{"error":{"message":"Not Found","code":2100}}'
LIMITS = ("limit", "remaining", "reset")
ODD_STATUSES = {
    204: "204 where records belong.",
    206: "206 with half a body, as if a part had been asked for.",
    299: "299 with the records.",
    304: "304, though nothing was asked conditionally.",
    418: "418.",
    600: "600, which isn't a status.",
    999: "999, which isn't a status.",
}


def _status(status: int) -> Spoil:
    def spoil(exchange: Exchange) -> None:
        reply = exchange.reply
        reply.status = status
        if status in (204, 304):
            reply.body = b""
        elif status == 206:
            reply.body = reply.body[: len(reply.body) // 2]

    return spoil


def _refuse(reply: Reply, status: int, body: bytes = b"") -> None:
    reply.status, reply.body = status, body


def _in_turn(status: int) -> Spoil:
    """Return a change that answers every second request with *status*."""

    def spoil(exchange: Exchange) -> None:
        if exchange.turn % 2:
            _refuse(exchange.reply, status)

    return spoil


def _not_found_items(exchange: Exchange) -> None:
    if exchange.ids:
        _refuse(exchange.reply, 404, NOT_FOUND)


def _page_too_large(exchange: Exchange) -> None:
    if exchange.number("limit") > exchange.served:
        _refuse(exchange.reply, 504)


def _redirect(where: str) -> Spoil:
    """Return a change that answers 302 to *where*, in which {path} is the requested path."""

    def spoil(exchange: Exchange) -> None:
        _refuse(exchange.reply, 302)
        set_header(exchange.reply, "Location", where.format(path=exchange.path))

    return spoil


def _redirect_circle(exchange: Exchange) -> None:
    _refuse(exchange.reply, 307)
    set_header(exchange.reply, "Location", f"{exchange.path}?hop={exchange.turn % 5}")


def _header(name: str, value: str) -> Spoil:
    return lambda exchange: set_header(exchange.reply, name, value)


def _many_headers(exchange: Exchange) -> None:
    exchange.reply.headers += [(f"X-Header-{number}", "x") for number in range(HEADERS)]


def _limits(*values: str) -> Spoil:
    """Return a change that sends these values for limit, remaining and reset; an empty one stays honest."""

    def spoil(exchange: Exchange) -> None:
        for name, value in zip(LIMITS, values, strict=True):
            if value:
                set_header(exchange.reply, f"ratelimit-{name}", value)

    return spoil


def _too_many(retry_after: str) -> Spoil:
    def spoil(exchange: Exchange) -> None:
        reply = exchange.reply
        _refuse(reply, 429)
        reply.headers = [pair for pair in reply.headers if not pair[0].startswith("ratelimit-")]
        set_header(reply, "Retry-After", retry_after)

    return spoil


KINDS: dict[str, Hostile] = {
    **{f"status_{status}": Hostile(sentence, _status(status))
       for status, sentence in ODD_STATUSES.items()},
    "unauthorized_flaps": Hostile("401 to every second request.", _in_turn(401)),
    "forbidden_flaps": Hostile("403 to every second request.", _in_turn(403)),
    "not_found_flaps": Hostile("404 to every second request.", _in_turn(404)),
    "not_found_items": Hostile("404 to everything but lists.", _not_found_items),
    "page_too_large": Hostile("504 to a limit above `served`.", _page_too_large),
    "redirect_self": Hostile("302 to the same address.", _redirect("{path}")),
    "redirect_away": Hostile("302 to another host.", _redirect("http://127.0.0.1:9{path}")),
    "redirect_file": Hostile("302 to a local file.", _redirect("file:///etc/passwd")),
    "redirect_circle": Hostile("307 from one address to the next, in a circle.", _redirect_circle),
    "header_huge": Hostile("A header of 1 MB.", _header("X-Huge", "x" * HEADER_LENGTH)),
    "header_many": Hostile("10,000 headers.", _many_headers),
    "date_past": Hostile("A Date in 1970.", _header("Date", "Thu, 01 Jan 1970 00:00:00 GMT")),
    "date_future": Hostile("A Date in 9999.", _header("Date", "Fri, 31 Dec 9999 23:59:59 GMT")),
    "date_garbage": Hostile("A Date that isn't one.", _header("Date", "Thu, 45 Foo 99999 99:99:99 XYZ")),
    "limit_remaining_negative": Hostile("ratelimit-remaining is -1.", _limits("", "-1", "")),
    "limit_reset_huge": Hostile("No budget left, and a reset in 10^9 seconds.",
                                _limits("", "0", str(10**9))),
    "limit_is_0": Hostile("ratelimit-limit is 0.", _limits("0", "0", "60")),
    "limit_is_1": Hostile("ratelimit-limit is 1.", _limits("1", "0", "60")),
    "limit_huge": Hostile("All three limit headers are 10^30.", _limits(*[str(10**30)] * 3)),
    "limit_digits": Hostile("All three limit headers have 5,000 digits.", _limits(*["9" * 5_000] * 3)),
    "limit_garbage": Hostile("All three limit headers are words.", _limits(*["lots"] * 3)),
    "retry_after_garbage": Hostile("429 with a Retry-After that isn't one.", _too_many("soon")),
    "retry_after_huge": Hostile("429 with a Retry-After of 10^12 seconds.", _too_many(str(10**12))),
}  # fmt: skip
