"""Notices that Redis lost something, by marks that are lost together with it."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from redis import Redis

from workers.state.faults import redis_faults

MARK = "."
"""A member of each key that all sources share, and the name of no source: it goes when the key goes."""
_HASHES = ("sources", "credentials", "last", "open")
_SORTED_SETS = ("due", "schedule", "daily")


class Marks:
    """Whether Redis still holds what was put back into it last. Safe to share between threads.

    Three things are marked, each against one way to lose something. A `marker` in Redis tells that it was not emptied.
    A member of each shared key tells that the key was not evicted. A script in the memory of the server process tells
    that the server was not restarted, and that no other one took over, either of which may have lost the last writes:
    scripts are neither stored nor replicated (Redis 7.0 and newer, Valkey). The run id of INFO would tell the same, but
    users without dangerous commands may not ask for it.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # its stubs don't know that these replies are no awaitables
        self._marker = f"{prefix}:marker"
        self._hashes = [f"{prefix}:{name}" for name in _HASHES]
        self._sorted_sets = [f"{prefix}:{name}" for name in _SORTED_SETS]

    def lost(self) -> str:
        """Return how it shows that something may be lost; "" if nothing is."""
        with redis_faults():
            token, lacking = self._look()
            if token is None:
                return "it was emptied"
            if lacking:
                return f"it evicted {', '.join(lacking)}"
            [loaded] = self._redis.script_exists(hashlib.sha1(_script(token.decode())).hexdigest())  # noqa: S324 - Redis's name of a script
        return "" if loaded else "it was restarted, or another server took over"

    def begin(self) -> str:
        """Mark what is about to be put back; return the token for `settle`. What is lost from now on is noticed."""
        token = secrets.token_hex(8)
        with redis_faults(), self._redis.pipeline() as pipe:
            pipe.script_load(_script(token))
            for key in self._hashes:
                pipe.hset(key, MARK, "")
            for key in self._sorted_sets:
                pipe.zadd(key, {MARK: "inf"})  # due at no time
            pipe.execute()
        return token

    def settle(self, token: str) -> bool:
        """Say that all was put back since `begin`; False if keys were evicted meanwhile, so that it is noticed."""
        with redis_faults():
            _, lacking = self._look()
            if not lacking:
                self._redis.set(self._marker, token)
        return not lacking

    def _look(self) -> tuple[bytes | None, list[str]]:
        """Return the marker, and the keys without their mark."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._marker)
            for key in self._hashes:
                pipe.hexists(key, MARK)
            for key in self._sorted_sets:
                pipe.zscore(key, MARK)
            token, *marks = pipe.execute()
        keys = [*self._hashes, *self._sorted_sets]
        return token, [key for key, mark in zip(keys, marks, strict=True) if not mark]


def _script(token: str) -> bytes:
    return f"return '{token}'".encode()
