"""Erasing evidence, by a person or by retention, with everything that can go wrong during it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest

from tasks import api, plan, purge, seal, sign
from tasks.evidence.erasure_records import Purge, done_key, record_key, summary
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key
from tasks.evidence.manifests import account_of, read_manifest, read_plan, runs_of
from tasks.reading.sealed import PreviousRun
from tasks.runs import erasing, opening, restoring, sealing
from tasks.runs.erasing import Progress
from tests.erased import erasure, text_of
from tests.integration.steps import SOURCE, Died, Fleet
from workers.errors import Busy, Fault, NotFound, PurgeRefused, StorageConflict
from workers.pagerduty.replies import Reply
from workers.runtime import Runtime
from workers.state import sources
from workers.state.sources import Sources
from workers.storage.registry import Source, SourceState

RUNS = ("00000001", "00000002", "00000003")
LATER = datetime.now(UTC) + timedelta(days=800)  # more than 24 months later


class Mortal:
    """A storage whose process dies at a chosen deletion, or when it stores a chosen object."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.deletions_left = 10**9
        self.stored = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put_new(self, key: str, data: bytes) -> bool:
        if self.stored and self.stored in key:
            raise Died(key)
        return bool(self._storage.put_new(key, data))

    def delete(self, key: str) -> None:
        if self.deletions_left == 0:
            raise Died(key)
        self.deletions_left -= 1
        self._storage.delete(key)


@pytest.fixture
def fleet(make: Callable[[Path], Fleet], tmp_path: Path) -> Fleet:
    return make(tmp_path / "data")


def connect(fleet: Fleet, **settings: object) -> Source:
    source = replace(fleet.connect(), resources=("incidents", "teams"), **settings)  # type: ignore[arg-type]  # any of them
    return fleet.runtime.sources.save(source)


def collect(fleet: Fleet, count: int = 1) -> None:
    for _ in range(count):
        end(fleet, api.collect(fleet.runtime, SOURCE).run)


def collect_sealed(fleet: Fleet, count: int = 1) -> None:
    for _ in range(count):
        collect(fleet)
        sign.sign_run(SOURCE, RUNS[0])


def erase(fleet: Fleet, runtime: Runtime | None = None, by: str = "tester") -> Purge | None:
    """Purge the source. If the purge waits for the signer, let it sign, and purge again."""
    runtime = runtime or fleet.runtime
    try:
        return api.purge(runtime, SOURCE, by, wait_seconds=0)
    except Busy:
        if fleet.runtime.sources.fresh(SOURCE).purge is None:
            raise
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sign, "runtime", lambda: runtime)
        sign.record_purge(SOURCE)
    return api.purge(runtime, SOURCE, by, wait_seconds=0)


def expire(fleet: Fleet, now: datetime = LATER, seconds: float = 60) -> Progress:
    """Apply the retention. If that waits for the signer, let it sign, and go on."""
    found = erasing.expire(fleet.runtime, fleet.runtime.sources.fresh(SOURCE), now, seconds)
    if found is Progress.WAITS:
        sign.record_purge(SOURCE)
        found = erasing.expire(fleet.runtime, fleet.runtime.sources.fresh(SOURCE), now, seconds)
    return found


def end(fleet: Fleet, run: str) -> None:
    """Do steps until *run* is sealed and deleted from Redis."""
    while fleet.redis.exists(f"pagetrail:run:{SOURCE}") or not fleet.storage.get(
        manifest_key(SOURCE, run)
    ):
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()


def stored(fleet: Fleet, prefix: str = SOURCE) -> list[str]:
    return [each.key for each in fleet.storage.list(prefix)]


def read(fleet: Fleet, key: str) -> dict[str, Any]:
    text = fleet.storage.get(key)
    assert text, key
    return dict(orjson.loads(text))


def file_digest(fleet: Fleet, key: str) -> str:
    return hashlib.sha256(fleet.storage.get(key) or b"").hexdigest()


def unfinished(fleet: Fleet) -> list[str]:
    return [record.through for record in Purged(fleet.storage, SOURCE).unfinished()]


