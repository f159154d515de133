"""If the fleet needs a person's help for a source, `status` says so, in the words of a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tasks import api, plan, purge, seal
from tasks.evidence.layout import manifest_key, plan_key
from tasks.evidence.manifests import read_plan
from tasks.runs import restoring, sealing
from tasks.watching.concerns import Concern
from tests.integration.steps import RUN, SOURCE, Fleet
from tests.integration.test_purge import collect, collect_sealed, connect, end, erase
from workers.errors import Busy, Fault, RedisUnreachable, StorageConflict, StorageUnreachable
from workers.state.troubles import Troubles

NEXT = "00000002"


@pytest.fixture
def fleet(make: Callable[[Path], Fleet], tmp_path: Path) -> Fleet:
    return make(tmp_path / "data")


def troubles(fleet: Fleet) -> dict[str, str]:
    """Return the troubles that `status` shows for the source, which then needs a person."""
    [sight] = api.status(fleet.runtime).sights
    assert (Concern.TROUBLE in sight.needs) is bool(sight.troubles)
    return dict(sight.troubles)


def due(fleet: Fleet) -> None:
    """Make the next run due, and let the worker do everything that follows."""
    fleet.runtime.ledger.schedule(SOURCE, fleet.now_ms)
    fleet.idle()
    while fleet.messages:
        fleet.step()


@pytest.mark.parametrize("lost", [False, True])
def test_a_due_run_that_can_not_open_says_why_until_it_is_repaired(
    fleet: Fleet, lost: bool
) -> None:
    connect(fleet)
    collect(fleet)
    page = f"{SOURCE}/runs/{NEXT}/pages/teams/all.1/000000.json.zst"
    fleet.storage.put_new(page, b"")
    with pytest.raises(StorageConflict, match=r"plan\.json is missing") as said:
        api.collect(fleet.runtime, SOURCE)
    assert troubles(fleet) == {"run": str(said.value)}
    fleet.lose_redis()
    restoring.restore(fleet.runtime)
    if not lost:
        fleet.redis.delete("pagetrail:troubles")
        fleet.runtime.ledger.schedule(SOURCE, fleet.now_ms)
        with pytest.raises(StorageConflict):
            plan.plan_run(SOURCE)
    assert troubles(fleet) == {"run": str(said.value)}
    fleet.storage.delete(page)
    due(fleet)
    assert troubles(fleet) == {}
    assert read_plan(fleet.storage, SOURCE, NEXT), "it was opened by itself"


def test_a_run_that_lost_its_plan_and_can_not_be_sealed_says_why(fleet: Fleet) -> None:
    connect(fleet)
    opened = api.collect(fleet.runtime, SOURCE).run
    api.cancel(fleet.runtime, SOURCE)
    text = fleet.storage.get(plan_key(SOURCE, opened))
    assert text
    fleet.storage.delete(plan_key(SOURCE, opened))
    with pytest.raises(StorageConflict):
        seal.seal_run(SOURCE, opened)
    assert "plan.json is missing" in troubles(fleet)["run"]
    fleet.storage.put_new(plan_key(SOURCE, opened), text)
    fleet.runtime.ledger.now_ms = fleet.now_ms + 60_000
    end(fleet, opened)
    assert troubles(fleet) == {}


def test_a_newest_manifest_that_was_changed_is_named_until_it_is_repaired(fleet: Fleet) -> None:
    """No run continues from a manifest with a wrong digest, and `status` says what to do."""
    connect(fleet)
    restoring.restore(fleet.runtime)
    collect(fleet)
    key = manifest_key(SOURCE, RUN)
    whole = fleet.storage.get(key) or b""
    fleet.storage.delete(key)
    fleet.storage.put_new(key, whole.replace(b'"complete"', b'"partial"'))
    fleet.runtime.ledger.schedule(SOURCE, fleet.now_ms)
    with pytest.raises(StorageConflict, match=rf"{key} is damaged .*`pagetrail verify {SOURCE}`"):
        plan.plan_run(SOURCE)
    assert "is damaged (SHA256SUMS lists another one)" in troubles(fleet)["run"]
    [listed] = api.runs(fleet.runtime, SOURCE)
    assert (listed.run, listed.state, listed.resources) == (RUN, "damaged", {})
    with pytest.raises(StorageConflict, match="is damaged"):
        api.run(fleet.runtime, SOURCE)
    fleet.storage.delete(key)
    fleet.storage.put_new(key, whole)
    due(fleet)
    assert troubles(fleet) == {}
    assert read_plan(fleet.storage, SOURCE, NEXT)


class Refusing:
    """A storage that says that every plan exists, and lists none."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put_new(self, key: str, data: bytes) -> bool:
        if not key.endswith("plan.json"):
            return bool(self._storage.put_new(key, data))
        self.refused += 1
        assert self.refused < 100, "it never ends"
        return False


