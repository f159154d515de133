"""Tampers with the records of two purges: verify names each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import Finished, StoredErasure, done_key, record_key
from tasks.evidence.layout import run_prefix
from tasks.verifying.verify import verify
from tests.erased import erasure, stored, text_of
from tests.signer import SOURCE, Signer, add_run, copied, drop, replaced
from workers.signing.keys import PublicKeys
from workers.storage import Storage, open_storage

FIRST, SECOND, THIRD, FOURTH = (f"{number:08d}" for number in range(1, 5))
Document = dict[str, Any]


class History:
    """Four sealed runs, of which two were purged one after the other. The fourth was sealed after that."""

    def __init__(self, directory: Path) -> None:
        self.storage, last = open_storage("memory://"), None
        self.signer = Signer(directory, self.storage)
        for _ in range(3):
            last = add_run(self.storage, last)
        self.signer.sign()
        for run in (FIRST, SECOND):
            self.signer.registered.ask(run)
            self.signer.record()
            drop(self.storage, run_prefix(SOURCE, run))
            end = Finished.of(self.record(run), self.record(run).at)
            self.storage.put_new(done_key(SOURCE, run), documents.written(end))
        self.open = copied(self.storage)  # before the next seal, which names the second record
        add_run(self.storage, last)
        self.signer.sign()
        self.keys: PublicKeys = self.signer.keys

    def record(self, run: str) -> StoredErasure:
        return self.signer.purged().held[run]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("signer"))


def kinds(storage: Storage, keys: PublicKeys | None = None) -> set[str]:
    *_, report = verify(storage, SOURCE, keys=keys)
    return {each.kind for each in report.differences if each.counts}


def payload_of(storage: Storage, run: str) -> Document:
    envelope = orjson.loads(storage.get(record_key(SOURCE, run)) or b"")
    return orjson.loads(msgspec.convert(envelope["payload"], bytes, strict=False))


def edit(storage: Storage, run: str, payload: Document) -> None:
    """Put other words into a record. Its signature stays, and the object that ends the purge fits again."""
    key = record_key(SOURCE, run)
    envelope = orjson.loads(storage.get(key) or b"")
    envelope["payload"] = msgspec.to_builtins(orjson.dumps(payload))
    replaced(storage, key, msgspec.json.format(orjson.dumps(envelope), indent=2))
    storage.delete(done_key(SOURCE, run))


def edits(payload: Document) -> Iterator[tuple[str, Document]]:
    """Yield the payload with each of its members changed, so that it may still be a record."""
    other: dict[str, Any] = {
        "source": "acme/else",
        "previous": None,
        "through": "00000009",
        "why": "retention",
        "retention_months": 1,
        "by": "nobody",
        "at": "2026-11-30T00:00:00Z",
        "account": {"region": "eu", "subdomain": "other"},
        "objects": 1,
        "bytes": 1,
        "key": "0" * 64,
        "format": 1,
        "runs": [],
    }
    assert other.keys() == payload.keys()
    for name, value in other.items():
        if payload[name] != value:
            yield name, payload | {name: value}
    [entry] = payload["runs"]
    of_run: dict[str, Any] = {
        "run": "00000009",
        "state": "partial",
        "period": {"since": "2019-01-01T00:00:00Z", "until": "2019-02-01T00:00:00Z"},
        "opened_at": "2019-01-01T00:00:00Z",
        "sealed_at": "2019-01-01T00:00:00Z",
        "manifest_sha256": "0" * 64,
        "seal_sha256": "0" * 64,
    }
    assert of_run.keys() | {"objects", "bytes"} == entry.keys()
    for name, value in of_run.items():
        yield f"runs.{name}", payload | {"runs": [entry | {name: value}]}
    fewer = {"objects": 1, "bytes": 1}
    yield "sums", payload | fewer | {"runs": [entry | fewer]}


NAMES = [
    "source", "through", "why", "retention_months", "by", "at", "account", "objects", "bytes",
    "key", "format", "runs", "runs.run", "runs.state", "runs.period", "runs.opened_at",
    "runs.sealed_at", "runs.manifest_sha256", "runs.seal_sha256", "sums",
]  # fmt: skip
UNSIGNED_FITS = {
    "why", "retention_months", "by", "at", "account", "runs.state", "runs.period", "runs.opened_at",
    "runs.sealed_at", "sums",
}  # fmt: skip
"""Members of the newest record that only its signature holds, until a later seal names the record."""


def test_an_honest_history_has_no_difference(history: History) -> None:
    for storage in (history.storage, history.open):
        assert kinds(storage) == kinds(storage, history.keys) == set()


@pytest.mark.parametrize("name", [*NAMES, "previous"])
@pytest.mark.parametrize("run", [FIRST, SECOND])
def test_each_member_of_a_record_that_is_changed_is_found(
    history: History, run: str, name: str
) -> None:
    """The next record, or the next seal, names the record's digest. So no key is needed."""
    storage = copied(history.storage)
    changed = dict(edits(payload_of(storage, run)))
    if name not in changed:
        assert (run, name) == (FIRST, "previous")
        return
    edit(storage, run, changed[name])
    assert kinds(storage)
    assert "record" in kinds(storage, history.keys)


