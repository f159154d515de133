"""Bodies that aren't a valid answer: garbage, too deep, too large, or different from their head."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from itertools import chain, repeat

from simulator.hostile.kind import (
    Body,
    Exchange,
    Hostile,
    Spoil,
    pages,
    set_header,
    wrapper_of,
)
from simulator.wire import Reply

MEGABYTE = 2**20
BODY_MEGABYTES, RECORD_MEGABYTES, BOMB_MEGABYTES = 60, 50, 256
TINY_RECORDS, TINY_AT_ONCE = 1_000_000, 2_000
SLICE = b"x" * 2**14
HERE = "@here@"
DEPTH, BRACKETS = 10_000, 1_000_000
GZIP_HEAD = b"\x1f\x8b\x08" + bytes(7)
GARBAGE = bytes(range(256)) * 8
# A reader that trusts this body takes the list for empty.
NOTHING = json.dumps(
    {name: [] for name in ("incidents", "teams", "users", "members", "records", "schedules")}
    | {"more": False, "total": 0, "next_cursor": None}
).encode()
SECOND_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(NOTHING), NOTHING)
HTML = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"


def _is(body: bytes, content_type: str = "application/json") -> Spoil:
    """Return a change that answers 200 with *body*."""

    def spoil(exchange: Exchange) -> None:
        reply = exchange.reply
        reply.status, reply.body, reply.content_type = 200, body, content_type

    return spoil


def _large(change: Callable[[Body], None], pieces: Callable[[int], Iterable[bytes]]) -> Spoil:
    """Return a change that streams a page, with *pieces* in each place that *change* marks."""

    def spoil(exchange: Exchange) -> None:
        pages(lambda body, _: change(body))(exchange)
        first, *others = exchange.reply.body.split(json.dumps(HERE).encode())

        async def stream() -> AsyncIterator[bytes]:
            yield first
            for part in others:
                for piece in pieces(len(others)):
                    yield piece
                yield part

        if others:
            exchange.reply.stream = stream()

    return spoil


def _in_each(body: Body) -> None:
    found = [r for r in body[wrapper_of(body) or ""] if isinstance(r, dict)] or [body]
    for record in found:
        record["padding"] = HERE


def _in_first(body: Body) -> None:
    for record in body[wrapper_of(body) or ""][:1]:
        record["padding"] = HERE


def _instead(body: Body) -> None:
    body[wrapper_of(body) or ""] = [HERE]


def _text(megabytes: int) -> Callable[[int], Iterable[bytes]]:
    """Return a function that yields a text. The texts of all places together have this many megabytes."""
    return lambda places: chain(
        [b'"'], repeat(SLICE, megabytes * MEGABYTE // len(SLICE) // places), [b'"']
    )


def _many_tiny(_: int) -> Iterator[bytes]:
    for start in range(0, TINY_RECORDS, TINY_AT_ONCE):
        ids = range(start, start + TINY_AT_ONCE)
        yield (b"," if start else b"") + b",".join(b'{"id":"T%X"}' % number for number in ids)


def _endless(exchange: Exchange) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b'{"padding":"'
        while True:
            yield b"x" * 65_536

    exchange.reply.status, exchange.reply.stream = 200, stream()


@cache
def _bomb() -> bytes:
    """Return 256 MB of JSON in about 260 KB of gzip: one block again and again, with the right checksum."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    opening, blank, closing = b'{"padding":"', b" " * MEGABYTE, b'"}'
    first = packer.compress(opening) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(blank) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(closing) + packer.flush()
    checksum = zlib.crc32(opening)
    for _ in range(BOMB_MEGABYTES):
        checksum = zlib.crc32(blank, checksum)
    size = len(opening) + BOMB_MEGABYTES * MEGABYTE + len(closing)
    trailer = struct.pack("<II", zlib.crc32(closing, checksum), size)
    return GZIP_HEAD + first + block * BOMB_MEGABYTES + last + trailer


@cache
def _bomb_in_a_bomb() -> bytes:
    return _gzip(_bomb())


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def _encoded(reply: Reply, body: bytes, encoding: str) -> None:
    reply.status, reply.body = 200, body
    set_header(reply, "Content-Encoding", encoding)


