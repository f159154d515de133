"""What keeps the fleet from doing something for a source until a person helps: one hash in Redis.

What Redis loses of it is found anew when it is tried again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError

from workers.errors import Busy, Fault, RedisUnreachable, StorageUnreachable
from workers.redaction import redact
from workers.state.faults import redis_faults

_HEALS = (RedisError, RedisUnreachable, StorageUnreachable, Busy)
"""What time alone mends."""
_MOST = 500


@dataclass(slots=True)
class Note:
    """Whether a block that raised nothing did what it is for."""

    done: bool = True


class Troubles:
    """The last sentence about each source and each thing to do for it. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # its stubs don't know that these replies are no awaitables
        self._key = f"{prefix}:troubles"

    @contextmanager
    def noted(self, source: str, what: str) -> Iterator[Note]:
        """Keep what a block raises until one for the same *what* is done, unless it heals by itself; raise it.

        A block that ends without having done it says so on the note, and changes nothing.
        """
        field, note = f"{source} {what}", Note()
        try:
            yield note
        except _HEALS:
            raise
        except Exception as error:
            said = _sentence(error)
            with redis_faults():
                self._redis.hset(self._key, field, redact(said)[:_MOST])
            raise
        if note.done:
            with redis_faults():
                self._redis.hdel(self._key, field)

    def forget(self, source: str, *whats: str) -> None:
        """Forget what was kept of *source* under each of *whats*."""
        with redis_faults():
            self._redis.hdel(self._key, *(f"{source} {what}" for what in whats))

    def all(self) -> dict[str, Mapping[str, str]]:
        """Return what every source is in: thing to do -> sentence."""
        with redis_faults():
            kept = self._redis.hgetall(self._key)
        found: dict[str, dict[str, str]] = {}
        for field, sentence in sorted(kept.items()):
            source, _, what = field.decode().partition(" ")
            found.setdefault(source, {})[what] = sentence.decode()
        return dict(found)


def _sentence(error: Exception) -> str:
    """Return what to keep of *error*: only faults and the system's errors are sure not to quote a record."""
    if isinstance(error, Fault):
        return str(error)
    text = error if isinstance(error, OSError) else "the log of the worker says where it happened"
    return f"{type(error).__name__}: {text}"
