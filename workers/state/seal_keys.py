"""The public keys of the signer, as the fleet knows them: one string in Redis, which the signer writes again.

A worker that deletes evidence checks the signature of the record first. Anyone who can only write to storage can't put
a key of their own here.
"""

from __future__ import annotations

from typing import Any

from redis import Redis


class SealKeys:
    """The document that `pagetrail keys --json` prints. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis  # the stubs allow awaitables as replies
        self._key = f"{prefix}:keys"

    def tell(self, document: bytes) -> None:
        """Let every worker know the keys. Repeatable."""
        self._redis.set(self._key, document)

    def known(self) -> bytes | None:
        """Return the document; None until the signer has told it, or if Redis lost it."""
        found: bytes | None = self._redis.get(self._key)
        return found
