"""The signer seals verified runs in order, wherever it dies, and refuses a history that it doesn't know."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tasks.evidence.compression import sha256
from tasks.evidence.layout import artifact_key, manifest_key, run_prefix, seal_key, sums_key
from tasks.runs.events import RunSealed
from tasks.runs.signing import LOST, PURGED
from tasks.verifying.verify import verify
from tests.seals import new_key
from tests.signer import SOURCE, Killed, Signer, add_run, copied, drop, replaced
from workers.errors import Busy, SealRefused, SigningFault
from workers.signing.heads import Head, Heads
from workers.signing.keys import KEYS, KeyStore, PublicKeys
from workers.storage import Storage, open_storage

FIRST, SECOND, THIRD, FOURTH = (f"{number:08d}" for number in range(1, 5))
HEAD = f"heads/{SOURCE}.json"


@pytest.fixture(scope="module")
def recorded() -> tuple[Storage, list[dict[str, Any]]]:
    """Four runs, one after the other, without seals, and their manifests."""
    storage, manifests = open_storage("memory://"), list[dict[str, Any]]()
    for _ in range(4):
        manifests.append(add_run(storage, manifests[-1] if manifests else None))
    return storage, manifests


@pytest.fixture
def manifests(recorded: tuple[Storage, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return recorded[1]


@pytest.fixture
def history(recorded: tuple[Storage, Any]) -> Callable[[int], Storage]:
    """Return the first so many runs in a storage of their own."""

    def make(runs: int) -> Storage:
        copy = copied(recorded[0])
        for number in range(runs + 1, 5):
            drop(copy, run_prefix(SOURCE, f"{number:08d}"))
        return copy

    return make


def grow(signer: Signer, recorded: Storage, run: str) -> None:
    """Add a run that was recorded."""
    for each in list(recorded.list(run_prefix(SOURCE, run))):
        signer.storage.put_new(each.key, recorded.get(each.key) or b"")


History = Callable[[int], Storage]


def test_every_run_is_sealed_in_order(history: History, tmp_path: Path) -> None:
    """Each seal names the files of its run and the seal before it. The head names the newest one."""
    signer = Signer(tmp_path, history(3))
    assert signer.sign() == (THIRD, ())
    before = None
    for run in (FIRST, SECOND, THIRD):
        stored = signer.seal(run)
        assert stored.seal.previous == before
        assert stored.seal.unsealed == ()
        files = [
            signer.storage.get(key_of(SOURCE, run)) or b"" for key_of in (sums_key, manifest_key)
        ]
        named = [stored.statement.sums_sha256, stored.statement.manifest_sha256]
        assert list(map(sha256, files)) == named
        before = stored.link
    head = signer.head()
    assert head.intent is None
    assert head.sealed
    assert (head.sealed.run, head.sealed.sha256) == (THIRD, signer.seal(THIRD).sha256)
    assert signer.events == [("run.sealed", run) for run in (FIRST, SECOND, THIRD)]
    _, told = signer.told[-1]
    assert isinstance(told, RunSealed)
    assert told.sha256 == signer.seal(THIRD).sha256


def test_a_seal_says_what_the_run_holds(history: History, tmp_path: Path) -> None:
    signer = Signer(tmp_path, history(1))
    signer.sign()
    seal = signer.seal(FIRST).seal
    assert (seal.source, seal.run, seal.state) == (SOURCE, FIRST, "complete")
    assert dict(seal.records) == {"teams": 12}
    assert seal.tool.name == "pagetrail"
    assert seal.account.subdomain == "acme"


def test_signing_again_changes_nothing(history: History, tmp_path: Path) -> None:
    signer = Signer(tmp_path, history(2))
    signer.sign()
    before = {each.key: signer.storage.get(each.key) for each in list(signer.storage.list(""))}
    head = signer.heads_storage.get(HEAD)
    assert signer.sign() == (SECOND, ())
    assert {
        each.key: signer.storage.get(each.key) for each in list(signer.storage.list(""))
    } == before
    assert signer.heads_storage.get(HEAD) == head


def test_a_signer_may_die_before_every_write(history: History, tmp_path: Path) -> None:
    """Whatever it did before, the next attempt seals every run once, and tells of each."""
    for writes in count():
        signer = Signer(tmp_path, history(2))
        try:
            signer.sign(writes)
            died = False
        except Killed:
            died = True
        stored = signer.storage.get(seal_key(SOURCE, FIRST))
        assert signer.sign() == (SECOND, ())
        assert stored in (None, signer.storage.get(seal_key(SOURCE, FIRST)))
        assert signer.seal(SECOND).seal.previous == signer.seal(FIRST).link
        assert set(signer.events) == {("run.sealed", FIRST), ("run.sealed", SECOND)}
        if not died:
            assert writes > 10
            return


def test_a_signer_may_die_again_and_again(history: History, tmp_path: Path) -> None:
    """It goes on as long as each attempt gets a little further."""
    signer = Signer(tmp_path, history(2))
    for _ in range(40):
        try:
            signer.sign(3)
        except Killed:
            continue
        break
    assert signer.seal(SECOND).seal.previous == signer.seal(FIRST).link
    assert signer.sign() == (SECOND, ())


def test_an_older_copy_of_the_store_moves_forward(history: History, tmp_path: Path) -> None:
    """Every seal that follows is our own, so the signer comes to where it was. Nothing is signed twice."""
    signer = Signer(tmp_path, history(1))
    signer.sign()
    old = signer.heads_storage.get(HEAD) or b""
    keys = signer.heads_storage.get("keys.json")
    for run in (SECOND, THIRD):
        grow(signer, history(3), run)
        signer.sign()
    newest, seals = signer.heads_storage.get(HEAD), [signer.seal(run) for run in (SECOND, THIRD)]
    replaced(signer.heads_storage, HEAD, old)
    assert signer.sign() == (THIRD, ())
    assert signer.heads_storage.get(HEAD) == newest
    assert [signer.seal(run) for run in (SECOND, THIRD)] == seals
    assert signer.heads_storage.get("keys.json") == keys


def test_a_lost_head_is_taken_from_the_newest_seal(history: History, tmp_path: Path) -> None:
    """The signer says so in an event: a newer seal may be gone too."""
    signer = Signer(tmp_path, history(2))
    signer.sign()
    newest = signer.heads_storage.get(HEAD)
    signer.heads_storage.delete(HEAD)
    grow(signer, history(3), THIRD)
    assert signer.sign() == (THIRD, ())
    assert signer.seal(THIRD).seal.previous == signer.seal(SECOND).link
    assert ("head.restored", SECOND) in signer.events
    assert newest != signer.heads_storage.get(HEAD)


def test_a_damaged_head_stops_the_signer(history: History, tmp_path: Path) -> None:
    signer = Signer(tmp_path, history(1))
    signer.sign()
    replaced(signer.heads_storage, HEAD, b"{}")
    with pytest.raises(SigningFault, match="isn't the newest seal"):
        signer.sign()


@pytest.mark.parametrize("change", ["gone", "other", "foreign"])
def test_a_missing_predecessor_is_refused(history: History, tmp_path: Path, change: str) -> None:
    """The head says that the run was sealed, so its seal must be there, and be that one."""
    signer = Signer(tmp_path, history(2))
    signer.sign()
    grow(signer, history(3), THIRD)
    key = seal_key(SOURCE, SECOND)
    if change == "gone":
        signer.storage.delete(key)
    elif change == "other":
        replaced(signer.storage, key, signer.storage.get(seal_key(SOURCE, FIRST)) or b"")
    else:
        other = Signer(tmp_path / "foreign", history(2))
        other.sign()
        replaced(signer.storage, key, other.storage.get(key) or b"")
    with pytest.raises(SealRefused, match="restore it from a copy"):
        signer.sign()
    assert signer.storage.get(seal_key(SOURCE, THIRD)) is None


@pytest.mark.parametrize("left", ["nothing", "an older key"])
def test_a_signer_without_memory_knows_its_seals_of_earlier_days(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """Its store is lost, or is a copy from before it got its key. The list of keys then begins with today."""
    signer = Signer(tmp_path, history(2))
    signer.sign()
    keys = signer.heads_storage.get(KEYS) or b""
    signer.heads_storage.delete(HEAD)
    signer.heads_storage.delete(KEYS)
    if left == "an older key":
        signer.heads_storage.put_new(KEYS, PublicKeys(keys=(new_key().public,)).to_json())
    grow(signer, history(3), THIRD)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr("tasks.runs.signing.datetime", Tomorrow)
    assert signer.sign() == (THIRD, ())
    assert ("head.restored", SECOND) in signer.events
    assert signer.heads_storage.get(KEYS) != keys
    *_, report = verify(signer.storage, SOURCE, keys=signer.keys)
    assert (report.ok, report.differences) == (True, [])


@pytest.mark.parametrize("head", ["kept", "lost"])
def test_a_seal_of_another_signer_is_refused(history: History, tmp_path: Path, head: str) -> None:
    """Anything in the place of the next seal is ours, or it stops the signer."""
    signer, other = Signer(tmp_path, history(2)), Signer(tmp_path / "foreign", history(3))
    signer.sign()
    other.sign()
    grow(signer, history(3), THIRD)
    signer.storage.put_new(
        seal_key(SOURCE, THIRD), other.storage.get(seal_key(SOURCE, THIRD)) or b""
    )
    if head == "lost":
        signer.heads_storage.delete(HEAD)
    with pytest.raises(SealRefused, match="isn't one of the keys given"):
        signer.sign()


def forge(storage: Storage, runs: int) -> None:
    """Write the first runs again, with a record less, in the way in which the product itself writes them."""
    last = None
    for number in range(1, runs + 1):
        drop(storage, run_prefix(SOURCE, f"{number:08d}"))
        last = add_run(storage, last, records=11)


@pytest.mark.parametrize("seals", ["kept", "dropped", "foreign"])
@pytest.mark.parametrize("runs", [3, 4])
def test_a_forged_history_is_refused(
    history: History, tmp_path: Path, seals: str, runs: int
) -> None:
    """Somebody took a record out of every run and wrote every manifest again. The signer seals none of it."""
    signer = Signer(tmp_path, history(3))
    signer.sign()
    ours = {run: signer.storage.get(seal_key(SOURCE, run)) or b"" for run in (FIRST, SECOND, THIRD)}
    forge(signer.storage, runs)
    if seals == "kept":
        for run, text in ours.items():
            signer.storage.put_new(seal_key(SOURCE, run), text)
    if seals == "foreign":
        Signer(tmp_path / "foreign", signer.storage).sign()
    if runs == 4 or seals != "kept":
        with pytest.raises(SealRefused):
            signer.sign()
    assert signer.head().sealed
    if seals != "foreign":
        assert signer.storage.get(seal_key(SOURCE, FOURTH)) is None


def test_a_new_run_after_a_forged_history_is_refused(history: History, tmp_path: Path) -> None:
    """The storage's owner puts the sealed files back, and lets only the newest run follow the forged ones."""
    signer = Signer(tmp_path, history(3))
    signer.sign()
    whole = copied(signer.storage)
    forge(signer.storage, 4)
    for run in (FIRST, SECOND, THIRD):
        drop(signer.storage, run_prefix(SOURCE, run))
        grow(signer, whole, run)
    with pytest.raises(SealRefused, match="follows another manifest of run 00000003"):
        signer.sign()


