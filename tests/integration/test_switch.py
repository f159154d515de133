"""The switch for all requests, in a real Redis and a real storage directory."""

from pathlib import Path

import pytest
from redis import Redis

from workers import switch
from workers.errors import RedisUnreachable
from workers.storage import Storage, open_storage
from workers.switch import Switch


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage((tmp_path / "artifacts").as_uri())


@pytest.fixture
def other(redis: Redis, storage: Storage, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Switch:
    """The switch as another process sees it, which remembers nothing."""
    monkeypatch.setattr(switch, "_REMEMBERED_SECONDS", 0.0)
    return Switch(redis, storage, prefix)


def test_what_one_process_switches_every_other_sees(
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


def test_a_redis_set_back_is_put_right(redis: Redis, other: Switch) -> None:
    other.pause()
    for key in redis.scan_iter():
        redis.set(key, 0)
    assert not other.paused()
    assert other.restore()
    assert other.paused()


def test_a_redis_that_is_gone_is_one_sentence(storage: Storage, prefix: str) -> None:
    nowhere = Redis.from_url("redis://127.0.0.1:1", retry=None)
    with pytest.raises(RedisUnreachable):
        Switch(nowhere, storage, prefix).paused()
