"""Reads and unpacks the body of an answer, up to the largest size that a page can have."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import httpx

from workers.room import BODY_BYTES

ERROR_BYTES = 2**20
"""Longest body of an error answer: PagerDuty's have a few hundred bytes, and error pages of proxies a few KB."""
_PIECE_BYTES = 2**16
"""Most bytes unpacked at a time: gzip packs a thousand blanks into one byte."""
_GZIP = 31
"""zlib's window bits for gzip with its head and checksum."""


class Oversized(httpx.RequestError):
    """The body is larger than any page."""


def read_body(response: httpx.Response, grow: Callable[[int], None]) -> bytes:
    """Return the body of *response*.

    *grow* is called with the size of each piece before the piece is kept; an exception from it ends the reading. Raises
    httpx's RequestError: `Oversized`, DecodingError for bodies that aren't gzip, and the errors of the network.
    """
    most = BODY_BYTES if response.status_code < 300 else ERROR_BYTES
    kept, size = BytesIO(), 0  # BytesIO returns its content without a copy
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
