"""Writes the records of a run as artifacts, and reads them back."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from tasks.evidence.compression import LEVEL, check_end
from tasks.reading.sealed import PartContent
from workers.room import BODY_BYTES

PART_BYTES = 1 << 30
RUN = re.compile("(?!00000000)[0-9]{8}")
"""The name of a run. Objects with other names beside the runs are not taken for runs."""
_BATCH_BYTES = 1 << 18
_KEY_BYTES, _TIME_BYTES, _NUMBER_BYTES = 16, 27, 8
_ENTRY_BYTES = _KEY_BYTES + _TIME_BYTES + _NUMBER_BYTES
_MERGED_BYTES = 1_000 * _ENTRY_BYTES
_MOST_KNOWN = 1 << 16
"""How many records of a resource are known in memory, at about 250 bytes each."""
_PIECE_BYTES = 1 << 10
"""How much of an artifact is decompressed at a time. JSON grows ten- or twentyfold, a hostile object 32,000-fold."""
_LONGEST_LINE = BODY_BYTES
"""Most bytes of a line of an artifact: a record is a part of a page."""


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
            if len(rest) > _LONGEST_LINE:
                raise ValueError("a line is longer than any record")
    check_end(decompressor)
    if rest:
        raise ValueError("the artifact ends in the middle of a line")


def describe_part(chunks: Iterator[bytes]) -> PartContent:
    """Return size, digests and number of records of a stored artifact, without holding it in memory.

    Raises ValueError or zstandard.ZstdError where it can't be read.
    """
    blob, content, size, records = hashlib.sha256(), hashlib.sha256(), 0, 0
    decompressor, piece, last = zstandard.ZstdDecompressor().decompressobj(), b"", b"\n"
    for chunk in chunks:
        blob.update(chunk)
        size += len(chunk)
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = decompressor.decompress(chunk[start : start + _PIECE_BYTES])
            content.update(piece)
            records += piece.count(b"\n")
            last = piece[-1:] or last
    check_end(decompressor)
    if last != b"\n":
        raise ValueError("the artifact ends in the middle of a line")
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

    Lines wait uncompressed in *spool*. The lines of a superseded pass are cut off again. A run can hold millions of
    records, so what is known of them waits in files too, as soon as there are many: sorted, as long as the memory has
    room for (`_MOST_KNOWN`), and merged at the end.
    """

    def __init__(self, spool: IO[bytes], another: Callable[[], IO[bytes]]) -> None:
        self._spool = spool
        self._another = another  # opens a file for the rest
        self._runs: IO[bytes] | None = None
        self._ends = [0]  # where each sorted run ends in that file
        self._known: dict[bytes, bytes] = {}  # key -> when it was fetched, number of the sighting
        self._pass: list[tuple[bytes, bytes]] = []  # the sightings that may be cut off again
        self._size = 0  # bytes of the lines that count
        self._kept: tuple[int, bytearray] | None = None
        self.sightings = 0

    def add(self, key: str, fetched_at: str, line: bytes) -> None:
        self._spool.write(line)
        self._kept = None
        number = (self.sightings + len(self._pass)).to_bytes(_NUMBER_BYTES)
        when = fetched_at.encode("ascii", "replace").ljust(_TIME_BYTES)[:_TIME_BYTES]
        digest = hashlib.blake2b(key.encode(), digest_size=_KEY_BYTES).digest()
        self._pass.append((digest, when + number))

    def end_pass(self, *, counts: bool) -> None:
        """Keep the lines added since the last call if they count; otherwise drop them."""
        if counts:
            for key, seen in self._pass:
                if self._known.get(key, b"") < seen:
                    self._known[key] = seen
            self.sightings += len(self._pass)
            self._size = self._spool.tell()
        else:
            self._spool.seek(self._size)
            self._spool.truncate()
        self._pass = []
        if len(self._known) > _MOST_KNOWN:
            self._set_aside()

    def _set_aside(self) -> None:
        """Write what is known to a file, sorted, and forget it."""
        self._runs = self._runs or self._another()
        self._runs.seek(self._ends[-1])
        for key, seen in sorted(self._known.items()):
            self._runs.write(key + seen)
        self._ends.append(self._runs.tell())
        self._known = {}

    @property
    def records(self) -> int:
        return self._keep()[0]

    def lines(self) -> Iterator[bytes]:
        """Yield the kept lines in the order they were read."""
        _, kept = self._keep()
        self._spool.seek(0)
        for number in range(self.sightings):
            line = self._spool.readline()
            if kept[number >> 3] >> (number & 7) & 1:
                yield line

    def _keep(self) -> tuple[int, bytearray]:
        """Return how many sightings are kept, and a bit for each sighting that says whether it is."""
        if self._kept is None:
            count, bits = 0, bytearray((self.sightings >> 3) + 1)
            for newest in self._newest():
                number = int.from_bytes(newest[-_NUMBER_BYTES:])
                bits[number >> 3] |= 1 << (number & 7)
                count += 1
            self._kept = count, bits
        return self._kept

    def _newest(self) -> Iterator[bytes]:
        """Yield the newest sighting of each key."""
        if self._runs is None:
            yield from self._known.values()
            return
        if self._known:
            self._set_aside()
        before = b""
        for entry in heapq.merge(*map(self._run, self._ends, self._ends[1:])):
            if before and before[:_KEY_BYTES] != entry[:_KEY_BYTES]:
                yield before
            before = entry
        yield before

    def _run(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the entries of a sorted run: key, time and number of a sighting."""
        assert self._runs is not None
        for at in range(start, end, _MERGED_BYTES):
            self._runs.seek(at)
            piece = self._runs.read(min(_MERGED_BYTES, end - at))
            yield from (piece[n : n + _ENTRY_BYTES] for n in range(0, len(piece), _ENTRY_BYTES))


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
