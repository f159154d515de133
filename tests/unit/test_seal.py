"""Artifacts of any size are written, and adopted from an earlier sealer, piece by piece."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.artifacts import Collation
from tasks.seal import Lease, Writer, seal
from tests.lists_model import Lists, make, record
from tests.sealed_run import SealedRun
from workers.ledger import Times
from workers.storage import Storage
from workers.storage.local import LocalStorage

RECORDS, RECORD_BYTES = 1_500, 10_000
PAGES, SLOW_SECONDS = 20, 9.0


@pytest.fixture
def evidence(tmp_path: Path) -> Any:
    with (tmp_path / "spool").open("w+b") as spool:
        collation = Collation(spool)
        for number in range(RECORDS):
            line = random.Random(number).randbytes(RECORD_BYTES // 2).hex().encode() + b"\n"
            collation.add(f"{number}", "2026-01-01", line)
        collation.end_pass(counts=True)
        yield SimpleNamespace(
            plan=SimpleNamespace(source="acme/main", run="00000001"),
            resources={"incidents": SimpleNamespace(collation=collation)},
        )


class Slow:
    """A storage whose every read takes seconds of a clock that a test sets."""

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
    """Behind cursors all pages are one reading: if the lease ended in it, no sealer would ever come to its end."""
    records = [record(number) for number in range(PAGES * 100)]
    run = SealedRun(make("audit_records", days=30), Lists({"/audit/records": records}).answer)
    assert len(run.fleet.asked) == PAGES
    storage = Slow(run.storage)
    monkeypatch.setattr("tasks.seal.time", SimpleNamespace(monotonic=lambda: storage.now))
    taken = [0.0]

    def take(_source: str, _run: str, _token: str) -> bool:
        assert storage.now - taken[-1] < Times().seal_lease
        taken.append(storage.now)
        return True

    ledger = SimpleNamespace(seal=take, progress=lambda _source: {})
    fleet: Any = SimpleNamespace(storage=storage, ledger=ledger)
    manifest = seal(fleet, run.plan.source, run.plan.run, Lease(fleet, "acme/main", run.plan.run))
    assert manifest["resources"]["audit_records"]["state"] == "complete"
    assert storage.now > 2 * Times().seal_lease


def test_an_artifact_that_is_there_is_adopted_without_being_held_in_memory(
    evidence: Any, tmp_path: Path
) -> None:
    fleet: Any = SimpleNamespace(storage=LocalStorage(tmp_path / "artifacts"))
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
