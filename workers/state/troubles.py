"""Problems with a source that need a person's help: one hash in Redis.

If Redis loses them, the next attempt finds them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError

from workers.errors import Busy, Fault, RedisUnreachable, StorageUnreachable
from workers.redaction import redact

_HEALS = (RedisError, RedisUnreachable, StorageUnreachable, Busy)
"""Errors that pass by themselves."""
_MOST = 500


@dataclass(slots=True)
class Note:
    """Whether a block that raised nothing has also done its work."""

    done: bool = True


class Troubles:
    """The last problem of each source with each kind of work. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._key = f"{prefix}:troubles"

    @contextmanager
    def noted(self, source: str, what: str) -> Iterator[Note]:
        """Keep the error that the block raises until a later block for the same *what* (kind of work) succeeds.

        Errors that pass by themselves are not kept. A block that ends without doing its work sets `done` to False on
        the note, and then the kept error stays.
        """
        field, note = f"{source} {what}", Note()
        try:
            yield note
        except _HEALS:
            raise
        except Exception as error:  # kept, and raised again
            said = _sentence(error)
            self._redis.hset(self._key, field, redact(said)[:_MOST])
            raise
        if note.done:
            self._redis.hdel(self._key, field)

    def forget(self, source: str, *whats: str) -> None:
        """Forget the problems of *source* with these kinds of work."""
        self._redis.hdel(self._key, *(f"{source} {what}" for what in whats))

    def all(self) -> dict[str, Mapping[str, str]]:
        """Return the problems of every source: kind of work -> sentence."""
        kept = self._redis.hgetall(self._key)
        found: dict[str, dict[str, str]] = {}
        for field, sentence in sorted(kept.items()):
            source, _, what = field.decode().partition(" ")
            found.setdefault(source, {})[what] = sentence.decode()
        return dict(found)


def _sentence(error: Exception) -> str:
    """Return the text to keep for *error*. Only faults and the system's errors certainly don't quote a record."""
    if isinstance(error, Fault):
        return str(error)
    text = error if isinstance(error, OSError) else "the log of the worker says where it happened"
    return f"{type(error).__name__}: {text}"