def test_a_store_that_refuses_a_plan_it_does_not_have_holds_no_opener_forever(
    fleet: Fleet,
) -> None:
    connect(fleet)
    restoring.restore(fleet.runtime)
    storage: Any = Refusing(fleet.storage)
    with pytest.raises(StorageConflict, match=rf"{RUN}/plan\.json is taken, but the list of runs"):
        api.collect(fleet.runtime.replaced(storage=storage), SOURCE)
    assert storage.refused == 10
    assert "is taken" in troubles(fleet)["run"]
    due(fleet)
    assert troubles(fleet) == {}
    assert read_plan(fleet.storage, SOURCE, RUN)


@pytest.mark.parametrize("remedy", ["mend", "purge"])
def test_a_manifest_that_stops_retention_is_named(fleet: Fleet, remedy: str) -> None:
    connect(fleet, retention_months=24)
    collect_sealed(fleet, 2)
    key = manifest_key(SOURCE, RUN)
    whole = fleet.storage.get(key)
    assert whole
    fleet.storage.delete(key)
    fleet.storage.put_new(key, whole[:-1])
    with pytest.raises(StorageConflict, match=r"manifest\.json is damaged"):
        purge.look_after(SOURCE)
    assert troubles(fleet).keys() == {"retention"}
    if remedy == "purge":
        api.pause(fleet.runtime, SOURCE)
        assert erase(fleet)
    else:
        fleet.storage.delete(key)
        fleet.storage.put_new(key, whole)
        purge.look_after(SOURCE)
    assert troubles(fleet) == {}


def test_a_redis_that_is_lost_while_it_is_filled_is_filled_again(fleet: Fleet) -> None:
    """A source may be missing, so the mark that nothing is missing must not be set."""
    connect(fleet)
    collect(fleet)
    fleet.lose_redis()

    class Away:
        def begin(self, _source: str) -> None:
            raise RedisUnreachable("It is away.")

    daily: Any = Away()
    with pytest.raises(RedisUnreachable):
        restoring.restore(fleet.runtime.replaced(daily=daily))
    assert not fleet.redis.exists("pagetrail:marker")
    assert troubles(fleet) == {}


@pytest.mark.parametrize(
    ("raised", "kept"),
    [
        (Fault("It is so."), "It is so."),
        (OSError(28, "No room", "x"), "OSError: [Errno 28] No room: 'x'"),
        (OSError("redis://:hunter2@host"), "OSError: redis://:[redacted]@host"),
        (OSError("x" * 9_999), f"OSError: {'x' * 491}"),
        (ValueError("a record"), "ValueError: the log of the worker says where it happened"),
        (Busy("Later."), None),
        (RedisUnreachable("It is away."), None),
        (StorageUnreachable("It is away."), None),
    ],
)
def test_only_troubles_that_need_a_person_are_kept(
    redis: Redis, prefix: str, raised: Exception, kept: str | None
) -> None:
    found = Troubles(redis, prefix)
    with pytest.raises(type(raised)), found.noted(SOURCE, "run"):
        raise raised
    assert found.all() == ({SOURCE: {"run": kept}} if kept else {})
    with found.noted(SOURCE, "retention"):
        pass
    assert bool(found.all()) is bool(kept), "other work ends no trouble"
    with found.noted(SOURCE, "run"):
        pass
    assert found.all() == {}


def test_a_sealer_that_lost_its_lease_does_not_end_a_trouble(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sealer may fail again. Only a manifest ends the trouble, not joining the run or restoring it."""
    connect(fleet)
    opened = api.collect(fleet.runtime, SOURCE).run
    with pytest.raises(Fault), fleet.runtime.troubles.noted(SOURCE, "run"):
        raise Fault("It can't be sealed.")
    kept = {"run": "It can't be sealed."}

    def lose(*_: Any) -> None:
        raise sealing.LostLease

    with monkeypatch.context() as patch:
        patch.setattr(seal, "seal", lose)
        patch.setattr(fleet.runtime.ledger, "seal", lambda *_: True)
        seal.seal_run(SOURCE, opened)
    assert troubles(fleet) == kept
    assert api.collect(fleet.runtime, SOURCE).joined
    assert troubles(fleet) == kept
    restoring.restore(fleet.runtime)
    assert troubles(fleet) == kept
    end(fleet, opened)
    assert troubles(fleet) == {}


def test_a_look_that_waits_for_an_open_run_does_not_end_a_trouble(fleet: Fleet) -> None:
    connect(fleet, retention_months=24)
    api.collect(fleet.runtime, SOURCE)
    with pytest.raises(Fault), fleet.runtime.troubles.noted(SOURCE, "retention"):
        raise Fault("It can't be erased.")
    purge.look_after(SOURCE)
    assert troubles(fleet) == {"retention": "It can't be erased."}
