"""The two zstd frames of a stored page: what proofs need comes first, and the body follows.

So a proof reads the beginning of each object instead of its body. For `zstd -dc`, both frames together are one text.
"""

from __future__ import annotations

import threading
from io import BytesIO

import zstandard

from tasks.evidence.compression import LEVEL
from workers.room import BODY_BYTES

FIRST_BYTES = 2**22
"""Longest first frame, unpacked."""
MOST_BYTES = BODY_BYTES + FIRST_BYTES
"""Longest page, unpacked."""
START_BYTES = 2**14
"""Bytes of an object in which its first frame usually ends. 100 incidents have a first frame of 3 KB."""
MOST_START_BYTES = FIRST_BYTES + 2**16
"""Bytes of an object in which any first frame ends: what can't be compressed becomes only a little longer."""
_BLOCK_HEADER = (
    3  # RFC 8878, section 3.1.1.2: one bit if it is the last, two for its kind, then its size
)
_REPEATED = 1  # the kind of a block that is one byte, repeated
_CHECKSUM_BYTES = 4
_local = threading.local()


def packed(first: bytes, body: bytes) -> bytes:
    """Return the object with these two parts; the body gets a line break, and isn't copied for it."""
    blob = BytesIO()
    compressor = _compressor()
    blob.write(compressor.compress(first))
    with compressor.stream_writer(blob, size=len(body) + 1, closefd=False) as stream:
        stream.write(body)
        stream.write(b"\n")
    return blob.getvalue()


def first_part(start: bytes) -> bytes | None:
    """Return the first part from the *start* of an object; None if more of the object is needed.

    Raises ZstdError or ValueError if it isn't the start of a page.
    """
    end = _end(start)
    return None if end is None else unpacked(start[:end], FIRST_BYTES)


def parts(blob: bytes) -> tuple[bytes, bytes]:
    """Return the two parts of an object. Raises ZstdError or ValueError if it isn't exactly two whole frames."""
    end = _end(blob)
    if end is None:
        raise ValueError("the object is cut")
    view = memoryview(blob)
    return unpacked(view[:end], FIRST_BYTES), unpacked(view[end:], BODY_BYTES + 1)


def room_of_first(start: bytes) -> int:
    """Return how many bytes the first part takes, by its own account; 0 if it isn't one.

    A part that takes more is refused when it is read.
    """
    try:
        return min(_size(start), FIRST_BYTES)
    except (zstandard.ZstdError, ValueError):
        return 0


def room_of(blob: bytes) -> int:
    """Return how many bytes both parts of *blob* take, by their own account; 0 if it isn't a page."""
    try:
        end = _end(blob)
        body = _size(memoryview(blob)[end:]) if end else 0
    except (zstandard.ZstdError, ValueError):
        return 0
    return room_of_first(blob) + min(body, BODY_BYTES)


def unpacked(frame: bytes | memoryview, most_bytes: int) -> bytes:
    """Return the content of one frame; raises ZstdError, or ValueError for a frame that is cut or too large."""
    if _size(frame) > most_bytes:
        raise ValueError("larger than any stored page")
    return _decompressor().decompress(frame, allow_extra_data=False)


def _size(frame: bytes | memoryview) -> int:
    size = zstandard.get_frame_parameters(frame).content_size
    if size < 0 or size > 2**62:
        raise ValueError("its size isn't in its header")
    return size


def _end(blob: bytes) -> int | None:
    """Return where the first frame of *blob* ends; None if that is further on.

    zstandard can't tell that. The blocks of a frame say how long they are.
    """
    if not blob.startswith(zstandard.FRAME_HEADER):
        raise ValueError("it doesn't begin with a frame")
    has_checksum = zstandard.get_frame_parameters(blob).has_checksum
    at, last = zstandard.frame_header_size(blob), 0
    while not last:
        header = int.from_bytes(blob[at : at + _BLOCK_HEADER], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        at += _BLOCK_HEADER + (1 if kind == _REPEATED else size)
        if at > len(blob):
            return None
    at += _CHECKSUM_BYTES * has_checksum
    return at if at <= len(blob) else None


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor. It holds state, and making one costs more than compressing a page."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _local.decompressor
    return decompressor
