"""The signer's memory: the newest seal and the newest record of an erasure of each source, in a store of its own."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from workers.decoding import decode
from workers.errors import Busy, SigningFault
from workers.storage import Storage, Version


class Sealed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sealed run, and the digests of two of its files: the seal and the manifest."""

    run: str
    sha256: str
    manifest_sha256: str


class Intent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the signer is about to sign. It is stored first, so that nothing else is ever signed for this run."""

    run: str
    manifest_sha256: str
    sums_sha256: str
    previous: str | None  # the digest of the seal before


class Recorded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of an erasure, by its last run and the digest of its file."""

    through: str
    sha256: str


class Head(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest seal of a source, the seal that may be under way, and the newest record of an erasure."""

    format: Literal[1] = 1
    source: str
    sealed: Sealed | None = None
    intent: Intent | None = None
    purged: Recorded | None = None

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self))


class Found(NamedTuple):
    """A head, and its version for `Heads.replace`. Without a version, it is not stored yet."""

    head: Head
    version: Version | None


class Heads:
    """The heads of all sources. Safe to share between threads and processes: each change names the version before."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def find(self, source: str) -> Found | None:
        """Return the head of *source*; None if it has none. Raises `SigningFault` for a damaged one."""
        key = _key(source)
        stored = self._storage.get_versioned(key)
        if stored is None:
            return None
        text, version = stored
        try:
            head = decode(text, Head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            head = None
        if head is None or head.source != source or head.to_json() != text:
            raise SigningFault(
                f"{key} in {self._storage} isn't the newest seal of {source}: restore it from a copy, or remove it to "
                "begin with the newest seal in storage."
            )
        return Found(head, version)

    def replace(self, before: Found, head: Head) -> Found:
        """Store *head* in place of *before*, and return it with its version; `Busy` if somebody else was first."""
        if not self._storage.replace_if(_key(head.source), head.to_json(), before.version):
            raise _busy(head.source)
        found = self.find(head.source)
        if found is None or found.head != head:
            raise _busy(head.source)
        return found


def _busy(source: str) -> Busy:
    return Busy(f"Another signer works on {source}: the fleet tries again.")


def _key(source: str) -> str:
    return f"heads/{source}.json"