def _gzip_unsaid(exchange: Exchange) -> None:
    exchange.reply.body = _gzip(exchange.reply.body)


def _gzip_cut(exchange: Exchange) -> None:
    packed = _gzip(exchange.reply.body)
    _encoded(exchange.reply, packed[: len(packed) // 2], "gzip")


def _says_encoding(encoding: str) -> Spoil:
    return lambda exchange: set_header(exchange.reply, "Content-Encoding", encoding)


def _says_length(*lengths: str) -> Spoil:
    """Return a change that sends these Content-Length headers; `half` means half the body."""

    def spoil(exchange: Exchange) -> None:
        reply = exchange.reply
        half = str(len(reply.body) // 2)
        reply.headers += [("Content-Length", half if text == "half" else text) for text in lengths]

    return spoil


def _answer_twice(exchange: Exchange) -> None:
    """Send a second answer at once, which looks like the answer to the connection's next request."""
    reply = exchange.reply
    set_header(reply, "Content-Length", str(len(reply.body)))
    reply.body += SECOND_ANSWER


KINDS: dict[str, Hostile] = {
    "body_empty": Hostile("200 without a body.", _is(b"")),
    "body_garbage": Hostile("200 with 2 KB of arbitrary bytes.", _is(GARBAGE)),
    "body_html": Hostile("200 with a page of HTML.", _is(HTML, "text/html; charset=utf-8")),
    "body_null": Hostile("200 with `null`.", _is(b"null")),
    "body_text": Hostile("200 with a JSON text.", _is(b'"no records today"')),
    "body_object": Hostile("200 with an empty object.", _is(b"{}")),
    "body_utf16": Hostile("200 with JSON in UTF-16.", _is('{"more":false}'.encode("utf-16"))),
    "body_not_utf8": Hostile("200 with a byte that isn't UTF-8.", _is(b'{"more":false,"x":"\xff"}')),
    "body_deep": Hostile("200 with 10,000 nested objects.",
                         _is(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH)),
    "body_brackets": Hostile("200 with a million opening brackets.", _is(b"[" * BRACKETS)),
    "body_60_mb": Hostile("Pages of 60 MB, spread over their records.", _large(_in_each, _text(BODY_MEGABYTES))),
    "record_50_mb": Hostile("Pages with one record of 50 MB.", _large(_in_first, _text(RECORD_MEGABYTES))),
    "records_tiny": Hostile("Pages of a million records with nothing but an id.", _large(_instead, _many_tiny)),
    "body_endless": Hostile("200 with a body that never ends.", _endless),
    "gzip_bomb": Hostile("256 MB of JSON in a quarter of a MB of gzip.",
                         lambda exchange: _encoded(exchange.reply, _bomb(), "gzip")),
    "gzip_bomb_twice": Hostile(
        "The same, compressed again, into a few KB.",
        lambda exchange: _encoded(exchange.reply, _bomb_in_a_bomb(), "gzip, gzip")),
    "gzip_cut": Hostile("The first half of a compressed body, with the length of the half.", _gzip_cut),
    "gzip_unsaid": Hostile("A compressed body without a Content-Encoding.", _gzip_unsaid),
    "encoding_lies": Hostile("A plain body with Content-Encoding: gzip.", _says_encoding("gzip")),
    "encoding_unknown": Hostile("A plain body with Content-Encoding: snake.",
                                _says_encoding("snake")),
    "length_half": Hostile("A Content-Length of half the body.", _says_length("half")),
    "length_text": Hostile("A Content-Length that isn't a number.", _says_length("many")),
    "length_negative": Hostile("A Content-Length of -1.", _says_length("-1")),
    "length_huge": Hostile("A Content-Length of 10^15.", _says_length(str(10**15))),
    "answer_twice": Hostile("A second answer right after the first one.", _answer_twice),
    "length_two": Hostile("Two Content-Lengths that differ.", _says_length("10", "half")),
}  # fmt: skip
