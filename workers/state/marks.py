"""Notices that Redis lost something, by marks that are lost together with it."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from redis import Redis

MARK = "."
"""A member of each key that all sources share. If the key is lost, so is this member. No source has this name."""
_HASHES = ("sources", "credentials", "last", "open")
_SORTED_SETS = ("due", "schedule", "daily", "unsealed")


class Marks:
    """Tells whether Redis may have lost something since it was last filled. Safe to share between threads.

    Three marks show three ways to lose something. A `marker` key shows that Redis was not emptied. A member of each
    shared key shows that the key was not evicted. A script in the memory of the server shows that it was not restarted
    and that no other server took over, since scripts are neither stored nor replicated (Redis 7.0 and newer, Valkey).
    A restart or a new server could lose the last writes. INFO's run id would show the same, but only to users who may
    run dangerous commands.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._marker = f"{prefix}:marker"
        self._hashes = [f"{prefix}:{name}" for name in _HASHES]
        self._sorted_sets = [f"{prefix}:{name}" for name in _SORTED_SETS]

    def lost(self) -> str:
        """Return in a few words why something may be lost; "" if all marks are there."""
        token, lacking = self._look()
        if token is None:
            return "it was emptied"
        if lacking:
            return f"it evicted {', '.join(lacking)}"
        [loaded] = self._redis.script_exists(hashlib.sha1(_script(token.decode())).hexdigest())  # noqa: S324 - Redis names scripts by SHA-1
        return "" if loaded else "it was restarted, or another server took over"

    def begin(self) -> str:
        """Set the marks before Redis is filled, and return the token for `settle`. Later losses are noticed."""
        token = secrets.token_hex(8)
        with self._redis.pipeline() as pipe:
            pipe.script_load(_script(token))
            for key in self._hashes:
                pipe.hset(key, MARK, "")
            for key in self._sorted_sets:
                pipe.zadd(key, {MARK: "inf"})  # never due
            pipe.execute()
        return token

    def settle(self, token: str) -> bool:
        """Say that Redis was filled since `begin`; False if keys were evicted meanwhile, and `lost` will say so."""
        _, lacking = self._look()
        if not lacking:
            self._redis.set(self._marker, token)
        return not lacking

    def _look(self) -> tuple[bytes | None, list[str]]:
        """Return the marker, and the keys that lack their mark."""
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
