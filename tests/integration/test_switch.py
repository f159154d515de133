"""The switch for all requests, in a real Redis and a real storage directory."""

from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from redis import Redis

from tests.interleaving import Actor, every, interleave, some
from workers.errors import RedisUnreachable, StorageUnreachable
from workers.state import switch
from workers.state.client import impatient
from workers.state.switch import PAUSED, Switch
from workers.storage import Storage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage((tmp_path / "artifacts").as_uri())


@pytest.fixture
def other(redis: Redis, storage: Storage, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Switch:
    """The switch in another process, which remembers nothing."""
    monkeypatch.setattr(switch, "_REMEMBERED_SECONDS", 0.0)
    return Switch(redis, storage, prefix)


def test_every_process_sees_a_change_of_the_switch(
    redis: Redis, storage: Storage, prefix: str, other: Switch
) -> None:
    mine = Switch(redis, storage, prefix)
    for _ in range(2):
        mine.pause()
        assert (mine.paused(), other.paused()) == (True, True)
    for _ in range(2):
        mine.resume()
        assert (mine.paused(), other.paused()) == (False, False)


def test_an_emptied_redis_lets_nothing_through(redis: Redis, other: Switch) -> None:
    other.pause()
    redis.flushall()
    assert other.paused()
    assert other.paused()


def test_a_redis_set_back_is_corrected(redis: Redis, other: Switch) -> None:
    other.pause()
    for key in redis.scan_iter():
        redis.set(key, 0, keepttl=True)
    assert not other.paused()
    assert other.restore()
    assert other.paused()


def test_a_redis_that_is_gone_is_one_sentence(storage: Storage, prefix: str) -> None:
    nowhere = impatient("redis://127.0.0.1:1", 1.0)
    with pytest.raises(RedisUnreachable):
        Switch(nowhere, storage, prefix).paused()


ACTS = {"pause": Switch.pause, "resume": Switch.resume, "restore": Switch.restore}
PAIRS = list(combinations_with_replacement(sorted(ACTS), 2))


class Scene:
    """A switch that is on or off, and processes that change or restore it at the same time."""

    def __init__(self, redis: Redis, prefix: str, *acts: str, paused: bool) -> None:
        self.redis, self.prefix, self.acts = redis, prefix, acts
        self.storage = open_storage("memory://")
        self.mine = Switch(redis, self.storage, prefix)
        self.key = f"{prefix}:paused"
        (self.mine.pause if paused else self.mine.resume)()
        self.actors = [self._actor(act) for act in acts]

    def _actor(self, act: str) -> Actor:
        return Actor(
            lambda storage: ACTS[act](Switch(self.redis, storage, self.prefix)), self.storage
        )

    @property
    def truth(self) -> bool:
        return self.storage.get(PAUSED) is not None

    @property
    def copy(self) -> bool:
        return self.redis.get(self.key) == b"1"

    def nobody_undoes_a_pause(self) -> None:
        """Check that a pause holds for every process after its command has returned, unless somebody resumes."""
        for act, actor in zip(self.acts, self.actors, strict=True):
            if act == "pause" and actor.ended and not actor.died and "resume" not in self.acts:
                assert self.copy


@pytest.mark.parametrize(
    "acts", [*PAIRS, tuple(ACTS), ("pause", "restore", "restore")], ids="+".join
)
@pytest.mark.parametrize("paused", [True, False], ids=["paused", "open"])
def test_after_any_order_of_steps_the_copy_equals_the_truth(
    redis: Redis, prefix: str, acts: tuple[str, ...], paused: bool
) -> None:
    """A worker that read storage before `pause --all` and writes Redis after it must not undo the pause."""
    orders = 0
    for choices in every() if len(acts) == 2 else some(60):
        scene = Scene(redis, prefix, *acts, paused=paused)
        interleave(choices, scene.actors, scene.nobody_undoes_a_pause)
        assert scene.copy is scene.truth, choices.taken
        orders += 1
    assert orders >= 6


@pytest.mark.parametrize("acts", PAIRS, ids="+".join)
def test_if_a_process_dies_between_two_steps_the_copy_is_corrected(
    redis: Redis, prefix: str, acts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process that finds an old copy compares it with storage, and from then on all agree."""
    monkeypatch.setattr(switch, "_REMEMBERED_SECONDS", 0.0)
    differed = deaths = 0
    for choices in every():
        scene = Scene(redis, prefix, *acts, paused=False)
        interleave(choices, scene.actors, scene.nobody_undoes_a_pause, deaths=1)
        deaths += any(actor.died for actor in scene.actors)
        differed += scene.copy is not scene.truth
        redis.pexpire(scene.key, switch._COPY_MS - switch._FRESH_MS - 1)
        assert scene.mine.paused() is scene.truth, choices.taken
        assert scene.copy is scene.truth
    assert deaths
    if acts == ("pause", "restore"):
        assert differed, "a pause died between its two writes"


def test_while_storage_is_down_the_old_copy_holds(
    redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage isn't asked before each request. Without a copy, nothing is sent."""
    monkeypatch.setattr(switch, "_REMEMBERED_SECONDS", 0.0)
    storage, asked = open_storage("memory://"), []
    Switch(redis, storage, prefix).pause()
    key = f"{prefix}:paused"
    redis.persist(key)  # old

    def away(name: str) -> bytes | None:
        asked.append(name)
        raise StorageUnreachable("It is away.")

    monkeypatch.setattr(storage, "get", away)
    mine = Switch(redis, storage, prefix)
    assert [mine.paused() for _ in range(3)] == [True] * 3
    assert asked == [PAUSED]
    assert mine.known()
    redis.delete(key)
    with pytest.raises(StorageUnreachable):
        mine.paused()
