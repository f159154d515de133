"""Every run that ends is sealed in the end, also if a message, Redis or the signer is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tasks import api, plan, sign
from tasks.evidence.layout import artifact_key, seal_key
from tasks.evidence.manifests import read_manifest
from tasks.evidence.seals import read_seal
from tasks.evidence.signatures import check_signature
from tasks.runs import restoring
from tasks.watching.scrape import Vitals
from tests.integration.steps import RUN, SOURCE, Died, Fleet
from tests.integration.test_purge import collect, connect
from workers.errors import RunUnsealed, SealRefused
from workers.state.unsealed import Unsealed

SECOND = "00000002"


@pytest.fixture
def fleet(make: Callable[[Path], Fleet], tmp_path: Path) -> Fleet:
    return make(tmp_path)


@pytest.fixture
def waiting(redis: Redis, prefix: str) -> Unsealed:
    return Unsealed(redis, prefix)


def test_a_run_waits_until_it_is_settled(waiting: Unsealed, redis: Redis, prefix: str) -> None:
    """The signer is told at once, and again after a while."""
    waiting.add(SOURCE, RUN)
    waiting.add(SOURCE, SECOND)
    waiting.add("acme/other", RUN)
    assert waiting.all() == {SOURCE: (RUN, SECOND), "acme/other": (RUN,)}
    assert set(waiting.take(10)) == {(SOURCE, RUN), (SOURCE, SECOND), ("acme/other", RUN)}
    assert waiting.take(10) == []
    redis.zadd(f"{prefix}:unsealed", {f"{SOURCE} {RUN}": 1})
    assert waiting.take(10) == [(SOURCE, RUN)]
    waiting.settle(SOURCE, RUN, SECOND)
    waiting.settle(SOURCE)
    waiting.later(SOURCE, RUN, 0)
    assert waiting.all() == {"acme/other": (RUN,)}


def test_a_signer_that_is_away_gets_a_handful_of_messages(
    waiting: Unsealed, redis: Redis, prefix: str
) -> None:
    """The other runs stay in the set until it is back."""
    for number in range(300):
        waiting.add("acme/main", f"{number:08d}")
    sent = 0
    for _ in range(50):
        taken = waiting.take(20)
        sent += len(taken)
        if taken:
            redis.rpush(f"{prefix}:sign", *(run for _, run in taken))
    assert 100 <= sent < 120
    redis.delete(f"{prefix}:sign")
    assert len(waiting.take(20)) == 20


def settle(fleet: Fleet) -> None:
    """Let the tick and the workers go on until no run waits for its seal."""
    for _ in range(50):
        if not fleet.runtime.unsealed.all():
            return
        if fleet.messages:
            fleet.step()
        else:
            plan.tick()
    raise AssertionError("a run has no seal")


def is_sealed(fleet: Fleet, run: str) -> bool:
    """Whether a valid seal of the run is stored."""
    text = fleet.runtime.storage.get(seal_key(SOURCE, run))
    if text is None:
        return False
    check_signature(read_seal(text, SOURCE, run), fleet.runtime.public_keys.read())
    return True


def test_the_tick_lets_a_run_be_sealed(fleet: Fleet) -> None:
    """The run is unsealed in `status` and `run list` until then."""
    connect(fleet)
    collect(fleet)
    [sight] = api.status(fleet.runtime).sights
    assert sight.unsealed == (RUN,)
    assert api.run(fleet.runtime, SOURCE, RUN).seal is None
    settle(fleet)
    assert is_sealed(fleet, RUN)
    [sight] = api.status(fleet.runtime).sights
    assert (sight.unsealed, dict(sight.troubles)) == ((), {})
    [told] = [each for each in fleet.runtime.events.read() if each.kind == "run.sealed"]
    assert told.data["sha256"] == api.run(fleet.runtime, SOURCE, RUN).seal
    assert api.verify(fleet.runtime.storage, SOURCE).ok


def test_a_run_without_a_seal_is_counted_until_it_has_one(fleet: Fleet) -> None:
    """The time counts from its end, also after Redis was emptied."""
    connect(fleet)
    collect(fleet)
    fleet.lose_redis()
    restoring.restore(fleet.runtime)
    [(member, since)] = fleet.redis.zrange("pagetrail:unsealed_since", 0, -1, withscores=True)
    manifest = read_manifest(fleet.runtime.storage, SOURCE, RUN)
    assert manifest
    assert (member.decode(), since) == (f"{SOURCE} {RUN}", manifest.sealed_at.timestamp())
    vitals = Vitals(fleet.redis, fleet.runtime.settings).read()
    assert vitals["runs_unsealed"] == {(): 1}
    assert vitals["unsealed_oldest_seconds"][()] >= 0
    settle(fleet)
    vitals = Vitals(fleet.redis, fleet.runtime.settings).read()
    assert vitals["runs_unsealed"] == vitals["unsealed_oldest_seconds"] == {(): 0}


def lose_the_message(fleet: Fleet) -> None:
    plan.tick()
    fleet.messages.clear()
    fleet.redis.zadd("pagetrail:unsealed", {f"{SOURCE} {RUN}": 1}, xx=True)


def lose_redis(fleet: Fleet) -> None:
    fleet.lose_redis()
    restoring.restore(fleet.runtime)


def lose_the_set(fleet: Fleet) -> None:
    """A Redis that may evict keys took this one. The tick notices that its mark is missing."""
    restoring.restore(fleet.runtime)
    fleet.redis.delete("pagetrail:unsealed")
    assert "unsealed" in fleet.runtime.marks.lost()
    restoring.restore(fleet.runtime)


def lose_the_signer(fleet: Fleet) -> None:
    """It dies after the seal is stored. Its lock would last a minute."""

    def die(key: str) -> None:
        if key.endswith("seal.dsse.json"):
            raise Died(key)

    fleet.storage.stored = die
    with pytest.raises(Died):
        sign.sign_run(SOURCE, RUN)
    fleet.storage.stored = lambda _: None


@pytest.mark.parametrize("lose", [lose_the_message, lose_redis, lose_the_set, lose_the_signer])
def test_whatever_is_lost_the_run_is_sealed(fleet: Fleet, lose: Callable[[Fleet], None]) -> None:
    connect(fleet)
    collect(fleet)
    lose(fleet)
    settle(fleet)
    assert is_sealed(fleet, RUN)
    [told] = {
        each.data["sha256"] for each in fleet.runtime.events.read() if each.kind == "run.sealed"
    }
    assert told == api.run(fleet.runtime, SOURCE, RUN).seal


def test_a_sealed_run_does_not_wait_again_when_redis_is_lost(fleet: Fleet) -> None:
    connect(fleet)
    collect(fleet)
    settle(fleet)
    lose_redis(fleet)
    assert fleet.runtime.unsealed.all() == {}


def test_only_one_signer_works_on_a_source(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second message about it does nothing. The run still waits, so the tick sends another one."""
    connect(fleet)
    collect(fleet)
    calls = []

    def signing(_: Any, source: str, beat: Callable[[], None]) -> Any:
        calls.append(source)
        beat()
        sign.sign_run(SOURCE, RUN)
        raise Died(source)

    monkeypatch.setattr(sign, "sign", signing)
    with pytest.raises(Died):
        sign.sign_run(SOURCE, RUN)
    assert calls == [SOURCE]
    assert fleet.runtime.unsealed.all() == {SOURCE: (RUN,)}