def test_other_files_of_the_same_run_are_refused(history: History, tmp_path: Path) -> None:
    """Once the signer means to sign a run, it signs this and nothing else, even if the other files verify."""
    for writes in count():
        signer = Signer(tmp_path, history(1))
        with pytest.raises(Killed):
            signer.sign(writes)
        if signer.heads_storage.get(HEAD) and signer.head().intent:
            break
    forge(signer.storage, 1)
    with pytest.raises(SealRefused, match="isn't the one that the signer began to seal"):
        signer.sign()
    assert signer.storage.get(seal_key(SOURCE, FIRST)) is None


def test_a_run_that_does_not_verify_is_left_out(history: History, tmp_path: Path) -> None:
    """It blocks nothing: the next seal names the last one, and the run in between with the reason."""
    signer = Signer(tmp_path, history(2))
    key = artifact_key(SOURCE, SECOND, "teams", 0)
    replaced(signer.storage, key, (signer.storage.get(key) or b"")[:-1] + b"\0")
    newest, (left,) = signer.sign()
    assert newest == FIRST
    assert left.run == SECOND
    assert key in left.reason
    assert ("seal.refused", SECOND) in signer.events
    grow(signer, history(3), THIRD)
    assert signer.sign() == (THIRD, ())
    seal = signer.seal(THIRD).seal
    assert seal.previous == signer.seal(FIRST).link
    assert [each.run for each in seal.unsealed] == [SECOND]
    manifest = signer.storage.get(manifest_key(SOURCE, SECOND)) or b""
    assert seal.unsealed[0].manifest_sha256 == sha256(manifest)
    assert signer.storage.get(seal_key(SOURCE, SECOND)) is None


