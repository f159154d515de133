"""Records with their whole history, in stores that keep them in list order."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
IDS_PER_KIND = 36**7
SCRAMBLE = 22_695_477_001  # coprime to 36, so that ids are unique without counting up


def make_id(kind: str, number: int, prefix: str = "P") -> str:
    """Return the id of record *number* of *kind*: unique per kind, stable, not sequential."""
    value = (number * SCRAMBLE + sum(kind.encode()) * 1_000_003) % IDS_PER_KIND
    letters = []
    for _ in range(7):
        value, digit = divmod(value, 36)
        letters.append(ALPHABET[digit])
    return prefix + "".join(letters)


class Version(NamedTuple):
    """A body and the time when it was current. *since* None: from before the start; *until* None: still."""

    since: float | None
    until: float | None
    body: bytes


class Record:
    """One record: its current body, made on first use, and its earlier bodies."""

    __slots__ = (
        "body_",
        "born",
        "changed",
        "created",
        "gone",
        "id",
        "kind",
        "number",
        "order",
        "past",
    )

    def __init__(
        self, kind: str, number: int, id: str, order: Any, created: float, body: bytes | None = None
    ) -> None:
        self.kind = kind
        self.number = number
        self.id = id
        self.order = order
        self.created = created  # the time that windows filter by
        self.body_ = body
        self.born: float | None = None  # when it appeared while serving
        self.changed: float | None = None
        self.gone: float | None = None
        self.past: list[Version] = []


class Incident(Record):
    """An incident, with the fields that lists filter and sort by."""

    __slots__ = ("acknowledged_at", "resolved_at", "service", "status", "urgency")

    status: str
    urgency: str
    service: int
    acknowledged_at: float | None
    resolved_at: float | None


class Note(Record):
    """A note on an incident."""

    __slots__ = ("incident",)

    incident: Incident


class LogEntry(Record):
    """A log entry. It is rendered at each request, because there are so many."""

    __slots__ = ("incident", "what", "who")

    incident: Incident
    what: str
    who: int


class Store:
    """All records of one kind of one account, in list order. Every change is kept as a version."""

    def __init__(
        self, render: Callable[[Any], bytes], records: Iterable[Record], keep: bool = True
    ):
        self.render = render
        self.keep = keep
        self.rows: list[Any] = sorted(records, key=attrgetter("order"))
        self.by_id: dict[str, Any] = {r.id: r for r in self.rows}
        self.removed: list[Any] = []
        self.revision = 0

    def body(self, record: Record) -> bytes:
        """Return the record's current body, and make it on first use."""
        if record.body_ is not None:
            return record.body_
        body = self.render(record)
        if self.keep:
            record.body_ = body
        return body

    def add(self, record: Record, now: float) -> None:
        """Insert a record at its place, as of *now*."""
        record.born = now
        insort(self.rows, record, key=attrgetter("order"))
        self.by_id[record.id] = record
        self.revision += 1

    def change(self, record: Record, body: bytes, now: float, order: Any = None) -> None:
        """Make *body* the current version as of *now*, and move the record if its order changes."""
        record.past.append(Version(self._since(record), now, self.body(record)))
        record.body_, record.changed = body, now
        if order is not None and order != record.order:
            self.rows.pop(self._place(record))
            record.order = order
            insort(self.rows, record, key=attrgetter("order"))
        self.revision += 1

    def remove(self, record: Record, now: float) -> None:
        """Delete a record as of *now*. Its versions stay for the truth."""
        self.body(record)
        record.gone = now
        self.rows.pop(self._place(record))
        del self.by_id[record.id]
        self.removed.append(record)
        self.revision += 1

    def _place(self, record: Record) -> int:
        index = bisect_left(self.rows, record.order, key=attrgetter("order"))
        while self.rows[index] is not record:
            index += 1
        return index

    @staticmethod
    def _since(record: Record) -> float | None:
        return record.born if record.changed is None else record.changed

    def versions(self, record: Record) -> Iterator[Version]:
        """Yield every version the record had, oldest first."""
        yield from record.past
        yield Version(self._since(record), record.gone, self.body(record))

    def body_at(self, record: Record, at: float) -> bytes | None:
        """Return the version that was current at *at*, or None if the record did not exist then."""
        for version in self.versions(record):
            if (version.since is None or version.since <= at) and (
                version.until is None or at < version.until
            ):
                return version.body
        return None
