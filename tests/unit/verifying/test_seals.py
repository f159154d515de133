"""Verifies sealed histories: what only a signature or a known seal finds is found with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tasks.evidence import documents
from tasks.evidence.layout import manifest_key, plan_key, run_prefix, seal_key
from tasks.evidence.manifests import read_manifest
from tasks.verifying.report import Report
from tasks.verifying.verify import verify
from tests.lists_model import make
from tests.signer import SOURCE, Signer, add_run, copied, drop, replaced
from workers.signing.keys import KeyStore, PublicKeys
from workers.storage import Storage, open_storage

RUNS = ("00000001", "00000002", "00000003")


class History:
    """Three sealed runs, the public keys, and the digest of each seal."""

    def __init__(self, directory: Path) -> None:
        self.storage, last = open_storage("memory://"), None
        self.signer = Signer(directory, self.storage)
        for number, _ in enumerate(RUNS):
            last = add_run(self.storage, last, 12 + number)
            self.signer.sign()
        self.keys: PublicKeys = KeyStore(self.signer.heads_storage).read()

    def digest(self, run: str) -> str:
        return self.signer.seal(run).sha256


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def report_of(storage: Storage, run: str | None = None, **given: Any) -> Report:
    *_, report = verify(storage, SOURCE, run, **given)
    return report


def kinds(storage: Storage, **given: Any) -> set[str]:
    return {each.kind for each in report_of(storage, **given).differences if each.counts}


@pytest.mark.parametrize("known", RUNS)
def test_a_sealed_history_holds_with_its_keys_and_any_seal_of_it(
    history: History, known: str
) -> None:
    report = report_of(history.storage, keys=history.keys, head=history.digest(known))
    assert (report.ok, report.differences, report.unsealed) == (True, [], [])
    assert (report.keyed, report.anchored) == (True, True)
    assert report.head
    assert (report.head.run, report.head.sha256) == (RUNS[-1], history.digest(RUNS[-1]))


def test_without_keys_or_a_head_nothing_is_claimed_of_them(history: History) -> None:
    report = report_of(history.storage)
    assert (report.ok, report.keyed, report.anchored) == (True, False, False)


def test_a_run_that_is_not_sealed_yet_is_named_and_is_no_difference(history: History) -> None:
    last = orjson.loads(history.storage.get(manifest_key(SOURCE, RUNS[-1])) or b"")
    sha256 = history.signer.seal(RUNS[-1]).statement.manifest_sha256
    add_run(history.storage, last | {"sha256": sha256})
    report = report_of(history.storage, keys=history.keys, head=history.digest(RUNS[-1]))
    assert (report.ok, report.unsealed) == (True, ["00000004"])


def test_a_cut_off_end_is_found_with_a_head_alone(history: History) -> None:
    newest = history.digest(RUNS[-1])
    drop(history.storage, run_prefix(SOURCE, RUNS[-1]))
    assert kinds(history.storage, keys=history.keys) == set()
    assert kinds(history.storage, head=newest) == {"head"}


@pytest.mark.parametrize("known", RUNS)
@pytest.mark.parametrize("run", RUNS)
def test_one_run_is_anchored_by_any_seal_of_its_history(
    history: History, run: str, known: str
) -> None:
    report = report_of(history.storage, run, keys=history.keys, head=history.digest(known))
    assert (report.ok, report.differences, report.anchored) == (True, [], True)


def test_a_seal_that_the_newest_does_not_follow_anchors_nothing(
    history: History, tmp_path: Path
) -> None:
    """Somebody put the seal of another history in the place of an older one."""
    (tmp_path / "other").mkdir()
    other = History(tmp_path / "other")
    first, newest = history.digest(RUNS[0]), history.digest(RUNS[2])
    replaced(
        history.storage,
        seal_key(SOURCE, RUNS[0]),
        other.storage.get(seal_key(SOURCE, RUNS[0])) or b"",
    )
    for known in (other.digest(RUNS[0]), first):
        report = report_of(history.storage, RUNS[2], head=known)
        assert ({each.kind for each in report.differences}, report.anchored) == ({"head"}, False)
    report = report_of(history.storage, RUNS[0], head=newest)
    assert "head" in {each.kind for each in report.differences}


def test_a_history_that_is_forged_as_a_whole_is_found_with_keys_or_a_head(
    history: History, tmp_path: Path
) -> None:
    """The forger uses the product's own code, and another key."""
    (tmp_path / "other").mkdir()
    other = History(tmp_path / "other")
    assert kinds(other.storage) == set()
    assert kinds(other.storage, keys=history.keys) == {"seal"}
    assert kinds(other.storage, head=history.digest(RUNS[0])) == {"head"}