def test_a_run_that_was_repaired_is_sealed(history: History, tmp_path: Path) -> None:
    signer = Signer(tmp_path, history(2))
    key = artifact_key(SOURCE, SECOND, "teams", 0)
    whole = signer.storage.get(key) or b""
    replaced(signer.storage, key, whole[:-1] + b"\0")
    assert signer.sign().newest == FIRST
    replaced(signer.storage, key, whole)
    assert signer.sign() == (SECOND, ())


def test_a_damaged_manifest_costs_two_runs(history: History, tmp_path: Path) -> None:
    """The run after it follows something that can't be read. The run after that is sealed, and names both."""
    signer = Signer(tmp_path, history(4))
    replaced(signer.storage, manifest_key(SOURCE, SECOND), b"{}")
    assert signer.sign() == (FOURTH, ())
    assert [each.run for each in signer.seal(FOURTH).seal.unsealed] == [SECOND, THIRD]


def test_a_run_that_is_gone_is_named(history: History, tmp_path: Path) -> None:
    signer = Signer(tmp_path, history(4))
    drop(signer.storage, run_prefix(SOURCE, SECOND))
    assert signer.sign() == (FOURTH, ())
    named = {each.run: each.reason for each in signer.seal(FOURTH).seal.unsealed}
    assert named[SECOND] == LOST
    assert list(named) == [SECOND, THIRD]


