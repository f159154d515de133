"""Artifacts of any size are written, and adopted from an earlier sealer, piece by piece."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.artifacts import Collation
from tasks.seal import Writer
from workers.storage.local import LocalStorage

RECORDS, RECORD_BYTES = 1_500, 10_000


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