def test_a_run_that_does_not_verify_is_a_trouble_until_the_next_seal(fleet: Fleet) -> None:
    """`status` says why it has no seal, and the next seal names it."""
    connect(fleet)
    collect(fleet)
    key = artifact_key(SOURCE, RUN, "teams", 0)
    fleet.runtime.storage.delete(key)
    with pytest.raises(RunUnsealed, match="the artifact is gone"):
        sign.sign_run(SOURCE, RUN)
    [sight] = api.status(fleet.runtime).sights
    assert key in sight.troubles["seal"]
    assert sight.unsealed == (RUN,)
    fleet.messages.clear()
    plan.tick()
    assert ("tasks.sign.sign_run", (SOURCE, RUN)) not in fleet.messages, "it is tried in an hour"
    collect(fleet)
    settle(fleet)
    assert not is_sealed(fleet, RUN)
    assert is_sealed(fleet, SECOND)
    assert dict(api.status(fleet.runtime).sights[0].troubles) == {}


def test_a_changed_history_is_a_trouble(fleet: Fleet) -> None:
    connect(fleet)
    collect(fleet)
    settle(fleet)
    collect(fleet)
    fleet.runtime.storage.delete(seal_key(SOURCE, RUN))
    with pytest.raises(SealRefused, match="isn't the newest seal"):
        sign.sign_run(SOURCE, SECOND)
    [sight] = api.status(fleet.runtime).sights
    assert "isn't the newest seal" in sight.troubles["seal"]
    [told] = [each for each in fleet.runtime.events.read() if each.kind == "seal.refused"]
    assert told.run == SECOND
    assert not is_sealed(fleet, SECOND)


def test_a_key_is_made_where_the_signer_works(fleet: Fleet) -> None:
    """Workers that don't sign make no key."""
    connect(fleet)
    collect(fleet)
    directory = fleet.runtime.settings.data_dir
    assert not (directory / "signer.key").exists()
    fleet.runtime.check_signer()
    assert (directory / "signer.key").exists()
    assert fleet.runtime.public_keys.read().keys