@pytest.mark.parametrize("through", [1, 2])
def test_purged_runs_do_not_stop_the_signer(history: History, tmp_path: Path, through: int) -> None:
    """The head stays the predecessor. Runs that were purged before they were sealed are named."""
    signer = Signer(tmp_path, history(1))
    signer.sign()
    sealed = signer.head().sealed
    assert sealed
    recorded = history(3)
    digests = {}
    for run in (FIRST, SECOND)[:through]:
        text = recorded.get(manifest_key(SOURCE, run)) or b""
        digests[run] = sha256(text)
    for run in (SECOND, THIRD):
        grow(signer, recorded, run)
    drop(signer.storage, run_prefix(SOURCE, FIRST))
    if through == 2:
        drop(signer.storage, run_prefix(SOURCE, SECOND))
    signer.put_record(through, digests=digests, seals={FIRST: sealed.sha256})
    outcome = signer.sign()
    assert outcome == (THIRD, ())
    oldest = signer.seal(SECOND if through == 1 else THIRD).seal
    assert oldest.previous
    assert oldest.previous.sha256 == sealed.sha256
    assert [each.reason for each in oldest.unsealed] == [PURGED] * (through - 1)


@pytest.mark.parametrize("sealed", [0, 1])
def test_an_older_copy_of_the_store_moves_forward_over_purged_runs(
    history: History, tmp_path: Path, sealed: int
) -> None:
    """The copy was made when run *sealed* was the newest. Later seals were purged, except that of run 3."""
    signer = Signer(tmp_path, history(sealed))
    signer.sign()
    old = signer.heads_storage.get(HEAD) or b""
    for run in (FIRST, SECOND, THIRD)[sealed:]:
        grow(signer, history(3), run)
    signer.sign()
    newest = signer.head().sealed
    manifests = {
        run: signer.storage.get(manifest_key(SOURCE, run)) or b"" for run in (FIRST, SECOND)
    }
    digests = {run: sha256(text) for run, text in manifests.items()}
    seals = {run: signer.seal(run).sha256 for run in manifests}
    for run in manifests:
        drop(signer.storage, run_prefix(SOURCE, run))
    signer.put_record(2, digests=digests, seals=seals)
    replaced(signer.heads_storage, HEAD, old)
    assert signer.sign() == (THIRD, ())
    assert signer.head().sealed == newest


