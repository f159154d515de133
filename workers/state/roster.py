"""Which workers take work, and from which queues: each worker says so itself every few seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import Redis

from workers.state.client import now_ms

QUEUES = ("plan", "fetch", "backfill", "seal", "sign")
ALIVE_SECONDS = 20.0
"""Workers report every 5 s, so a worker that was silent for this long is gone or frozen."""
_KEPT_SECONDS = 3600.0


class Roster:
    """The workers of a fleet, in one sorted set: `node queue,queue` -> ms of Redis's clock."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._key = f"{prefix}:workers"

    def enter(self, node: str, queues: Iterable[str]) -> None:
        """Say that *node* takes work from *queues* now; repeatable."""
        now = now_ms(self._redis)
        with self._redis.pipeline() as pipe:
            pipe.zadd(self._key, {_line(node, queues): now})
            pipe.zremrangebyscore(self._key, "-inf", now - _KEPT_SECONDS * 1000)
            pipe.execute()

    def leave(self, node: str, queues: Iterable[str]) -> None:
        """Say that *node* takes no more work; repeatable."""
        self._redis.zrem(self._key, _line(node, queues))

    def workers(self) -> dict[str, tuple[str, ...]]:
        """Return the queues of every worker that is alive."""
        alive: Any = self._redis.zrangebyscore(
            self._key, now_ms(self._redis) - ALIVE_SECONDS * 1000, "+inf"
        )
        lines = (line.decode().split(" ") for line in alive)
        # A newer version may add words, but always has these two.
        return {line[0]: tuple(line[1].split(",")) for line in lines if len(line) > 1}


def _line(node: str, queues: Iterable[str]) -> str:
    return f"{node} {','.join(sorted(queues))}"
