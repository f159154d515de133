"""Runs that wait for their seal, and purges that wait for their record: one sorted set in Redis.

If it was lost, it is filled again from storage.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from redis import Redis

from workers.state.client import now_ms
from workers.state.marks import MARK

REPEAT_MS = 30_000
"""When the message about a run is sent again, if the run still waits."""
RECORD = ""
"""In place of a run: the source waits for the record of an erasure."""
_CROWD = 100
"""A queue with this many messages gets no more. The work stays in the set."""


class Waiting(NamedTuple):
    """A run without a seal, or `RECORD`."""

    source: str
    run: str


class Unsealed:
    """What waits for the signer, and when it is told again about each. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._key = f"{prefix}:unsealed"
        self._since = f"{prefix}:unsealed_since"
        self._queue = f"{prefix}:sign"

    def add(self, source: str, run: str, since: datetime | None = None) -> None:
        """Say that *run* has ended and has no seal: the signer is told with the next tick. Repeatable.

        *since* is when the run ended, for the metrics.
        """
        self._redis.zadd(self._key, {f"{source} {run}": now_ms(self._redis)})
        if since:
            self._redis.zadd(self._since, {f"{source} {run}": since.timestamp()})

    def later(self, source: str, run: str, seconds: float) -> None:
        """Tell the signer again about *run* after *seconds*, if it still waits."""
        at = now_ms(self._redis) + round(seconds * 1000)
        self._redis.zadd(self._key, {f"{source} {run}": at}, xx=True)

    def settle(self, source: str, *runs: str) -> None:
        """Say that *runs* wait no longer. Repeatable."""
        if runs:
            members = [f"{source} {run}" for run in runs]
            self._redis.zrem(self._since, *members)
            self._redis.zrem(self._key, *members)

    def take(self, most: int) -> list[Waiting]:
        """Return up to *most* runs to tell the signer about; they come again in half a minute.

        Returns none while many messages wait for the signer.
        """
        if self._redis.llen(self._queue) >= _CROWD:
            return []
        now = now_ms(self._redis)
        due = self._redis.zrangebyscore(self._key, 0, now, 0, most)
        if due:
            self._redis.zadd(self._key, dict.fromkeys(due, now + REPEAT_MS), xx=True)
        return list(map(_waiting, due))

    def all(self) -> dict[str, tuple[str, ...]]:
        """Return the waiting runs of every source that has any, oldest first."""
        members = self._redis.zrange(self._key, 0, -1)
        found: dict[str, tuple[str, ...]] = {}
        for source, run in sorted(map(_waiting, (m for m in members if m != MARK.encode()))):
            if run == RECORD:
                continue
            found[source] = (*found.get(source, ()), run)
        return found


def _waiting(member: bytes) -> Waiting:
    source, _, run = member.decode().partition(" ")
    return Waiting(source, run)