def test_a_run_that_is_being_erased_is_no_alarm(history: History, tmp_path: Path) -> None:
    """The record of an erasure appears while the signer verifies the run, and then its objects go."""
    signer = Signer(tmp_path, history(2))
    text = signer.storage.get(manifest_key(SOURCE, FIRST)) or b""

    def erase() -> None:
        signer.put_record(1, digests={FIRST: sha256(text)})
        signer.storage.delete(artifact_key(SOURCE, FIRST, "teams", 0))

    with pytest.raises(Busy, match="are being erased"):
        signer.sign(beat=erase)
    assert signer.events == []
    drop(signer.storage, run_prefix(SOURCE, FIRST))
    assert signer.sign() == (SECOND, ())
    assert signer.seal(SECOND).seal.unsealed == ()


def test_a_missing_list_of_digests_is_written(history: History, tmp_path: Path) -> None:
    """It follows from the manifest. Another one in its place does not verify."""
    signer = Signer(tmp_path, history(2))
    key = sums_key(SOURCE, FIRST)
    text = signer.storage.get(key)
    signer.storage.delete(key)
    replaced(signer.storage, sums_key(SOURCE, SECOND), b"")
    newest, (left,) = signer.sign()
    assert (newest, signer.storage.get(key)) == (FIRST, text)
    assert sums_key(SOURCE, SECOND) in left.reason


def test_a_new_key_seals_what_follows(history: History, tmp_path: Path) -> None:
    """Old seals stay valid, and the list says which key was in use when."""
    signer = Signer(tmp_path, history(1))
    signer.sign()
    old = signer.seal(FIRST).seal.key
    keys = KeyStore(signer.heads_storage)
    day = keys.read().keys[0].created
    keys.use(signer.private_key.replaced(day).public, day)
    grow(signer, history(2), SECOND)
    assert signer.sign() == (SECOND, ())
    assert signer.seal(FIRST).seal.key == old != signer.seal(SECOND).seal.key
    assert [key.last_day is None for key in keys.read().keys] == [False, True]


def test_of_two_signers_one_moves_the_head(history: History, tmp_path: Path) -> None:
    """A head is replaced only in the version that was read."""
    signer = Signer(tmp_path, history(1))
    signer.sign()
    heads = Heads(signer.heads_storage)
    found = heads.find(SOURCE)
    assert found
    heads.replace(found, Head(source=SOURCE))
    with pytest.raises(Busy, match="Another signer"):
        heads.replace(found, found.head)
