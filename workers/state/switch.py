"""The switch that pauses every request of the fleet: an object in storage, which is the truth, and a copy in Redis."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import orjson
from redis import Redis, WatchError

from workers.errors import StorageUnreachable
from workers.state.recent import Recent
from workers.storage import Storage

PAUSED = ".fleet/paused.json"
"""Exists while all requests are paused."""
_REMEMBERED_SECONDS = 1.0
_FRESH_MS = 10_000
"""Age at which the copy is compared with storage again: a process may have died after writing only one of them."""
_COPY_MS = 86_400_000
"""Lifetime of a copy after it was last compared with storage."""


class Switch:
    """Whether requests may be sent at all. Safe to share between threads and processes.

    A change reaches every process within a second. If Redis was emptied, the copy is written from storage before
    anything is sent.

    A process reads storage and then writes the copy, but only if no other process wrote the copy in the meantime. So a
    delayed process can't undo a later change. If a process dies between writing storage and writing the copy, the next
    process that finds the copy ten seconds old corrects it.
    """

    def __init__(self, redis: Redis, storage: Storage, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._storage = storage
        self._key = f"{prefix}:paused"
        self._recent = Recent(self._look, _REMEMBERED_SECONDS)
        self._blind_until = 0.0  # storage was away a moment ago: the copy is trusted until then

    def paused(self) -> bool:
        """Return whether all requests are paused; an answer is remembered for a second."""
        return self._recent.get(self._key)

    def pause(self) -> None:
        """Stop all requests until `resume`; requests that were already sent may finish. Repeatable."""
        self._storage.put_new(PAUSED, orjson.dumps({"format": 1, "at": datetime.now(UTC)}))
        self.restore()

    def resume(self) -> None:
        """Allow requests again. Repeatable."""
        self._storage.delete(PAUSED)
        self.restore()

    def restore(self) -> bool:
        """Copy the truth into Redis and return it."""
        while True:
            with suppress(WatchError):  # another process wrote the copy: read storage again
                paused = self._copied()
                self._recent.forget()
                return paused

    def known(self) -> bool:
        """Return the copy, however old it is; reads storage only if there isn't one."""
        paused, _ = self._read()
        return self.restore() if paused is None else paused

    def _look(self, _key: str) -> bool:
        while True:
            paused, fresh = self._read()
            if paused is not None and (fresh or monotonic() < self._blind_until):
                return paused
            try:
                return self._copied()
            except WatchError:
                continue  # another process was first: read the copy it wrote
            except StorageUnreachable:
                if paused is None:
                    raise
                self._blind_until = monotonic() + _FRESH_MS / 1000

    def _read(self) -> tuple[bool | None, bool]:
        """Return the copy (None: there isn't one), and whether it was compared with storage lately."""
        with self._redis.pipeline(transaction=False) as pipe:
            copy, left_ms = pipe.get(self._key).pttl(self._key).execute()
        return None if copy is None else copy == b"1", left_ms > _COPY_MS - _FRESH_MS

    def _copied(self) -> bool:
        """Copy the truth into Redis and return it; `WatchError` if another process wrote the copy meanwhile."""
        with self._redis.pipeline() as pipe:
            pipe.watch(self._key)
            paused = self._storage.get(PAUSED) is not None
            pipe.multi()
            pipe.set(self._key, int(paused), px=_COPY_MS)
            pipe.execute()
            return paused