def edit(storage: Storage, run: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the statement of a seal. Its signature stays as it was."""
    key = seal_key(SOURCE, run)
    envelope = orjson.loads(storage.get(key) or b"")
    statement = msgspec.json.decode(msgspec.convert(envelope["payload"], bytes, strict=False))
    change(statement)
    envelope["payload"] = msgspec.to_builtins(orjson.dumps(statement))
    replaced(storage, key, msgspec.json.format(orjson.dumps(envelope), indent=2))


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "run": lambda s: s["predicate"].update(run="00000003"),
    "source": lambda s: s["predicate"].update(source="acme/else"),
    "account": lambda s: s["predicate"]["account"].update(subdomain="other"),
    "period": lambda s: s["predicate"]["period"].update(since="2019-01-01T00:00:00Z"),
    "state": lambda s: s["predicate"].update(state="partial"),
    "records": lambda s: s["predicate"]["records"].update(teams=1),
    "no records": lambda s: s["predicate"].update(records={}),
    "sealed_at": lambda s: s["predicate"].update(sealed_at="2019-01-01T00:00:00Z"),
    "key": lambda s: s["predicate"].update(key="0" * 64),
    "previous": lambda s: s["predicate"]["previous"].update(sha256="0" * 64),
    "no previous": lambda s: s["predicate"].update(previous=None),
    "unsealed": lambda s: s["predicate"].update(
        unsealed=[{"run": "00000001", "manifest_sha256": None, "reason": "x"}]
    ),
    "manifest": lambda s: s["subject"][1]["digest"].update(sha256="0" * 64),
    "digests": lambda s: s["subject"][0]["digest"].update(sha256="0" * 64),
    "subjects": lambda s: s["subject"].reverse(),
    "one subject": lambda s: s["subject"].pop(),
    "another member": lambda s: s.update(more=1),
    "type": lambda s: s.update(predicateType="other"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_of_a_seal_is_found_without_keys(history: History, what: str) -> None:
    edit(history.storage, RUNS[1], CHANGES[what])
    assert kinds(history.storage) == {"seal"}


def test_another_tool_in_a_seal_is_found_by_the_next_seal_and_by_the_signature(
    history: History,
) -> None:
    edit(history.storage, RUNS[1], lambda s: s["predicate"]["tool"].update(version="9"))
    assert kinds(history.storage) == {"seal"}
    newest = copied(history.storage)
    edit(newest, RUNS[2], lambda s: s["predicate"]["tool"].update(version="9"))
    assert kinds(newest, keys=history.keys) == {"seal"}


@pytest.mark.parametrize("text", [b"", b"{}", b"[" * 9_999, b"\x00"])
def test_anything_else_in_the_place_of_a_seal_is_found(history: History, text: bytes) -> None:
    replaced(history.storage, seal_key(SOURCE, RUNS[1]), text)
    assert "seal" in kinds(history.storage)


@pytest.mark.parametrize("run", RUNS[:-1])
def test_a_seal_that_is_gone_is_found_by_the_one_that_follows_it(
    history: History, run: str
) -> None:
    drop(history.storage, seal_key(SOURCE, run))
    history.storage.delete(seal_key(SOURCE, run))
    assert kinds(history.storage) == {"seal"}


def test_a_retired_key_signs_nothing(history: History) -> None:
    """A retired key could be stolen. What it signs after its last day is refused."""
    [key] = history.keys.keys
    retired = msgspec.structs.replace(key, last_day=key.created.replace(year=2020))
    keys = PublicKeys(
        keys=(msgspec.structs.replace(retired, created=key.created.replace(year=2020)),)
    )
    assert kinds(history.storage, keys=keys) == {"seal"}


def test_an_open_run_is_overdue_once_its_interval_is_over(history: History) -> None:
    last = read_manifest(history.storage, SOURCE, RUNS[-1])
    plan = make("teams", last=last, newest=RUNS[-1], every_seconds=3_600)
    history.storage.put_new(plan_key(SOURCE, plan.run), documents.written(plan))
    assert kinds(history.storage) == set()
    assert kinds(history.storage, as_at=plan.opened_at + timedelta(minutes=59)) == set()
    assert kinds(history.storage, as_at=plan.opened_at + timedelta(minutes=61)) == {"open"}
