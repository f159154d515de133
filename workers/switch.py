"""One switch for every request of the fleet: an object in storage, the truth, and a copy in Redis."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from redis import Redis

from workers.errors import redis_faults
from workers.recent import Recent
from workers.storage import Storage

PAUSED = ".fleet/paused.json"
"""Exists while all requests are paused."""
_REMEMBERED_SECONDS = 1.0


class Switch:
    """Whether requests may be sent at all. Safe to share between threads.

    Every process knows within a second. A Redis that was emptied is filled from storage before anything is sent.
    """

    def __init__(self, redis: Redis, storage: Storage, prefix: str) -> None:
        self._redis = redis
        self._storage = storage
        self._key = f"{prefix}:paused"
        self._recent = Recent(self._look, _REMEMBERED_SECONDS)

    def paused(self) -> bool:
        """Return whether all requests are paused; an answer is remembered for a second."""
        return self._recent.get(self._key)

    def pause(self) -> None:
        """Let no process send a request until `resume`; those under way end by themselves. Repeatable."""
        self._storage.put_new(PAUSED, orjson.dumps({"format": 1, "at": datetime.now(UTC)}))
        self.restore()

    def resume(self) -> None:
        """Let requests be sent again. Repeatable."""
        self._storage.delete(PAUSED)
        self.restore()

    def restore(self) -> bool:
        """Copy the truth into Redis and return it."""
        paused = self._storage.get(PAUSED) is not None
        with redis_faults():
            self._redis.set(self._key, int(paused))
        self._recent.forget()
        return paused

    def _look(self, key: str) -> bool:
        with redis_faults():
            known = self._redis.get(key)
        return self.restore() if known is None else known == b"1"
