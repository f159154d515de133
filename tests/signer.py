"""A signer without a fleet: two stores in memory, a key, and a way to kill it between any two writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tasks.evidence.erasure_records import record_key
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import seal_key
from tasks.evidence.seals import StoredSeal, read_seal
from tasks.evidence.signatures import check_signature
from tasks.runs.recording import record_purge
from tasks.runs.signing import Outcome, sign
from tests.erased import erasure, text_of
from tests.lists_model import Lists, make, record
from tests.sealed_run import SealedRun
from tests.unit.state.test_sources import SOURCE as DOCUMENT
from workers.signing.heads import Head, Heads
from workers.signing.keys import KeyStore, PublicKeys
from workers.signing.signers import PrivateKey
from workers.state.events import EventData
from workers.storage import Storage, open_storage
from workers.storage.registry import PurgeWish, Source

SOURCE = "acme/main"


class Killed(BaseException):
    """The signer died here."""


class Mortal:
    """Passes every call on, and dies before the write whose turn it is."""

    def __init__(self, part: object, life: Life) -> None:
        self._part = part
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if name not in ("put_new", "replace_if", "delete", "emit", "settle"):
            return method

        def write(*args: Any, **given: Any) -> Any:
            self._life.spend()
            return method(*args, **given)

        return write


class Life:
    """How many writes are left; None: as many as there are."""

    def __init__(self, writes: int | None) -> None:
        self._writes = writes

    def spend(self) -> None:
        if self._writes == 0:
            raise Killed
        if self._writes is not None:
            self._writes -= 1


class Registered:
    """The document of the source, which everybody reads and changes without a conflict."""

    def __init__(self) -> None:
        self.source = replace(DOCUMENT, id=SOURCE)

    def fresh(self, _: str) -> Source:
        return self.source

    @contextmanager
    def alone(self, _: str) -> Iterator[None]:
        yield

    def ask(self, through: str, why: str = "purge") -> None:
        """Ask for an erasure of every run up to *through*."""
        wish = PurgeWish(through=through, why=why, by="tester", at=datetime.now(UTC))
        self.source = replace(self.source, purge=wish)

    def hold(self) -> None:
        """Put the source under legal hold, which calls the purge off."""
        self.source = replace(self.source, purge=None, held_since=datetime.now(UTC))


class Signer:
    """The signer of one source. Its evidence and its own store can be looked at and changed."""

    def __init__(self, directory: Path, storage: Storage, heads: Storage | None = None) -> None:
        self.storage = storage
        self.heads_storage = heads or open_storage("memory://")
        self.private_key = PrivateKey(None, directory / "signer.key")
        self.told: list[tuple[str | None, EventData]] = []
        self.registered = Registered()

    def sign(self, writes: int | None = None, beat: Callable[[], None] = lambda: None) -> Outcome:
        """Seal what can be sealed, but die before write number *writes*."""
        return sign(self._fleet(writes), SOURCE, beat)

    def record(self, writes: int | None = None) -> None:
        """Record the purge that was asked for, but die before write number *writes*."""
        record_purge(self._fleet(writes), SOURCE)

    def _fleet(self, writes: int | None) -> Any:
        life = Life(writes)
        own = cast(Storage, Mortal(self.heads_storage, life))
        return SimpleNamespace(
            sources=self.registered,
            storage=Mortal(self.storage, life),
            heads=Heads(own),
            public_keys=KeyStore(own),
            private_key=self.private_key,
            events=Mortal(self, life),
            unsealed=Mortal(self, life),
        )

    def emit(self, data: EventData, source: str, run: str | None = None, **_: Any) -> None:
        assert source == SOURCE
        self.told.append((run, data))

    def settle(self, source: str, *runs: str) -> None:
        assert source == SOURCE
        assert runs

    @property
    def events(self) -> list[tuple[str, str | None]]:
        """The kinds and runs of the events so far, without repeats."""
        return list(dict.fromkeys((data.kind, run) for run, data in self.told))

    @property
    def keys(self) -> PublicKeys:
        return KeyStore(self.heads_storage).read()

    def purged(self) -> Purged:
        """Return the erased runs, according to the records that this signer signed."""
        return Purged(self.storage, SOURCE, self.keys)

    def put_record(self, through: int, **given: Any) -> None:
        """Store a record that the signer's key signed, without the signer's checks."""
        now = datetime.now(UTC).replace(microsecond=0)
        key = self.private_key.opened(now.date())
        record = erasure(SOURCE, through, key=key, at=now, **given)
        assert self.storage.put_new(record_key(SOURCE, record.through), text_of(record, key))

    def head(self) -> Head:
        found = Heads(self.heads_storage).find(SOURCE)
        assert found
        return found.head

    def seal(self, run: str) -> StoredSeal:
        """Return a stored seal after checking its signature."""
        stored = read_seal(self.storage.get(seal_key(SOURCE, run)) or b"", SOURCE, run)
        check_signature(stored, KeyStore(self.heads_storage).read())
        return stored


def add_run(storage: Storage, last: dict[str, Any] | None, records: int = 12) -> dict[str, Any]:
    """Store the run after *last* with its manifest, and return the manifest as a document."""
    plan = make("teams", last=last, newest=last["run"] if last else None)
    return SealedRun(
        plan, Lists({"/teams": [record(n) for n in range(records)]}).answer, storage
    ).seal()


def copied(storage: Storage) -> Storage:
    """Return a copy of everything in *storage*."""
    copy = open_storage("memory://")
    for each in list(storage.list("")):
        copy.put_new(each.key, storage.get(each.key) or b"")
    return copy


def replaced(storage: Storage, key: str, text: bytes) -> None:
    storage.delete(key)
    assert storage.put_new(key, text)


def drop(storage: Storage, prefix: str) -> None:
    for each in list(storage.list(prefix)):
        storage.delete(each.key)
