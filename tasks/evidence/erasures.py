"""Which runs of a source were erased, according to the records that can be trusted."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import dropwhile

from tasks.evidence import documents
from tasks.evidence.artifacts import RUN
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import (
    RECORDS,
    Finished,
    StoredErasure,
    done_key,
    read_record,
    record_key,
)
from tasks.evidence.layout import manifest_key, plan_key
from tasks.evidence.signatures import check_record
from workers.signing.keys import PublicKeys
from workers.storage import Storage

_NAME = re.compile(rf"({RUN.pattern})\.(dsse|done)\.json")
_READERS = 8
_LAST = 99_999_999  # runs have eight digits


class Purged:
    """The erased runs of a source. Only valid records count.

    A record is valid if it is whole, if it begins with the first run or follows a valid record, and if each manifest
    that is still stored for its runs is the one it names. If *keys* are given, one of them must have signed it.
    Listings and records are read once, and only if they are needed:
    while nothing of an erased run is stored, no record is read.
    """

    def __init__(self, storage: Storage, source: str, keys: PublicKeys | None = None) -> None:
        self._storage = storage
        self._source = source
        self._keys = keys

    @cached_property
    def stored(self) -> list[str]:
        """The runs that have at least one stored object, oldest first."""
        names = self._storage.children(f"{self._source}/runs")
        return [name for name in names if RUN.fullmatch(name)]

    @property
    def kept(self) -> list[str]:
        """The runs that were not erased, oldest first."""
        return [run for run in self.stored if not self.erased(run)]

    def oldest_first(self) -> Iterator[str]:
        """Yield the runs of `stored`, listing each only when it is asked for."""
        number = self._next_run(0)
        while number is not None:
            yield _name(number)
            number = self._next_run(number)

    def oldest_kept(self) -> Iterator[str]:
        """Yield the runs of `kept`, listing each only when it is asked for."""
        return dropwhile(self.erased, self.oldest_first())

    @property
    def left(self) -> list[str]:
        """The erased runs that still have objects, oldest first; listed only if the oldest run is one of them."""
        oldest = next(self.oldest_first(), None)
        if oldest is None or not self.erased(oldest):
            return []
        return [run for run in self.stored if self.erased(run)]

    def newest(self, known: str = "") -> str:
        """Return the newest run that was not erased; "" if none is left.

        It takes a few requests if it is *known* or comes soon after that run, otherwise about two for each doubling of
        the number of runs. Older runs and gaps among them cost nothing.
        """
        number = last_number(self._next_run, int(known or 0))
        run = _name(number) if number else ""
        return "" if run and self._is_reached(run) and self.erased(run) else run

    def erased(self, run: str) -> bool:
        """Whether *run* was erased. It counts as erased from the moment its record is stored."""
        return bool(self.names) and run <= self.names[-1] and run <= self.through

    @property
    def through(self) -> str:
        """The last erased run, up to which all runs were erased; "" if none was."""
        return next(reversed(self.held), "")

    @property
    def last(self) -> StoredErasure | None:
        """The newest valid record."""
        return self.held.get(self.through)

    def naming(self, run: str) -> StoredErasure | None:
        """Return the record of the erasure that took *run*; None if it wasn't erased."""
        if not self.erased(run):
            return None
        ends = list(self.held)
        return self.held[ends[bisect_left(ends, run)]]

    def _next_run(self, number: int) -> int | None:
        """Return the first run after *number* that has a stored object."""
        if number >= _LAST:
            return None
        name = self._storage.after(f"{self._source}/runs", _name(number) if number else "")
        while name is not None and not RUN.fullmatch(name):
            name = self._storage.after(f"{self._source}/runs", name)
        return int(name) if name else None

    def _is_reached(self, run: str) -> bool:
        """Whether a record, valid or not, names this run or a later one."""
        before = f"{_name(int(run) - 1)}.json"
        return self._storage.after(f"{RECORDS}/{self._source}", before) is not None

    @cached_property
    def names(self) -> list[str]:
        """The last run of each record, oldest first, according to the names of the records."""
        names = map(_NAME.fullmatch, self._storage.children(f"{RECORDS}/{self._source}"))
        return [name[1] for name in names if name and name[2] == "dsse"]

    @cached_property
    def held(self) -> dict[str, StoredErasure]:
        """The valid records by their last run, oldest first."""
        held: dict[str, StoredErasure] = {}
        with ThreadPoolExecutor(_READERS) as readers:
            for record in readers.map(self._whole, self.names):
                if record and _follows(record, held) and self._fits(record):
                    held[record.through] = record
        return held

    @property
    def finished_through(self) -> str:
        """The last run of the newest record whose erasure is finished; "" if none is."""
        done = (each.through for each in reversed(self.held.values()) if self._is_finished(each))
        return next(done, "")

    def unfinished(self) -> list[StoredErasure]:
        """Return the erasures that may not be finished, oldest first, which is the order to finish them in."""
        if not self.names or self._is_finished(self._whole(self.names[-1])):
            return []
        found = []
        for record in reversed(self.held.values()):
            if self._is_finished(record):
                break
            found.append(record)
        return found[::-1]

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield the key of each object among the records that is not a valid record, and the reason."""
        for stored in self._storage.list(f"{RECORDS}/{self._source}"):
            name = stored.key.removeprefix(f"{RECORDS}/{self._source}/")
            if why := self._fault(stored.key, name):
                yield stored.key, why

    def _fault(self, key: str, name: str) -> str:
        match = _NAME.fullmatch(name)
        if match is None:
            return "the record of an erasure has another name"
        through, done = match[1], match[2] == "done"
        if done and through not in self.names:
            return "there isn't a record beside it"
        try:
            if not done:
                self._read(through)
            elif record := self._whole(through):
                Finished.check(documents.stored(self._storage, key) or b"", record)
        except ValueError as error:
            return f"it can't be believed: {error}"
        if not done and through not in self.held:
            return (
                "the record before it, or a manifest that is still stored, isn't the one it names"
            )
        return ""

    def _read(self, through: str) -> StoredErasure:
        text = documents.stored(self._storage, record_key(self._source, through))
        record = read_record(text or b"", self._source, through)
        if self._keys is not None:
            check_record(record, self._keys)
        return record

    def _whole(self, through: str) -> StoredErasure | None:
        try:
            return self._read(through)
        except ValueError:
            return None

    def _fits(self, record: StoredErasure) -> bool:
        first = record.runs[0].run
        return all(
            self._is_named(run, record.digest_of(run))
            for run in self.stored
            if first <= run <= record.through
        )

    def _is_named(self, run: str, named: str | None) -> bool:
        """Whether the stored objects of *run* agree with its erasure.

        An erasure deletes the plan first. Without it, the run no longer exists, and a late worker may have stored the
        other objects, even a manifest.
        """
        manifest = documents.stored(self._storage, manifest_key(self._source, run))
        return (
            manifest is None
            or sha256(manifest) == named
            or documents.stored(self._storage, plan_key(self._source, run)) is None
        )

    def _is_finished(self, record: StoredErasure | None) -> bool:
        if record is None:
            return False
        text = documents.stored(self._storage, done_key(self._source, record.through)) or b""
        try:
            Finished.check(text, record)
        except ValueError:
            return False
        return True


def _follows(record: StoredErasure, held: Mapping[str, StoredErasure]) -> bool:
    before = record.previous
    return before is None or (before.through in held and held[before.through].link == before)


def last_number(after: Callable[[int], int | None], known: int = 0) -> int | None:
    """Return the largest existing number; None if there are none. *after* returns the next number after its argument.

    The search begins at *known*, doubles its steps until it passes the last number, and halves them again. Gaps don't
    matter, because *after* passes over them.
    """
    low = after(known - 1) if known else None
    if low is None:
        low = after(0)
    if low is None:
        return None
    step = 1
    while (found := after(low + step - 1)) is not None:
        low, step = found, 2 * step
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        found = after(middle - 1)
        low, high = (low, middle) if found is None else (found, high)
    return low


def _name(number: int) -> str:
    return f"{number:08d}"
