"""Which records of erasures are valid, and which runs they erase."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.evidence import documents
from tasks.evidence.erasure_records import Finished, StoredErasure, done_key, record_key
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, plan_key
from tests.erased import AT, erasure, stored, text_of
from tests.manifests import manifest_digest, manifest_document, manifest_text
from workers.storage import Storage, open_storage

SOURCE = "acme/main"
RUNS = [f"{number:08d}" for number in range(1, 6)]
MANIFESTS = {run: manifest_document(source=SOURCE, run=run) for run in RUNS}
DIGESTS = {run: manifest_digest(manifest) for run, manifest in MANIFESTS.items()}
FIRST = stored(erasure(SOURCE, 2, digests=DIGESTS))
SECOND = stored(erasure(SOURCE, 4, FIRST, DIGESTS))


@pytest.fixture
def storage() -> Storage:
    """Five sealed runs."""
    runs = open_storage("memory://")
    for run, manifest in MANIFESTS.items():
        runs.put_new(plan_key(SOURCE, run), b"{}")
        runs.put_new(manifest_key(SOURCE, run), manifest_text(manifest))
    return runs


def put(storage: Storage, *records: StoredErasure) -> None:
    for record in records:
        text = documents.written(record.envelope)
        assert storage.put_new(record_key(SOURCE, record.through), text)


def erase(storage: Storage, *runs: str) -> None:
    for run in runs:
        storage.delete(plan_key(SOURCE, run))
        storage.delete(manifest_key(SOURCE, run))


def finish(storage: Storage, record: StoredErasure) -> None:
    storage.put_new(done_key(SOURCE, record.through), documents.written(Finished.of(record, AT)))


def test_valid_records_hide_every_run_up_to_the_last(storage: Storage) -> None:
    purged = Purged(storage, SOURCE)
    assert (purged.kept, purged.left, purged.through, purged.last) == (RUNS, [], "", None)
    assert purged.unfinished() == []
    put(storage, FIRST, SECOND)
    finish(storage, FIRST)
    purged = Purged(storage, SOURCE)
    assert (purged.kept, purged.left, purged.last) == (RUNS[4:], RUNS[:4], SECOND)
    assert purged.unfinished() == [SECOND]
    assert [purged.naming(run) for run in RUNS] == [FIRST, FIRST, SECOND, SECOND, None]
    assert list(purged.faults()) == []
    finish(storage, SECOND)
    assert Purged(storage, SOURCE).unfinished() == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("00000003.dsse.json", b""),
        ("00000003.dsse.json", b"\x00{"),
        ("00000003.dsse.json", text_of(erasure("acme/else", 3))),
        ("00000003.dsse.json", text_of(erasure(SOURCE, 2, digests=DIGESTS))),
        ("00000003.dsse.json", text_of(erasure(SOURCE, 3))),
        (
            "00000003.dsse.json",
            text_of(erasure(SOURCE, 3, digests=DIGESTS | {RUNS[1]: "0" * 64})),
        ),
        ("00000004.dsse.json", documents.written(SECOND.envelope)),
        ("99999999.dsse.json", b""),
        ("3.dsse.json", text_of(erasure(SOURCE, 3, digests=DIGESTS))),
        ("٠٠٠٠٠٠٠٣.dsse.json", b""),
        ("00000000.dsse.json", b""),
        ("zzz.json", b"{}"),
        ("00000003.json", text_of(erasure(SOURCE, 3, digests=DIGESTS))),
        ("00000003.dsse.json", documents.written(erasure(SOURCE, 3, digests=DIGESTS))),
        ("00000003", text_of(erasure(SOURCE, 3, digests=DIGESTS))),
        ("00000003.done.json", documents.written(Finished.of(stored(erasure(SOURCE, 3)), AT))),
        ("below/00000003.dsse.json", text_of(erasure(SOURCE, 3, digests=DIGESTS))),
    ],
)
def test_anything_else_hides_nothing_and_is_named(storage: Storage, name: str, text: bytes) -> None:
    """Examples are an empty file, a copy, a record without the one before it, and a record with other digests."""
    key = f".purged/{SOURCE}/{name}"
    storage.put_new(key, text)
    purged = Purged(storage, SOURCE)
    assert (purged.kept, purged.left, purged.through, purged.last) == (RUNS, [], "", None)
    assert (purged.unfinished(), purged.naming(RUNS[0])) == ([], None)
    [(found, why)] = purged.faults()
    assert found == key
    assert why


def test_a_forged_record_after_a_valid_one_leaves_the_valid_one_in_force(
    storage: Storage,
) -> None:
    put(storage, FIRST)
    storage.put_new(record_key(SOURCE, "99999999"), b"")
    storage.put_new(record_key(SOURCE, RUNS[4]), text_of(erasure(SOURCE, 5, FIRST)))
    purged = Purged(storage, SOURCE)
    assert (purged.kept, purged.last, purged.unfinished()) == (RUNS[2:], FIRST, [FIRST])
    assert len(list(purged.faults())) == 2


def test_a_forged_end_does_not_end_an_erasure(storage: Storage) -> None:
    """If an empty object or the end of another erasure is in its place, the erasure stays unfinished."""
    put(storage, FIRST)
    for text in (b"", b"{}", documents.written(Finished.of(SECOND, AT))):
        storage.put_new(done_key(SOURCE, FIRST.through), text)
        purged = Purged(storage, SOURCE)
        assert purged.unfinished() == [FIRST]
        assert [key for key, _ in purged.faults()] == [done_key(SOURCE, FIRST.through)]
        storage.delete(done_key(SOURCE, FIRST.through))


def test_objects_that_a_late_worker_stores_do_not_bring_an_erased_run_back(
    storage: Storage,
) -> None:
    """An erasure deletes the plan first, so another manifest that comes later doesn't count as that of a run."""
    put(storage, FIRST)
    erase(storage, *RUNS[:2])
    late = manifest_text(MANIFESTS[RUNS[0]] | {"sealed_at": "2026-03-03T00:00:00Z"})
    storage.put_new(manifest_key(SOURCE, RUNS[0]), late)
    purged = Purged(storage, SOURCE)
    assert (purged.kept, purged.left, purged.last) == (RUNS[2:], RUNS[:1], FIRST)


def test_a_lost_or_damaged_record_breaks_the_chain_of_the_records_after_it(
    storage: Storage,
) -> None:
    put(storage, SECOND)
    assert Purged(storage, SOURCE).kept == RUNS
    put(storage, FIRST)
    assert Purged(storage, SOURCE).kept == RUNS[4:]


class Counted:
    """A storage that counts reads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_start(self, key: str, size: int) -> bytes | None:
        self.read.append(key)
        return self._storage.get_start(key, size)


def test_runs_are_found_without_reading_a_record_if_no_object_of_an_erased_run_is_left(
    storage: Storage,
) -> None:
    """This happens at each opening and at each daily look, so its cost must not depend on the number of erasures."""
    put(storage, FIRST, SECOND)
    erase(storage, *RUNS[:4])
    counted: Any = Counted(storage)
    purged = Purged(counted, SOURCE)
    assert (purged.kept, purged.left, purged.erased(RUNS[4])) == (RUNS[4:], [], False)
    assert counted.read == []
    assert purged.erased(RUNS[3])
    assert len(counted.read) == 2