@pytest.mark.parametrize("name", [*NAMES, "previous"])
def test_each_member_of_the_newest_record_is_found_with_keys(history: History, name: str) -> None:
    """No seal names it yet. Without keys, these members could be anything that fits."""
    storage = copied(history.open)
    edit(storage, SECOND, dict(edits(payload_of(storage, SECOND)))[name])
    assert "record" in kinds(storage, history.keys)
    assert bool(kinds(storage)) is (name not in UNSIGNED_FITS)


def forged(history: History, run: str) -> bytes:
    """Return a record that says the same, signed with another key."""
    record = history.record(run)
    before = history.record(FIRST) if run == SECOND else None
    entry = record.entry(run)
    return text_of(
        erasure(
            SOURCE,
            int(run),
            before,
            {run: entry.manifest_sha256 or ""},
            {run: entry.seal_sha256 or ""},
        )
    )


CHANGES: dict[str, Callable[[History, Storage], object]] = {
    "first gone": lambda h, s: s.delete(record_key(SOURCE, FIRST)),
    "second gone": lambda h, s: s.delete(record_key(SOURCE, SECOND)),
    "both gone": lambda h, s: drop(s, f".purged/{SOURCE}"),
    "first of another key": lambda h, s: replaced(s, record_key(SOURCE, FIRST), forged(h, FIRST)),
    "second of another key": lambda h, s: replaced(
        s, record_key(SOURCE, SECOND), forged(h, SECOND)
    ),
    "copied to another number": lambda h, s: s.put_new(
        record_key(SOURCE, THIRD), s.get(record_key(SOURCE, SECOND)) or b""
    ),
    "changed places": lambda h, s: replaced(
        s, record_key(SOURCE, FIRST), s.get(record_key(SOURCE, SECOND)) or b""
    ),
    "unsigned": lambda h, s: s.put_new(
        f".purged/{SOURCE}/{THIRD}.json", documents.written(erasure(SOURCE, 3))
    ),
    "without a signature": lambda h, s: replaced(
        s,
        record_key(SOURCE, SECOND),
        (s.get(record_key(SOURCE, SECOND)) or b"").replace(b'"signatures": [', b'"signatures": []'),
    ),
    "an end of nothing": lambda h, s: s.put_new(done_key(SOURCE, THIRD), b"{}"),
    "an end of another record": lambda h, s: replaced(
        s,
        done_key(SOURCE, SECOND),
        documents.written(Finished.of(stored(erasure(SOURCE, 2)), h.record(SECOND).at)),
    ),
    "a note": lambda h, s: s.put_new(f".purged/{SOURCE}/notes.txt", b"x"),
    "a hidden run": lambda h, s: s.put_new(
        record_key(SOURCE, THIRD), text_of(erasure(SOURCE, 3, h.record(SECOND)))
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_anything_else_among_the_records_is_found(history: History, change: str) -> None:
    """No keys are needed for any of these."""
    storage = copied(history.storage)
    CHANGES[change](history, storage)
    assert kinds(storage) & {"record", "chain", "seal"}
    assert kinds(storage, history.keys) & {"record", "chain", "seal"}


def test_a_forged_record_with_fitting_digests_hides_no_run_from_who_has_keys(
    history: History,
) -> None:
    """It excuses a run that was removed, for everybody else. Only a signature or a head finds that."""
    storage = copied(history.open)
    text = storage.get(f"{run_prefix(SOURCE, THIRD)}/manifest.json") or b""
    digests = {THIRD: sha256(text)}
    record = erasure(SOURCE, 3, history.record(SECOND), digests)
    storage.put_new(record_key(SOURCE, THIRD), text_of(record))
    *_, report = verify(storage, SOURCE, keys=history.keys)
    assert report.runs == [THIRD]
    assert [(each.kind, each.key) for each in report.differences] == [
        ("record", record_key(SOURCE, THIRD))
    ]


@pytest.mark.parametrize("run", [FIRST, SECOND])
def test_the_digest_of_a_purged_seal_still_anchors_what_is_left(history: History, run: str) -> None:
    """A head that somebody noted before the purge is found in the record that names it."""
    noted = history.record(run).entry(run).seal_sha256
    assert noted
    *_, report = verify(history.storage, SOURCE, keys=history.keys, head=noted)
    assert (report.ok, report.anchored, report.differences) == (True, True, [])
    *_, report = verify(history.storage, SOURCE, FOURTH, head=noted)
    assert (report.ok, report.anchored) == (True, True)
