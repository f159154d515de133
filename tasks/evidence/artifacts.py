"""Writes the records of a run as artifacts, and reads them back."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from tasks.evidence.compression import LEVEL, check_end
from tasks.reading.sealed import PartContent

PART_BYTES = 1 << 30
RUN = re.compile("(?!00000000)[0-9]{8}")
"""The name of a run. Objects with other names beside the runs are not taken for runs."""
_BATCH_BYTES = 1 << 18
_PIECE_BYTES = 1 << 16
"""How much of an artifact is decompressed at a time: JSON grows ten- or twentyfold."""


def lines_of(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stored artifact, without holding it in memory.

    Raises ValueError or zstandard.ZstdError after the last readable line if the artifact isn't whole.
    """
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    rest = b""
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = decompressor.decompress(chunk[start : start + _PIECE_BYTES])
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
    check_end(decompressor)
    if rest:
        raise ValueError("the artifact ends in the middle of a line")


def describe_part(chunks: Iterator[bytes]) -> PartContent:
    """Return size, digests and number of records of a stored artifact, without holding it in memory.

    Raises ValueError or zstandard.ZstdError where it can't be read.
    """
    blob, content, size, records = hashlib.sha256(), hashlib.sha256(), 0, 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            blob.update(chunk)
            size += len(chunk)
            yield chunk

    for line in lines_of(counted()):
        content.update(line)
        content.update(b"\n")
        records += 1
    return PartContent(
        bytes=size,
        sha256=blob.hexdigest(),
        content_sha256=content.hexdigest(),
        records=records,
    )


def describe(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the digest and the size of a stored object, whatever it holds."""
    blob, size = hashlib.sha256(), 0
    for chunk in chunks:
        blob.update(chunk)
        size += len(chunk)
    return blob.hexdigest(), size


class Part:
    """One file of an artifact being written: compressed bytes out, digest of the content kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._digest = hashlib.sha256()
        self._blob = hashlib.sha256()
        self._file = file
        self._stream = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._waiting = bytearray()  # many lines are hashed and compressed at once
        self.bytes = 0
        self.records = 0

    @property
    def size(self) -> int:
        """The bytes of the file, including lines that wait to be compressed."""
        return self.bytes + len(self._waiting)

    def add(self, line: bytes) -> None:
        self._waiting += line
        self.records += 1
        if len(self._waiting) >= _BATCH_BYTES:
            self._take()

    def close(self) -> PartContent:
        """Finish the file; return its size, digests and number of records."""
        self._take()
        self._out(self._stream.flush())
        self._file.flush()
        return PartContent(
            bytes=self.bytes,
            sha256=self._blob.hexdigest(),
            content_sha256=self._digest.hexdigest(),
            records=self.records,
        )

    def _take(self) -> None:
        self._digest.update(self._waiting)
        self._out(self._stream.compress(self._waiting))
        self._waiting.clear()

    def _out(self, data: bytes) -> None:
        self._file.write(data)
        self._blob.update(data)
        self.bytes += len(data)


class Collation:
    """The records of one resource, one line each, the sighting fetched last of each kept.

    Lines wait uncompressed in *spool*. The lines of a superseded pass are cut off again. A run can
    hold millions of records, so each takes only about 150 bytes of memory.
    """

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool
        self._kept: dict[bytes, int] = {}  # key -> number of the sighting
        self._fetched: list[str] = []  # when each sighting was
        self._edges = array("Q", [0])  # where each line begins, and the last one ends
        self._pass: list[bytes] = []  # keys of the sightings that may be cut off again

    def add(self, key: str, fetched_at: str, line: bytes) -> None:
        self._spool.write(line)
        self._pass.append(hashlib.blake2b(key.encode(), digest_size=16).digest())
        self._fetched.append(fetched_at)
        self._edges.append(self._edges[-1] + len(line))

    def end_pass(self, *, counts: bool) -> None:
        """Keep the lines added since the last call if they count; otherwise drop them."""
        first = self.sightings - len(self._pass)
        if counts:
            for number, key in enumerate(self._pass, first):
                known = self._kept.get(key)
                if known is None or self._fetched[known] <= self._fetched[number]:
                    self._kept[key] = number
        else:
            del self._fetched[first:], self._edges[first + 1 :]
            self._spool.seek(self._edges[-1])
            self._spool.truncate()
        self._pass = []

    @property
    def records(self) -> int:
        return len(self._kept)

    @property
    def sightings(self) -> int:
        return len(self._fetched)

    def lines(self) -> Iterator[bytes]:
        """Yield the kept lines in the order they were read."""
        at = -1
        for number in sorted(self._kept.values()):
            begin, end = self._edges[number], self._edges[number + 1]
            if begin != at:
                self._spool.seek(begin)
            yield self._spool.read(end - begin)
            at = end


def write_parts(
    lines: Iterator[bytes], path: Path, most_bytes: int = PART_BYTES
) -> Iterator[PartContent]:
    """Write *lines* to *path*, one part after another; yield a description of each while its file exists.

    Without lines there is one empty part.
    """
    line, begun = next(lines, None), False
    while line is not None or not begun:
        begun = True
        with path.open("wb") as file:
            part = Part(file)
            while line is not None and part.size < most_bytes:
                part.add(line)
                line = next(lines, None)
            account = part.close()
        yield account