def test_retention_leaves_the_newest_run_and_correct_evidence(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 3)
    digests = [file_digest(fleet, manifest_key(SOURCE, run)) for run in RUNS]
    count = len(
        stored(fleet, f"{SOURCE}/runs/{RUNS[0]}") + stored(fleet, f"{SOURCE}/runs/{RUNS[1]}")
    )
    assert expire(fleet, datetime.now(UTC)) is Progress.DONE
    assert runs_of(fleet.storage, SOURCE) == list(RUNS), "nothing is old yet"
    assert expire(fleet) is Progress.DONE

    assert runs_of(fleet.storage, SOURCE) == [RUNS[2]]
    assert {key.split("/")[3] for key in stored(fleet)} == {RUNS[2]}
    record = Purged(fleet.storage, SOURCE).held[RUNS[1]]
    assert (record.why, record.by, record.objects) == ("retention", "fleet", count)
    assert record.bytes > 0
    assert [run.manifest_sha256 for run in record.runs] == digests[:2]
    done = read(fleet, done_key(SOURCE, RUNS[1]))
    assert done["record_sha256"] == file_digest(fleet, record_key(SOURCE, RUNS[1]))

    report = api.verify(fleet.storage, SOURCE)
    assert (report.ok, report.runs, report.differences) == (True, [RUNS[2]], [])
    assert [each.through for each in report.purged] == [RUNS[1]]
    incidents = api.export(fleet.storage, SOURCE, "incidents")
    assert (incidents.choice.gone, incidents.choice.whole) == (RUNS[1], False)
    teams = api.export(fleet.storage, SOURCE, "teams")
    assert (len(list(teams.records)), teams.choice.whole) == (5, True)
    with pytest.raises(NotFound, match="was purged"):
        api.verify(fleet.storage, SOURCE, RUNS[0])

    collect_sealed(fleet)
    following = read_plan(fleet.storage, SOURCE, "00000004")
    assert following
    assert following.previous == PreviousRun(RUNS[2], digests[2])
    assert following.covered, "older records aren't requested again"
    assert api.verify(fleet.storage, SOURCE).ok


FORGED = {
    "00000001.dsse.json": b"",
    "00000002.dsse.json": b"\x00{",
    "00000002.json": b"{}",
    "99999999.dsse.json": b"",
    "latest.json": b"{}",
    "00000002.done.json": b"",
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("held", [True, False])
def test_forged_objects_among_the_records_erase_nothing(
    fleet: Fleet, name: str, held: bool
) -> None:
    """They hide no run, delete no object, change no number and stop no work. Only `verify` names them."""
    source = connect(fleet)
    collect_sealed(fleet, 2)
    if held:
        api.hold(fleet.runtime, SOURCE)
    before = stored(fleet)
    key = f".purged/{SOURCE}/{name}"
    fleet.storage.put_new(key, FORGED[name])
    assert runs_of(fleet.storage, SOURCE) == list(RUNS[:2])
    purge.look_after(SOURCE)
    assert stored(fleet) == before
    assert [run.run for run in api.runs(fleet.runtime, SOURCE)] == list(RUNS[:2])
    assert api.export(fleet.storage, SOURCE, "incidents").choice.whole
    report = api.verify(fleet.storage, SOURCE)
    assert [(each.key, each.kind) for each in report.differences] == [(key, "record")]
    assert (report.ok, report.runs) == (False, list(RUNS[:2]))
    assert api.collect(fleet.runtime, source.id).run == RUNS[2]
    assert "evidence.erased" not in [event.kind for event in api.events(fleet.runtime)]


def test_a_whole_record_that_names_other_manifests_deletes_none_of_them(fleet: Fleet) -> None:
    """Its digests are compared with the stored manifests before anything is deleted."""
    connect(fleet)
    collect_sealed(fleet, 2)
    before = stored(fleet)
    fleet.storage.put_new(record_key(SOURCE, RUNS[1]), text_of(erasure(SOURCE, 2)))
    purge.look_after(SOURCE)
    assert stored(fleet) == before
    assert runs_of(fleet.storage, SOURCE) == list(RUNS[:2])
    [difference] = api.verify(fleet.storage, SOURCE).differences
    assert (difference.kind, difference.counts) == ("record", True)


def test_an_object_in_the_way_of_a_record_is_named_and_does_not_stop_a_later_try(
    fleet: Fleet,
) -> None:
    """If a forged record or end of an erasure has the name that a purge needs, a sentence says what to move away."""
    connect(fleet)
    collect_sealed(fleet, 2)
    api.pause(fleet.runtime, SOURCE)
    before = stored(fleet)
    for forged in (record_key(SOURCE, RUNS[1]), done_key(SOURCE, RUNS[1])):
        fleet.storage.put_new(forged, b"")
        with pytest.raises(StorageConflict, match=rf"{forged} .*move it away"):
            erase(fleet)
        assert (stored(fleet) == before) is (".done" not in forged)
        fleet.storage.delete(forged)
    assert erase(fleet)
    assert (stored(fleet), unfinished(fleet)) == ([], [])
    kinds = [event.kind for event in api.events(fleet.runtime)]
    assert "evidence.erased" in kinds


def test_a_forged_record_beside_a_valid_one_changes_nothing(fleet: Fleet) -> None:
    """This holds even if no run is left to show the next number and the account of the evidence."""
    connect(fleet)
    collect_sealed(fleet, 2)
    api.pause(fleet.runtime, SOURCE)
    purged = erase(fleet)
    forged = record_key(SOURCE, "99999999")
    fleet.storage.put_new(forged, b"")
    assert account_of(fleet.storage, SOURCE) == ("us", "acme")
    assert erase(fleet) == purged
    report = api.verify(fleet.storage, SOURCE)
    assert [(each.key, each.kind) for each in report.differences] == [(forged, "record")]
    api.resume(fleet.runtime, SOURCE)
    assert api.collect(fleet.runtime, SOURCE).run == RUNS[2]


def test_runs_that_were_lost_before_an_erasure_are_only_erased_with_all_others(
    fleet: Fleet,
) -> None:
    """A record names every run in its range. For a lost run it says that nothing was stored."""
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 3)
    for key in stored(fleet, f"{SOURCE}/runs/{RUNS[0]}"):
        fleet.storage.delete(key)
    assert "chain" in {each.kind for each in api.verify(fleet.storage, SOURCE).differences}
    before = stored(fleet)
    with pytest.raises(PurgeRefused, match="run 00000001 has no seal"):
        expire(fleet)
    assert stored(fleet) == before
    api.pause(fleet.runtime, SOURCE)
    assert erase(fleet)
    [record] = Purged(fleet.storage, SOURCE).held.values()
    assert [(each.run, bool(each.objects), bool(each.seal_sha256)) for each in record.runs] == [
        (RUNS[0], False, False),
        (RUNS[1], True, True),
        (RUNS[2], True, True),
    ]
    assert stored(fleet) == []


