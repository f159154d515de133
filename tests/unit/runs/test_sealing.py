"""Artifacts of any size are written, and adopted from an earlier sealer, piece by piece."""

from __future__ import annotations

import hashlib
import io
import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.evidence.artifacts import Collation
from tasks.evidence.layout import artifact_key
from tasks.reading.sealed import StoredObject
from tasks.runs.sealing import MOST_ORPHANS, Lease, Writer, seal
from tests.counted_room import CountedRoom
from tests.lists_model import Lists, make, record
from tests.sealed_run import SealedRun
from workers.errors import Busy, StorageConflict
from workers.room import Room
from workers.state.ledger import Clock, Times
from workers.state.progress import Progress
from workers.storage import Storage
from workers.storage.local import LocalStorage

RECORDS, RECORD_BYTES = 1_500, 10_000
PAGES, SLOW_SECONDS = 20, 9.0


@pytest.fixture
def evidence(tmp_path: Path) -> Any:
    with (tmp_path / "spool").open("w+b") as spool:
        collation = Collation(spool, io.BytesIO)
        for number in range(RECORDS):
            line = random.Random(number).randbytes(RECORD_BYTES // 2).hex().encode() + b"\n"
            collation.add(f"{number}", "2026-01-01", line)
        collation.end_pass(counts=True)
        yield SimpleNamespace(
            room=Room(),
            plan=SimpleNamespace(source="acme/main", run="00000001"),
            resources={"incidents": SimpleNamespace(collation=collation)},
        )


class Slow:
    """A storage in which each read takes seconds of a clock that a test sets."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.now = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get(self, key: str) -> bytes | None:
        self.now += SLOW_SECONDS
        return self._storage.get(key)


def test_a_sealer_keeps_its_lease_over_a_list_that_takes_longer_to_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With cursors, all pages are one reading. If the lease ended during it, no sealer would ever finish."""
    records = [record(number) for number in range(PAGES * 100)]
    run = SealedRun(make("audit_records", days=30), Lists({"/audit/records": records}).answer)
    assert len(run.fleet.asked) == PAGES
    storage = Slow(run.storage)
    monkeypatch.setattr("tasks.runs.sealing.time", SimpleNamespace(monotonic=lambda: storage.now))
    taken = [0.0]

    def take(_source: str, _run: str, _token: str) -> bool:
        assert storage.now - taken[-1] < Times().seal_lease
        taken.append(storage.now)
        return True

    clock = Clock(0, None, None)
    ledger = SimpleNamespace(seal=take, progress=lambda _source: Progress(), time=lambda: clock)
    fleet: Any = SimpleNamespace(room=Room(), storage=storage, ledger=ledger)
    manifest = seal(fleet, run.plan.source, run.plan.run, Lease(fleet, "acme/main", run.plan.run))
    assert manifest.resources["audit_records"].state == "complete"
    assert storage.now > 2 * Times().seal_lease


def test_an_existing_artifact_is_adopted_without_being_held_in_memory(
    evidence: Any, tmp_path: Path
) -> None:
    fleet: Any = SimpleNamespace(room=Room(), storage=LocalStorage(tmp_path / "artifacts"))
    lease: Any = SimpleNamespace(beat=lambda: None)
    stored = Writer(fleet, evidence, lease).write("incidents")
    tracemalloc.start()
    again = Writer(fleet, evidence, lease)
    adopted = again.write("incidents")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert adopted == stored
    assert again.orphans == []
    assert peak_bytes < RECORDS * RECORD_BYTES / 3


def test_the_lines_of_an_artifact_take_their_memory_one_after_another(
    evidence: Any, tmp_path: Path
) -> None:
    room = CountedRoom()
    fleet: Any = SimpleNamespace(room=room, storage=LocalStorage(tmp_path / "artifacts"))
    lease: Any = SimpleNamespace(beat=lambda: None)
    Writer(fleet, evidence, lease).write("incidents")
    [share] = room.shares
    assert share.total >= RECORDS * RECORD_BYTES
    assert RECORD_BYTES < share.most < 10 * RECORD_BYTES


class Refusing:
    """A storage that refuses every new file, whether the key is taken or not."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.refused: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put_new_file(self, key: str, path: Path) -> bool:
        del path
        self.refused.append(key)
        assert len(self.refused) < 100, "it never ends"
        return False


@pytest.fixture
def beats() -> list[int]:
    return []


def writer(storage: Any, evidence: Any, beats: list[int]) -> Writer:
    lease: Any = SimpleNamespace(beat=lambda: beats.append(1))
    fleet: Any = SimpleNamespace(room=Room(), storage=storage)
    return Writer(fleet, evidence, lease)


def test_a_sealer_names_no_orphan_that_it_has_not_seen(
    evidence: Any, tmp_path: Path, beats: list[int]
) -> None:
    """If storage says that a key is taken but has no object there, sealing ends in a fault and is tried again."""
    storage = Refusing(LocalStorage(tmp_path / "artifacts"))
    sealer = writer(storage, evidence, beats)
    with pytest.raises(
        Busy, match=r"incidents\.000.* was taken, and nothing is there now: try again"
    ):
        sealer.write("incidents")
    assert (len(storage.refused), sealer.orphans) == (1, [])


def foreign(storage: Storage, count: int) -> list[str]:
    """Store *count* artifacts that don't follow from any pages. Return their keys."""
    keys = [artifact_key("acme/main", "00000001", "incidents", number) for number in range(count)]
    assert all(storage.put_new(key, b"other") for key in keys)
    return keys


def test_a_sealer_skips_artifacts_that_others_left_and_keeps_its_lease(
    evidence: Any, tmp_path: Path, beats: list[int]
) -> None:
    storage = LocalStorage(tmp_path / "artifacts")
    keys = foreign(storage, 3)
    sealer = writer(storage, evidence, beats)
    [entry] = sealer.write("incidents")
    assert entry.key == artifact_key("acme/main", "00000001", "incidents", 3)
    digest = hashlib.sha256(b"other").hexdigest()
    assert sealer.orphans == [StoredObject(key=key, sha256=digest, bytes=5) for key in keys]


def test_a_sealer_does_not_number_on_without_end(
    evidence: Any, tmp_path: Path, beats: list[int]
) -> None:
    """Every number is taken by another object. The sealer renews its lease at each, and gives up after twenty."""
    storage = LocalStorage(tmp_path / "artifacts")
    foreign(storage, MOST_ORPHANS + 5)
    before = len(beats)
    refusing = Refusing(storage)
    with pytest.raises(StorageConflict, match=r"incidents\.000.* can't be sealed: move them away"):
        writer(refusing, evidence, beats).write("incidents")
    assert len(refusing.refused) == MOST_ORPHANS + 1
    assert len(beats) - before >= MOST_ORPHANS + 1
