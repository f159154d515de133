"""If a real Redis loses something, that is noticed without INFO, whatever the marker says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.redis_process import redis_server
from workers.errors import RedisRefuses
from workers.state.client import connect, warning
from workers.state.marks import Marks

SHARED = ("sources", "credentials", "last", "open", "due", "schedule", "daily")


@pytest.fixture
def marks(redis: Redis, prefix: str) -> Marks:
    """The marks of a fleet whose Redis is filled."""
    found = Marks(redis, prefix)
    assert found.lost() == "it was emptied"
    assert found.settle(found.begin())
    assert found.lost() == ""
    return found


@pytest.mark.parametrize("name", SHARED)
def test_a_lost_key_is_noticed_even_if_it_was_created_again(
    marks: Marks, redis: Redis, prefix: str, name: str
) -> None:
    key = f"{prefix}:{name}"
    kind = redis.type(key)
    redis.delete(key)
    assert key in marks.lost()
    if kind == b"hash":
        redis.hset(key, "acme/main", "{}")
    else:
        redis.zadd(key, {"acme/main": 1})
    assert key in marks.lost()
    assert marks.settle(marks.begin())
    assert marks.lost() == ""


def test_a_key_that_is_lost_while_redis_is_filled_is_noticed(
    marks: Marks, redis: Redis, prefix: str
) -> None:
    redis.delete(f"{prefix}:marker")
    token = marks.begin()
    redis.delete(f"{prefix}:sources")
    redis.hset(f"{prefix}:sources", "acme/main", "{}")
    assert not marks.settle(token)
    assert marks.lost()


@pytest.mark.parametrize("lose", [Redis.flushall, lambda redis: redis.script_flush()])
def test_an_emptied_redis_is_noticed(
    marks: Marks, redis: Redis, lose: Callable[[Redis], object]
) -> None:
    lose(redis)
    assert marks.lost()


def test_a_restart_with_all_its_data_is_noticed(tmp_path: Path, prefix: str) -> None:
    """The last second of writes may be missing, and nothing in the data shows it."""
    for _ in range(2):
        with redis_server(data_dir=tmp_path) as url, connect(url) as client:
            marks = Marks(client, prefix)
            assert marks.lost()
            assert marks.settle(marks.begin())
            assert marks.lost() == ""
            assert client.get(f"{prefix}:marker")
    with redis_server(data_dir=tmp_path) as url, connect(url) as client:
        assert client.get(f"{prefix}:marker"), "the data is there"
        assert "another server" in Marks(client, prefix).lost()


def test_a_replica_that_took_over_is_noticed(tmp_path: Path, prefix: str) -> None:
    """It has all the data, but not the scripts."""
    with (
        redis_server() as first,
        redis_server() as second,
        connect(first) as primary,
        connect(second) as replica,
    ):
        marks = Marks(primary, prefix)
        marks.settle(marks.begin())
        replica.replicaof("127.0.0.1", str(primary.connection_pool.connection_kwargs["port"]))
        while not replica.get(f"{prefix}:marker"):
            pass
        replica.replicaof("NO", "ONE")
        assert "another server" in Marks(replica, prefix).lost()


def test_a_user_without_dangerous_commands_notices_as_much(
    redis: Redis, redis_url: str, prefix: str
) -> None:
    redis.execute_command(
        "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-@dangerous"
    )
    with connect(redis_url.replace("redis://", "redis://app:secret@")) as client:
        with pytest.raises(RedisRefuses, match="forbids its user the 'info' command"):
            client.info()
        marks = Marks(client, prefix)
        assert marks.settle(marks.begin())
        assert marks.lost() == ""
        redis.delete(f"{prefix}:due")
        assert marks.lost()
        assert warning(client) == ""


@pytest.fixture
def small() -> Iterator[Redis]:
    """A server that may evict any key, as some managed ones do by default."""
    options = {"maxmemory": "3mb", "maxmemory-policy": "allkeys-lru"}
    with redis_server(options=options) as url, Redis.from_url(url) as client:
        yield client


def test_a_policy_that_evicts_is_named(small: Redis) -> None:
    assert "allkeys-lru" in warning(small)
    small.config_set("maxmemory-policy", "noeviction")
    assert warning(small) == ""
    small.config_set("maxmemory-policy", "volatile-lru")
    assert warning(small) == "", "keys with an expiry may go"


def test_keys_that_a_full_server_evicts_are_noticed(small: Redis, prefix: str) -> None:
    """Other programs' keys push out those of the fleet. The marker may stay."""
    marks = Marks(small, prefix)
    token = marks.begin()
    assert marks.settle(token)
    for number in range(20_000):
        small.set(f"other:{number}", "x" * 500)
    assert int(small.info("stats")["evicted_keys"]) > 0
    assert small.exists(*(f"{prefix}:{name}" for name in SHARED)) < len(SHARED)
    small.set(f"{prefix}:marker", token)
    assert "it evicted" in marks.lost()