def test_a_name_far_ahead_of_all_runs_does_not_make_a_record_of_millions(fleet: Fleet) -> None:
    connect(fleet)
    collect_sealed(fleet)
    api.pause(fleet.runtime, SOURCE)
    far = f"{SOURCE}/runs/99999999"
    fleet.storage.put_new(f"{far}/notes", b"")
    with pytest.raises(StorageConflict, match=rf"restore them .* or move {far} away"):
        erase(fleet)
    fleet.storage.delete(f"{far}/notes")
    assert erase(fleet)


def test_a_record_that_was_edited_excuses_nothing(fleet: Fleet) -> None:
    """If its words are edited so that they fit in every way, its signature doesn't fit."""
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    assert expire(fleet) is Progress.DONE
    key, keys = record_key(SOURCE, RUNS[0]), fleet.runtime.public_keys.read()
    whole = read(fleet, key)
    payload = base64.b64decode(whole["payload"])
    fleet.storage.delete(done_key(SOURCE, RUNS[0]))
    for edited, found in (
        (payload.replace(b'"why":"retention"', b'"why":"purge"'), set()),
        (payload.replace(b'"by":"fleet"', b'"by":"nobody"'), set()),
        (payload.replace(b'"runs":[', b'"runs":[],"more":['), {"chain", "record", "seal"}),
        (payload.replace(b'"account":{', b'"account":null,"more":{'), {"chain", "record", "seal"}),
        (b"[]", {"chain", "record", "seal"}),
    ):
        assert edited != payload
        fleet.storage.delete(key)
        text = whole | {"payload": base64.b64encode(edited).decode()}
        fleet.storage.put_new(key, msgspec.json.format(orjson.dumps(text), indent=2))
        assert kinds(fleet) == found
        differences = {e.kind: e for e in api.verify(fleet.storage, SOURCE, keys=keys).differences}
        assert differences["record"].key == key
        assert all(each.counts for each in differences.values())
        assert account_of(fleet.storage, SOURCE) == ("us", "acme")


def kinds(fleet: Fleet) -> set[str]:
    return {each.kind for each in api.verify(fleet.storage, SOURCE).differences}


def test_an_interrupted_purge_continues_where_it_stopped(fleet: Fleet) -> None:
    connect(fleet)
    collect_sealed(fleet, 2)
    api.pause(fleet.runtime, SOURCE)
    everything = stored(fleet)
    mortal = Mortal(fleet.storage)
    dying = fleet.runtime.replaced(storage=mortal)

    def try_to_erase() -> None:
        with contextlib.suppress(Died):  # the test lets it die here
            erase(fleet, dying)

    mortal.stored = ".purged"
    try_to_erase()
    assert stored(fleet) == everything, "the record is stored before any deletion"
    mortal.stored, mortal.deletions_left = "", 7
    try_to_erase()
    [record] = Purged(fleet.storage, SOURCE).held.values()
    assert (record.through, record.objects) == (RUNS[1], len(everything))
    left = stored(fleet)
    assert len(left) == len(everything) - 7
    assert runs_of(fleet.storage, SOURCE) == [], "the rest isn't evidence any more"
    mortal.deletions_left, mortal.stored = 10**9, ".done"
    try_to_erase()
    assert stored(fleet) == []
    assert unfinished(fleet) == [RUNS[1]]
    mortal.stored = ""
    for _ in range(2):
        done = erase(fleet, dying, "somebody else")
        assert done == summary(record)
    assert unfinished(fleet) == []


