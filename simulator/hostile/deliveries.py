"""Answers that come byte by byte, in another protocol, or never really begin."""

from __future__ import annotations

from collections.abc import AsyncIterator

from simulator.hostile.kind import Exchange, Hostile, Spoil

DROPS = 1_000
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot-a-size\r\n{}\r\n"


def _drip(exchange: Exchange) -> None:
    reply = exchange.reply
    reply.delivery, reply.spread_seconds, reply.parts = "trickle", exchange.seconds, DROPS


def _drip_late(exchange: Exchange) -> None:
    _drip(exchange)
    reply = exchange.reply
    reply.parts = max(1, len(reply.body))
    reply.spread_seconds = exchange.seconds * reply.parts


def _drip_head(exchange: Exchange) -> None:
    exchange.reply.delivery, exchange.reply.spread_seconds = "drip_head", exchange.seconds


def _bare(raw: bytes) -> Spoil:
    """Return a change that sends only *raw*, without a head."""

    def spoil(exchange: Exchange) -> None:
        exchange.reply.delivery, exchange.reply.body = "bare", raw

    return spoil


def _interim_forever(exchange: Exchange) -> None:
    async def stream() -> AsyncIterator[bytes]:
        while True:
            yield INTERIM * 100

    exchange.reply.delivery, exchange.reply.stream = "bare", stream()


KINDS: dict[str, Hostile] = {
    "drip": Hostile("A body in 1,000 drops, spread over `seconds`.", _drip),
    "drip_late": Hostile("A body byte by byte, `seconds` apart.", _drip_late),
    "drip_head": Hostile("A head byte by byte, `seconds` apart.", _drip_head),
    "not_http": Hostile("Bytes that aren't HTTP.", _bare(b"220 mail.example ESMTP\r\n")),
    "chunk_garbage": Hostile("A chunk whose size isn't a number.", _bare(BAD_CHUNK)),
    "interim_forever": Hostile("100 Continue, again and again.", _interim_forever),
}
