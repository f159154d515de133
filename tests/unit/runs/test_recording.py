"""The signer records purges: after it has checked holds and digests, and before anything is deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import StoredErasure, record_key
from tasks.evidence.layout import artifact_key, manifest_key, run_prefix, seal_key
from tasks.runs.signing import PURGED
from tasks.verifying.verify import verify
from tests.erased import erasure, text_of
from tests.signer import SOURCE, Killed, Signer, add_run, copied, drop, replaced
from workers.errors import Busy, PurgeRefused, SealRefused, StorageConflict
from workers.signing.keys import KeyStore
from workers.storage import Storage, open_storage

FIRST, SECOND, THIRD, FOURTH = (f"{number:08d}" for number in range(1, 5))
HEAD = f"heads/{SOURCE}.json"
Make = Callable[[int], Signer]


@pytest.fixture(scope="module")
def runs() -> Storage:
    """Four runs, one after the other, without seals."""
    storage, last = open_storage("memory://"), None
    for _ in range(4):
        last = add_run(storage, last)
    return storage


@pytest.fixture
def make(runs: Storage, tmp_path: Path) -> Make:
    """Return a function that makes a signer that has sealed the first so many runs."""

    def made(sealed: int) -> Signer:
        storage = copied(runs)
        for number in range(sealed + 1, 5):
            drop(storage, run_prefix(SOURCE, f"{number:08d}"))
        signer = Signer(tmp_path, storage)
        signer.sign()
        return signer

    return made


def grow(signer: Signer, runs: Storage, run: str) -> None:
    for each in list(runs.list(run_prefix(SOURCE, run))):
        signer.storage.put_new(each.key, runs.get(each.key) or b"")


def recorded(signer: Signer, through: str) -> StoredErasure:
    return signer.purged().held[through]


def erase(signer: Signer, *names: str) -> None:
    """Delete runs, as a worker of the fleet does."""
    for run in names:
        drop(signer.storage, run_prefix(SOURCE, run))
    signer.registered.source = replace(signer.registered.source, purge=None)


def differences(signer: Signer) -> list[str]:
    *_, report = verify(signer.storage, SOURCE, keys=signer.keys)
    return [f"{each.kind}: {each.detail}" for each in report.differences if each.counts]


def test_a_record_names_the_digests_of_manifests_and_seals(make: Make) -> None:
    signer = make(2)
    seals = [signer.seal(run).sha256 for run in (FIRST, SECOND)]
    before = {each.key for each in signer.storage.list(SOURCE)}
    signer.registered.ask(SECOND)
    signer.record()
    record = recorded(signer, SECOND)
    assert [each.seal_sha256 for each in record.runs] == seals
    manifests = [signer.storage.get(manifest_key(SOURCE, run)) or b"" for run in (FIRST, SECOND)]
    assert [each.manifest_sha256 for each in record.runs] == list(map(sha256, manifests))
    assert (record.by, record.why, record.objects) == ("tester", "purge", len(before))
    assert {each.key for each in signer.storage.list(SOURCE)} == before, "it deletes nothing"
    named = signer.head().purged
    assert named
    assert (named.through, named.sha256) == (SECOND, record.sha256)
    assert ("purge.signed", None) in signer.events


@pytest.mark.parametrize("through", [2, 3])
def test_the_next_seal_follows_the_purged_one_and_names_the_record(
    make: Make, runs: Storage, through: int
) -> None:
    """This holds if the head names a purged run, and if one run stays."""
    signer = make(3)
    last = signer.seal(THIRD)
    signer.registered.ask(f"{through:08d}")
    signer.record()
    erase(signer, *(FIRST, SECOND, THIRD)[:through])
    grow(signer, runs, FOURTH)
    assert signer.sign() == (FOURTH, ())
    seal = signer.seal(FOURTH).seal
    assert seal.previous == last.link
    assert seal.purged == recorded(signer, f"{through:08d}").link
    assert differences(signer) == []
    other = Signer(Path("unused"), signer.storage, signer.heads_storage)
    other.storage.delete(record_key(SOURCE, f"{through:08d}"))
    assert {each.split(":")[0] for each in differences(other)} >= {"record", "chain"}


def test_a_signer_may_die_before_every_write(make: Make, runs: Storage) -> None:
    """The next attempt takes over a stored record, or signs it. There is one record in the end, and one event."""
    for writes in count():
        signer = make(3)
        signer.registered.ask(SECOND)
        try:
            signer.record(writes)
            died = False
        except Killed:
            died = True
        stored = signer.storage.get(record_key(SOURCE, SECOND))
        signer.record()
        record = recorded(signer, SECOND)
        assert stored in (None, signer.storage.get(record_key(SOURCE, SECOND)))
        named = signer.head().purged
        assert named
        assert named.sha256 == record.sha256
        assert [kind for kind, _ in signer.events].count("purge.signed") == 1
        erase(signer, FIRST, SECOND)
        grow(signer, runs, FOURTH)
        assert signer.sign() == (FOURTH, ())
        assert differences(signer) == []
        if not died:
            assert writes > 2
            return


def test_under_legal_hold_nothing_is_recorded(make: Make) -> None:
    signer = make(2)
    signer.registered.ask(SECOND)
    signer.registered.hold()
    signer.record()
    assert list(signer.storage.list(".purged")) == []


@pytest.mark.parametrize("dies", [False, True])
def test_a_record_that_comes_after_a_hold_is_taken_back(
    make: Make, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """The signer was frozen just before it stored the record, and may even die just after."""
    signer = make(2)
    signer.registered.ask(SECOND)
    put_new = signer.storage.put_new

    def hold(key: str, data: bytes) -> bool:
        if ".purged" in key:
            signer.registered.hold()
        new = put_new(key, data)
        if ".purged" in key and dies:
            raise Killed
        return new

    with monkeypatch.context() as frozen:
        frozen.setattr(signer.storage, "put_new", hold)
        with pytest.raises(Killed if dies else Busy):
            signer.record()
    if dies:
        with pytest.raises(Busy):
            signer.record()
    assert list(signer.storage.list(".purged")) == []
    assert signer.head().purged is None
    assert signer.sign() == (SECOND, ())


def test_a_run_that_is_not_sealed_is_only_purged_with_all_others(make: Make, runs: Storage) -> None:
    signer = make(1)
    for run in (SECOND, THIRD):
        grow(signer, runs, run)
    signer.storage.delete(artifact_key(SOURCE, SECOND, "teams", 0))
    signer.registered.ask(SECOND, "retention")
    with pytest.raises(PurgeRefused, match="run 00000002 has no seal"):
        signer.record()
    assert list(signer.storage.list(".purged")) == []
    signer.registered.ask(THIRD)
    signer.record()
    sealed = [bool(each.seal_sha256) for each in recorded(signer, THIRD).runs]
    assert sealed == [True, False, True]


def test_a_refused_history_is_only_purged_as_a_whole(make: Make, runs: Storage) -> None:
    """The record then names the seal that the signer knows, so that the next seal can follow it."""
    signer = make(2)
    sealed = signer.head().sealed
    assert sealed
    grow(signer, runs, THIRD)
    replaced(signer.storage, seal_key(SOURCE, SECOND), b"{}")
    signer.registered.ask(FIRST, "retention")
    with pytest.raises(PurgeRefused, match="isn't the newest seal"):
        signer.record()
    signer.registered.ask(THIRD)
    signer.record()
    assert recorded(signer, THIRD).entry(SECOND).seal_sha256 == sealed.sha256
    erase(signer, FIRST, SECOND, THIRD)
    grow(signer, runs, FOURTH)
    assert signer.sign() == (FOURTH, ())
    left = [(each.run, each.reason) for each in signer.seal(FOURTH).seal.unsealed]
    assert left == [(THIRD, PURGED)]
    assert differences(signer) == []


@pytest.mark.parametrize("forged", ["gone", "other", "unsigned"])
def test_a_record_can_neither_be_dropped_nor_replaced(
    make: Make, runs: Storage, forged: str
) -> None:
    """The signer remembers the newest one, and seals nothing until it is back."""
    signer = make(3)
    signer.registered.ask(SECOND)
    signer.record()
    key = record_key(SOURCE, SECOND)
    whole = signer.storage.get(key) or b""
    digests = {each.run: each.manifest_sha256 or "" for each in recorded(signer, SECOND).runs}
    signer.storage.delete(key)
    if forged == "other":
        signer.put_record(2, digests=digests)
    if forged == "unsigned":
        signer.storage.put_new(key, text_of(erasure(SOURCE, 2)))
    grow(signer, runs, FOURTH)
    for attempt in (signer.sign, signer.record):
        with pytest.raises(SealRefused, match="isn't the newest record of an erasure"):
            attempt()
    replaced(signer.storage, key, whole)
    assert signer.sign() == (FOURTH, ())


@pytest.mark.parametrize("through", [2, 3])
def test_a_lost_head_is_made_again_from_seals_and_records(
    make: Make, runs: Storage, through: int
) -> None:
    signer = make(3)
    signer.registered.ask(f"{through:08d}")
    signer.record()
    before = signer.head()
    erase(signer, *(FIRST, SECOND, THIRD)[:through])
    signer.heads_storage.delete(HEAD)
    signer.sign()
    assert signer.head() == before
    grow(signer, runs, FOURTH)
    assert signer.sign() == (FOURTH, ())
    assert differences(signer) == []


def test_an_older_copy_of_the_store_moves_forward_over_records(make: Make, runs: Storage) -> None:
    """The seals after the copy were purged, so the record stands for them."""
    signer = make(1)
    old = signer.heads_storage.get(HEAD) or b""
    for run in (SECOND, THIRD):
        grow(signer, runs, run)
        signer.sign()
    signer.registered.ask(SECOND)
    signer.record()
    erase(signer, FIRST, SECOND)
    newest = signer.head()
    replaced(signer.heads_storage, HEAD, old)
    assert signer.sign() == (THIRD, ())
    assert signer.head() == newest
    grow(signer, runs, FOURTH)
    assert signer.sign() == (FOURTH, ())
    assert differences(signer) == []


def test_a_new_key_signs_the_next_record(make: Make) -> None:
    """The record before stays valid, and the new one follows it."""
    signer = make(3)
    signer.registered.ask(FIRST)
    signer.record()
    erase(signer, FIRST)
    keys = KeyStore(signer.heads_storage)
    day = keys.read().keys[0].created
    keys.use(signer.private_key.replaced(day).public, day)
    signer.registered.ask(SECOND)
    signer.record()
    old, new = recorded(signer, FIRST), recorded(signer, SECOND)
    assert old.key != new.key
    assert new.previous == old.link


def test_a_foreign_record_counts_for_nothing_and_is_named(make: Make, runs: Storage) -> None:
    """Its digests fit, but another key signed it. A purge of these runs says that it is in the way."""
    signer = make(2)
    digests = {
        run: sha256(signer.storage.get(manifest_key(SOURCE, run)) or b"") for run in (FIRST, SECOND)
    }
    signer.storage.put_new(record_key(SOURCE, SECOND), text_of(erasure(SOURCE, 2, digests=digests)))
    grow(signer, runs, THIRD)
    assert signer.sign() == (THIRD, ())
    assert signer.seal(THIRD).seal.previous == signer.seal(SECOND).link
    assert ["isn't one of the keys given" in each for each in differences(signer)] == [True]
    signer.registered.ask(SECOND, "retention")
    with pytest.raises(StorageConflict, match="is in the way"):
        signer.record()


def test_recording_again_changes_nothing(make: Make) -> None:
    signer = make(2)
    signer.registered.ask(SECOND)
    signer.record()
    text, head = signer.storage.get(record_key(SOURCE, SECOND)), signer.head()
    signer.record()
    assert (signer.storage.get(record_key(SOURCE, SECOND)), signer.head()) == (text, head)
