"""The body of an answer, unpacked and never larger than a page can be: whatever its head promises."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import httpx

from workers.room import BODY_BYTES

ERROR_BYTES = 2**20
"""Longest body of an error answer: PagerDuty's have a few hundred bytes, error pages a few KB."""
_PIECE_BYTES = 2**16
"""Unpacked at a time: gzip packs a thousand blanks into a byte."""
_GZIP = 31
"""zlib's window bits for gzip with its head and checksum."""


class Oversized(httpx.RequestError):
    """The body is larger than any page."""


def read_body(response: httpx.Response, grow: Callable[[int], None]) -> bytes:
    """Return the body of *response*.

    *grow* is called with each number of further bytes before they are kept; what it raises ends the reading. Raises
    httpx's RequestError: `Oversized`, DecodingError for what isn't gzip, and what reading from the network raises.
    """
    most = BODY_BYTES if response.status_code < 300 else ERROR_BYTES
    kept, size = BytesIO(), 0  # gives its content away without a copy
    for piece in _plain(response, most):
        size += len(piece)
        if size > most:
            raise Oversized(f"larger than {most} bytes")
        grow(len(piece))
        kept.write(piece)
    return kept.getvalue()


def _plain(response: httpx.Response, most: int) -> Iterator[bytes]:
    match response.headers.get("content-encoding", "identity").strip().lower():
        case "identity" | "":
            return response.iter_raw()
        case "gzip" | "x-gzip":
            return _unpacked(response.iter_raw(), most)
    raise httpx.DecodingError("another encoding than the one that was asked for")


def _unpacked(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    unpacker, received = zlib.decompressobj(_GZIP), 0
    for chunk in chunks:
        received += len(chunk)
        if received > most:
            raise Oversized(f"more than {most} packed bytes")
        try:
            yield from _pieces(unpacker, chunk)
        except zlib.error:
            raise httpx.DecodingError("not gzip") from None
    if received and not unpacker.eof:
        raise httpx.DecodingError("cut")


def _pieces(unpacker: zlib._Decompress, chunk: bytes) -> Iterator[bytes]:
    while chunk and not unpacker.eof:
        yield unpacker.decompress(chunk, _PIECE_BYTES)
        chunk = unpacker.unconsumed_tail
