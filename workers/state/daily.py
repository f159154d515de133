"""When every source gets its daily look: one sorted set in Redis, filled again from storage if it was lost."""

from __future__ import annotations

import hashlib
from typing import Any

from redis import Redis

from workers.state.client import now_ms

DAY_MS = 86_400_000


class Daily:
    """The daily looks, spread over the day: each source has its own time. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._key = f"{prefix}:daily"

    def begin(self, source: str) -> None:
        """Look at *source* once a day from now on. Repeatable: an earlier time stays."""
        share = int.from_bytes(hashlib.sha256(source.encode()).digest()[:4]) / 2**32
        at = _after(round(share * DAY_MS), now_ms(self._redis))
        self._redis.zadd(self._key, {source: at}, nx=True)

    def within(self, source: str, seconds: float) -> None:
        """Look at *source* after *seconds*, and then once a day."""
        self._redis.zadd(self._key, {source: now_ms(self._redis) + round(seconds * 1000)})

    def end(self, source: str) -> None:
        """Stop looking at *source*. Repeatable."""
        self._redis.zrem(self._key, source)

    def take(self, most: int) -> list[str]:
        """Return up to *most* sources that are due, each to one caller only; they are due again in a day."""
        now = now_ms(self._redis)
        due = self._redis.zrangebyscore(self._key, 0, now, 0, most, withscores=True)
        # The next time follows from the stored one. So only one of two callers changes it and takes the source.
        return [
            source.decode()
            for source, at in due
            if self._redis.zadd(
                self._key, {source: _after(int(at), now)}, xx=True, gt=True, ch=True
            )
        ]


def _after(at: int, now: int) -> int:
    """Return the first moment after *now* that lies whole days after *at*."""
    return at + DAY_MS * max(0, (now - at) // DAY_MS + 1)