def test_a_look_that_takes_too_long_continues_at_the_next_tick(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    assert expire(fleet, seconds=0) is Progress.MORE
    assert unfinished(fleet) == [RUNS[0]]
    api.change(fleet.runtime, SOURCE, retention_months=24)  # this makes a look due at once
    plan.tick()
    assert ("tasks.purge.look_after", (SOURCE,)) in fleet.messages
    while fleet.messages:
        fleet.step()
    assert unfinished(fleet) == []
    assert {key.split("/")[3] for key in stored(fleet)} == {RUNS[1]}


def test_many_old_runs_are_erased_some_at_a_time(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source whose retention is set late may have thousands of them. Reading them all takes too long for one look."""
    monkeypatch.setattr(erasing, "MOST_RUNS", 1)
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 3)
    left, progress = [], Progress.MORE
    while progress is Progress.MORE:
        progress = expire(fleet)
        left.append(runs_of(fleet.storage, SOURCE))
    assert left == [list(RUNS[1:]), [RUNS[2]]]
    assert list(Purged(fleet.storage, SOURCE).held) == list(RUNS[:2])
    assert {key.split("/")[3] for key in stored(fleet)} == {RUNS[2]}
    report = api.verify(fleet.storage, SOURCE)
    assert (report.ok, [each.through for each in report.purged]) == (True, [RUNS[1]])


def test_nothing_is_erased_while_a_run_is_open(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    opened = api.collect(fleet.runtime, SOURCE)
    before = stored(fleet)
    purge.look_after(SOURCE)
    api.pause(fleet.runtime, SOURCE)
    with pytest.raises(Busy, match="not sealed yet"):
        erase(fleet)
    fleet.lose_redis()
    purge.look_after(SOURCE)
    with pytest.raises(Busy, match="not sealed yet"):
        erase(fleet)
    assert stored(fleet) == before
    api.cancel(fleet.runtime, SOURCE)
    end(fleet, opened.run)
    assert erase(fleet)
    assert stored(fleet) == []


def test_a_legal_hold_stops_purge_and_retention(fleet: Fleet) -> None:
    source = connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    api.hold(fleet.runtime, SOURCE)
    before = stored(fleet)
    with pytest.raises(Busy):
        erasing.expire(fleet.runtime, source, LATER, 60)  # the hold began after the look
    assert expire(fleet) is Progress.DONE
    api.pause(fleet.runtime, SOURCE)
    with pytest.raises(Fault, match="under legal hold since"):
        erase(fleet)
    api.disconnect(fleet.runtime, SOURCE)
    with pytest.raises(Fault, match="under legal hold since"):
        erase(fleet)
    assert stored(fleet) == before
    api.release(fleet.runtime, SOURCE)
    assert erase(fleet)
    assert stored(fleet) == []


def test_a_purged_name_keeps_its_account_and_its_numbers(fleet: Fleet) -> None:
    connect(fleet)
    with pytest.raises(Fault, match="is active"):
        erase(fleet)
    collect_sealed(fleet, 2)
    api.disconnect(fleet.runtime, SOURCE)
    erase(fleet)
    fleet.storage.delete(f".registry/{SOURCE}.json")
    fleet.lose_redis()
    assert account_of(fleet.storage, SOURCE) == ("us", "acme")
    connect(fleet)
    # A worker was frozen before the purge. When it resumes, the objects that it stores don't count as a run.
    fleet.storage.put_new(f"{SOURCE}/runs/{RUNS[1]}/pages/teams/all.1/000000.json.zst", b"late")
    collect_sealed(fleet)
    manifest = read_manifest(fleet.storage, SOURCE, RUNS[2])
    assert manifest
    assert (manifest.state, manifest.previous) == ("complete", None)
    report = api.verify(fleet.storage, SOURCE)
    assert (report.ok, [each.kind for each in report.differences]) == (True, ["left"])
    assert api.export(fleet.storage, SOURCE, "incidents").choice.whole
    api.pause(fleet.runtime, SOURCE)
    erase(fleet)
    assert stored(fleet) == []


def test_a_disconnected_source_leaves_its_document_in_redis_and_nothing_else(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet)
    opened = api.collect(fleet.runtime, SOURCE)
    api.disconnect(fleet.runtime, SOURCE)
    end(fleet, opened.run)
    assert api.run(fleet.runtime, SOURCE).state == "cancelled"
    assert expire(fleet) is Progress.DONE
    assert stored(fleet) == [], "no next run continues from the last"
    erase(fleet)
    api.change(fleet.runtime, SOURCE, retention_months=None)
    purge.look_after(SOURCE)
    keys = {key.decode(): fleet.redis.type(key) for key in fleet.redis.scan_iter()}
    assert not [key for key in keys if SOURCE in key and fleet.redis.ttl(key) < 0]
    named = {
        key
        for key, kind in keys.items()
        if (kind == b"hash" and fleet.redis.hexists(key, SOURCE))
        or (kind == b"zset" and fleet.redis.zscore(key, SOURCE) is not None)
    }
    assert named == {"pagetrail:sources"}
    assert not fleet.redis.exists("pagetrail:credentials")


def test_a_run_that_opens_during_a_disconnect_ends_without_a_request(
    fleet: Fleet,
) -> None:
    stale = connect(fleet)
    api.disconnect(fleet.runtime, SOURCE)
    opened = opening.open_run(fleet.runtime, stale)
    end(fleet, opened.run)
    [run] = api.runs(fleet.runtime, SOURCE)
    assert (run.state, run.requests) == ("cancelled", 0)


def test_the_open_run_of_a_disconnected_source_ends_even_if_redis_lost_it(fleet: Fleet) -> None:
    connect(fleet)
    opened = api.collect(fleet.runtime, SOURCE)
    source = fleet.runtime.sources.fresh(SOURCE)
    fleet.runtime.sources.save(replace(source, state=SourceState.DISCONNECTED, sealed_key=None))
    fleet.lose_redis()
    restoring.restore(fleet.runtime)
    end(fleet, opened.run)
    assert api.run(fleet.runtime, SOURCE).state == "cancelled"


class Meanwhile:
    """A storage in which something else happens once, just before a call of *method* for a key that has *part*."""

    def __init__(self, storage: Any, method: str, part: str, act: Callable[[], object]) -> None:
        self._storage = storage
        self._when = method, part
        self._acts = [act]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        def call(key: str, *rest: object) -> Any:
            if self._acts and name == self._when[0] and self._when[1] in key:
                self._acts.pop()()
            return method(key, *rest)

        return call


def test_a_run_that_opens_while_a_purge_lists_the_runs_stays_whole(fleet: Fleet) -> None:
    stale = connect(fleet)
    collect_sealed(fleet)
    api.pause(fleet.runtime, SOURCE)
    for part in (f"{SOURCE}/runs", f".purged/{SOURCE}"):
        storage = Meanwhile(
            fleet.storage, "children", part, lambda: opening.open_run(fleet.runtime, stale)
        )
        with contextlib.suppress(Busy):  # the run that opened may stop the purge
            erase(fleet, fleet.runtime.replaced(storage=storage))
        opened = fleet.runtime.ledger.progress(SOURCE).run
        assert read_plan(fleet.storage, SOURCE, opened)
        assert opened in runs_of(fleet.storage, SOURCE)
        api.cancel(fleet.runtime, SOURCE)
        end(fleet, opened)


def test_the_newest_sealed_run_stays_even_while_the_next_one_is_open(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    api.collect(fleet.runtime, SOURCE)
    assert expire(fleet) is Progress.DONE
    assert runs_of(fleet.storage, SOURCE) == list(RUNS[1:])


@pytest.mark.parametrize(
    ("method", "part"), [("list", "/runs/"), ("put_new", ".purged"), ("replace_if", ".registry")]
)
def test_if_a_purge_and_a_hold_come_at_the_same_moment_one_is_refused(
    fleet: Fleet, method: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold comes before each step of the purge's decision. If the hold succeeds, all evidence is there."""
    monkeypatch.setattr(sources, "_WAIT_SECONDS", 0.0)
    connect(fleet)
    collect_sealed(fleet)
    api.pause(fleet.runtime, SOURCE)
    before = stored(fleet)
    came: list[str] = []

    def hold() -> None:
        try:
            api.hold(fleet.runtime, SOURCE)
            came.append("held")
        except Busy:
            came.append("refused")

    storage = Meanwhile(fleet.storage, method, part, hold)
    dying = fleet.runtime.replaced(
        storage=storage,
        sources=Sources(fleet.redis, storage, "pagetrail"),  # type: ignore[arg-type]  # a double
    )
    try:
        erase(fleet, dying)
        purged = True
    except Busy:
        purged = False
    assert came == (["refused"] if purged else ["held"])
    assert (stored(fleet) == before) is not purged


def test_a_hold_also_stops_a_purge_that_was_frozen_until_its_lock_ended(fleet: Fleet) -> None:
    connect(fleet)
    collect_sealed(fleet)
    api.pause(fleet.runtime, SOURCE)
    before = stored(fleet)

    def hold() -> None:
        fleet.redis.delete(f"pagetrail:deciding:{SOURCE}")
        assert api.hold(fleet.runtime, SOURCE).held_since

    frozen = fleet.runtime.replaced(storage=Meanwhile(fleet.storage, "put_new", ".purged", hold))
    with pytest.raises(Busy, match="at the same moment"):
        erase(fleet, frozen)
    assert (stored(fleet), stored(fleet, ".purged")) == (before, [])
    assert runs_of(fleet.storage, SOURCE) == [RUNS[0]]
    api.release(fleet.runtime, SOURCE)
    assert erase(fleet)


def purge_meanwhile(fleet: Fleet, run: str, *, connected: bool = False) -> None:
    """Let another worker seal *run*, and then erase the run, long before the next daily look."""
    fleet.runtime.ledger.now_ms = fleet.now_ms + 120_000  # the lease of the frozen worker has ended
    end(fleet, run)
    (api.pause if connected else api.disconnect)(fleet.runtime, SOURCE)
    assert erase(fleet)
    assert stored(fleet) == []
    fleet.redis.delete("pagetrail:daily")


def all_is_swept(fleet: Fleet) -> bool:
    fleet.idle()
    while fleet.messages:
        fleet.step()
    return stored(fleet) == []


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize(
    ("method", "part"), [("put_new", "manifest.json"), ("put_new_file", "artifacts/incidents")]
)
def test_objects_of_a_sealer_that_was_frozen_during_a_purge_are_erased_too(
    fleet: Fleet, connected: bool, method: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker sealed the run in the meantime. The summary of the run doesn't come back either."""
    clock = [0.0]
    monkeypatch.setattr(sealing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    connect(fleet, every_seconds=None)
    opened = api.collect(fleet.runtime, SOURCE)
    while "tasks.seal.seal_run" not in [name for name, _ in fleet.messages]:
        fleet.step() if fleet.messages else fleet.idle()

    def frozen() -> None:
        with monkeypatch.context() as thawed:
            thawed.setattr(seal, "runtime", lambda: fleet.runtime)
            purge_meanwhile(fleet, opened.run, connected=connected)
        clock[0] += 120.0

    storage = Meanwhile(fleet.storage, method, part, frozen)
    monkeypatch.setattr(seal, "runtime", lambda: fleet.runtime.replaced(storage=storage))
    seal.seal_run(SOURCE, opened.run)
    [late] = stored(fleet)
    assert part in late
    assert fleet.runtime.ledger.lasts([SOURCE]) == [None]
    assert all_is_swept(fleet)
    looked_after = fleet.redis.zscore("pagetrail:daily", SOURCE) is not None
    assert looked_after is connected


def test_a_page_whose_answer_comes_after_a_purge_is_erased_too(fleet: Fleet) -> None:
    """This can happen without a frozen worker, because a request takes seconds and cancelling doesn't wait for it."""
    connect(fleet, every_seconds=None)
    opened = api.collect(fleet.runtime, SOURCE)

    def late(path: str, reply: Reply) -> Reply:
        del path
        fleet.pagerduty.answer = lambda _path, reply: reply
        api.cancel(fleet.runtime, SOURCE)
        purge_meanwhile(fleet, opened.run)
        return reply

    fleet.pagerduty.answer = late
    fleet.step()
    [page] = stored(fleet)
    assert f"{opened.run}/pages/" in page
    assert all_is_swept(fleet)


def test_nothing_is_erased_under_legal_hold_not_even_the_rest_of_a_purge(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet)
    api.pause(fleet.runtime, SOURCE)
    mortal = Mortal(fleet.storage)
    mortal.deletions_left = 3
    with pytest.raises(Died):
        erase(fleet, fleet.runtime.replaced(storage=mortal))
    left = stored(fleet)
    api.hold(fleet.runtime, SOURCE)
    purge.look_after(SOURCE)
    assert stored(fleet) == left
    api.release(fleet.runtime, SOURCE)
    purge.look_after(SOURCE)
    assert stored(fleet) == []


def test_a_hold_that_begins_while_evidence_is_deleted_ends_the_deletion(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the current batch is still deleted."""
    monkeypatch.setattr(erasing, "_BATCH", 2)
    connect(fleet, retention_months=24)
    collect_sealed(fleet)
    api.pause(fleet.runtime, SOURCE)
    before = stored(fleet)

    class Held(Mortal):
        """A storage in which a legal hold begins at the third deletion."""

        def delete(self, key: str) -> None:
            super().delete(key)
            if self.deletions_left == 10**9 - 3:
                api.hold(fleet.runtime, SOURCE)

    with pytest.raises(Busy):
        erase(fleet, fleet.runtime.replaced(storage=Held(fleet.storage)))
    left = stored(fleet)
    assert 0 < len(left) < len(before)
    purge.look_after(SOURCE)
    assert stored(fleet) == left
    api.release(fleet.runtime, SOURCE)
    purge.look_after(SOURCE)
    assert stored(fleet) == []


def test_whether_a_source_is_held_is_read_from_storage(fleet: Fleet) -> None:
    """A Redis that was restored from an older copy may say something else."""
    connect(fleet)
    held = api.hold(fleet.runtime, SOURCE)
    api.release(fleet.runtime, SOURCE)
    fleet.redis.hset("pagetrail:sources", SOURCE, held.to_json())
    api.hold(fleet.runtime, SOURCE)
    assert fleet.runtime.sources.fresh(SOURCE).held_since
    free = replace(held, held_since=None)
    fleet.redis.hset("pagetrail:sources", SOURCE, free.to_json())
    api.release(fleet.runtime, SOURCE)
    assert not fleet.runtime.sources.fresh(SOURCE).held_since


def test_a_look_at_the_moment_of_a_change_is_repeated(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "months_before", lambda _now, _months: LATER)
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    storage = Meanwhile(
        fleet.storage,
        "list",
        "/runs/",
        lambda: api.change(fleet.runtime, SOURCE, every_seconds=7200),
    )
    monkeypatch.setattr(purge, "runtime", lambda: fleet.runtime.replaced(storage=storage))
    purge.look_after(SOURCE)
    assert runs_of(fleet.storage, SOURCE) == list(RUNS[:2])
    at = fleet.redis.zscore("pagetrail:daily", SOURCE)
    seconds, _ = fleet.redis.time()
    assert at is not None
    assert at / 1000 - float(seconds) < 3600


def work(fleet: Fleet, *tasks: str) -> None:
    """Let the tick and the workers go on, but only do messages of these kinds; the others wait for their worker."""
    for _ in range(10):
        plan.tick()
        for _ in range(len(fleet.messages)):
            if fleet.messages[0][0] in tasks:
                fleet.step()
            else:
                fleet.messages.rotate(-1)


WORKERS = ("tasks.purge.look_after", "tasks.plan.recover", "tasks.plan.plan_run")
SIGNER = ("tasks.sign.sign_run", "tasks.sign.record_purge")


def waiting_purge(fleet: Fleet) -> list[str]:
    """Ask for a purge of two runs while the signer is away, and return what is stored."""
    connect(fleet)
    collect_sealed(fleet, 2)
    api.pause(fleet.runtime, SOURCE)
    before = stored(fleet)
    with pytest.raises(Busy, match="waits for the signer, so nothing is deleted yet"):
        api.purge(fleet.runtime, SOURCE, "tester", wait_seconds=0)
    assert stored(fleet) == before
    return before


@pytest.mark.parametrize("lost", ["nothing", "messages", "redis"])
def test_a_purge_waits_for_the_signer_and_goes_on_by_itself(fleet: Fleet, lost: str) -> None:
    """Nothing is deleted before, whatever is lost meanwhile. `status` says so, and an event."""
    before = waiting_purge(fleet)
    work(fleet, *WORKERS)
    if lost == "messages":
        fleet.messages.clear()
        fleet.redis.zadd("pagetrail:unsealed", {f"{SOURCE} ": 1}, xx=True)
    if lost == "redis":
        fleet.lose_redis()
        restoring.restore(fleet.runtime)
        work(fleet, *WORKERS)
    assert (stored(fleet), list(fleet.storage.list(".purged"))) == (before, [])
    [sight] = api.status(fleet.runtime).sights
    assert sight.source.purge
    assert sight.source.purge.through == RUNS[1]
    [asked] = [each for each in api.events(fleet.runtime) if each.kind == "purge.asked"]
    assert (asked.data["by"], asked.data["through"]) == ("tester", RUNS[1])
    work(fleet, *WORKERS, *SIGNER)
    assert (stored(fleet), unfinished(fleet)) == ([], [])
    assert fleet.runtime.sources.fresh(SOURCE).purge is None
    kinds = [each.kind for each in api.events(fleet.runtime) if each.kind != "run.sealed"]
    assert kinds[-2:] == ["purge.signed", "evidence.erased"]
    record = Purged(fleet.storage, SOURCE, fleet.runtime.public_keys.read()).last
    assert erase(fleet) == summary(record) if record else False


def test_a_hold_calls_off_a_purge_that_waits(fleet: Fleet) -> None:
    before = waiting_purge(fleet)
    assert api.hold(fleet.runtime, SOURCE).purge is None
    work(fleet, *WORKERS, *SIGNER)
    api.release(fleet.runtime, SOURCE)
    work(fleet, *WORKERS, *SIGNER)
    assert (stored(fleet), list(fleet.storage.list(".purged"))) == (before, [])


def test_a_hold_after_the_record_only_delays_the_deletion(fleet: Fleet) -> None:
    before = waiting_purge(fleet)
    sign.record_purge(SOURCE)
    assert api.hold(fleet.runtime, SOURCE).purge
    work(fleet, *WORKERS, *SIGNER)
    assert stored(fleet) == before
    assert runs_of(fleet.storage, SOURCE) == []
    api.release(fleet.runtime, SOURCE)
    work(fleet, *WORKERS, *SIGNER)
    assert stored(fleet) == []


def test_a_second_purge_and_the_daily_look_change_nothing_while_one_waits(fleet: Fleet) -> None:
    waiting_purge(fleet)
    wish = fleet.runtime.sources.fresh(SOURCE).purge
    api.change(fleet.runtime, SOURCE, retention_months=1)
    with pytest.raises(Busy, match="waits for the signer"):
        api.purge(fleet.runtime, SOURCE, "somebody else", wait_seconds=0)
    assert expire(fleet) is Progress.DONE
    [record] = Purged(fleet.storage, SOURCE).held.values()
    assert wish
    assert (record.by, record.through) == (wish.by, wish.through)


@pytest.mark.parametrize("signed", [False, True])
def test_a_purge_takes_the_place_of_a_retention_that_waits(fleet: Fleet, signed: bool) -> None:
    """If the signer has signed the retention before, the purge has a record of its own after it."""
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 3)
    source = fleet.runtime.sources.fresh(SOURCE)
    assert erasing.expire(fleet.runtime, source, LATER, 60) is Progress.WAITS
    if signed:
        sign.record_purge(SOURCE)
    api.pause(fleet.runtime, SOURCE)
    assert erase(fleet)
    records = Purged(fleet.storage, SOURCE).held
    found = [(each.why, each.runs[0].run, each.through) for each in records.values()]
    whole = [("purge", RUNS[0], RUNS[2])]
    assert found == (
        [("retention", RUNS[0], RUNS[1]), ("purge", RUNS[2], RUNS[2])] if signed else whole
    )
    assert (stored(fleet), unfinished(fleet)) == ([], [])


def test_a_record_that_another_key_signed_deletes_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its digests fit. Readers without keys take it for a record; the workers that delete do not."""
    before = waiting_purge(fleet)
    sign.sign_run(SOURCE, RUNS[1])
    fleet.runtime.seal_keys.tell(fleet.runtime.public_keys.read().to_json())
    digests = {run: file_digest(fleet, manifest_key(SOURCE, run)) for run in RUNS[:2]}
    key = record_key(SOURCE, RUNS[1])
    fleet.storage.put_new(key, text_of(erasure(SOURCE, 2, digests=digests)))
    work(fleet, *WORKERS)
    assert stored(fleet) == before
    with pytest.raises(StorageConflict, match="is in the way"):
        sign.record_purge(SOURCE)
    assert "is in the way" in api.status(fleet.runtime).sights[0].troubles["purge"]

    def work_meanwhile(_: float) -> None:
        with contextlib.suppress(StorageConflict):
            sign.record_purge(SOURCE)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=work_meanwhile)
    monkeypatch.setattr(erasing, "time", clock)
    with pytest.raises(PurgeRefused, match="is in the way"):
        api.purge(fleet.runtime, SOURCE, "tester", wait_seconds=60)
    [refused] = [each for each in api.events(fleet.runtime) if each.kind == "purge.refused"]
    assert "is in the way" in refused.data["reason"]
    keys = fleet.runtime.public_keys.read()
    report = api.verify(fleet.storage, SOURCE, keys=keys)
    assert [(each.key, each.kind) for each in report.differences] == [(key, "record")]
    assert report.runs == list(RUNS[:2])
    fleet.storage.delete(key)
    assert erase(fleet)
    assert dict(api.status(fleet.runtime).sights[0].troubles) == {}


def test_late_objects_wait_for_the_public_keys_if_redis_lost_them(fleet: Fleet) -> None:
    waiting_purge(fleet)
    sign.record_purge(SOURCE)
    assert erase(fleet)
    fleet.lose_redis()
    restoring.restore(fleet.runtime)
    late = f"{SOURCE}/runs/{RUNS[1]}/pages/teams/all.1/000000.json.zst"
    fleet.storage.put_new(late, b"late")
    fleet.runtime.daily.within(SOURCE, 0)
    work(fleet, *WORKERS)
    assert stored(fleet) == [late]
    work(fleet, *WORKERS, *SIGNER)
    assert stored(fleet) == []


def test_a_summary_is_deleted_with_the_last_run_by_retention(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet)
    api.disconnect(fleet.runtime, SOURCE)
    assert expire(fleet) is Progress.DONE
    assert fleet.runtime.ledger.lasts([SOURCE]) == [None]
