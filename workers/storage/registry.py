"""The documents of the sources in storage. They are the truth; Redis holds copies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from workers.decoding import convert
from workers.errors import UsageFault
from workers.storage import Storage
from workers.storage.renamings import Renaming

REGISTRY = ".registry"
"""Storage prefix of the documents. It is outside the evidence, so copies of the evidence hold no keys."""
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}/[a-z0-9][a-z0-9._-]{0,62}")


class SourceState(StrEnum):
    """The state of a source, which says whether it may send requests."""

    ACTIVE = "active"
    PAUSED = "paused"  # it keeps its key and sends no requests
    DISCONNECTED = "disconnected"  # its key is destroyed, its evidence stays


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeWish:
    """An erasure that was asked for: of every run up to *through*. It stays until these runs are deleted."""

    through: str
    why: str  # purge or retention
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One PagerDuty connection of a tenant. Its key is sealed, and `repr` doesn't even show the sealed key."""

    id: str
    region: str
    subdomain: str
    credential: str  # "account" or "user"
    fingerprint: str
    sealed_key: str | None = field(repr=False)  # None once disconnected
    keyed_at: datetime
    connected_at: datetime
    since: datetime
    state: SourceState = SourceState.ACTIVE
    every_seconds: int | None = None  # None: runs only when asked to
    resources: tuple[str, ...] | None = None  # None: all of the catalog
    reserve: float = 0.10
    allow_user_key: bool = False
    retention_months: int | None = None  # sealed runs are erased at this age; None: never
    held_since: datetime | None = None  # legal hold: nothing is erased while it is set
    purge: PurgeWish | None = None  # nothing is deleted before the signer has signed its record
    access: Mapping[str, str] = field(default_factory=dict)  # resource -> why unreadable, or ""
    renamings: tuple[Renaming, ...] = ()  # of its account, oldest first
    version: int = 1  # counts saves
    newer: Mapping[str, Any] = field(default_factory=dict)  # members that a newer version wrote

    @property
    def subdomains(self) -> frozenset[str]:
        """Every subdomain that its account has, or had."""
        return frozenset({self.subdomain, *(each.old for each in self.renamings)})

    def to_json(self) -> bytes:
        """Return the registry document."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        if self.state is SourceState.PAUSED and "state" in self.newer:
            del members["state"]  # `newer` holds the state, which only a newer version knows
        return msgspec.json.encode({"format": 1, **self.newer} | members)

    @classmethod
    def from_json(cls, text: bytes | str) -> Source:
        """Return the source that `to_json` wrote, in this version or another; raises ValueError, TypeError or KeyError.

        A source in a state that only a newer version knows is paused here. Members of a newer version are kept.
        """
        document = msgspec.json.decode(text, type=dict[str, Any])
        known = {name: document.pop(name) for name in _MEMBERS if name in document}
        document.pop("format", None)
        if known["state"] not in set(SourceState):
            document["state"], known["state"] = known["state"], SourceState.PAUSED.value
        return convert({**known, "newer": document}, cls)


_MEMBERS = tuple(name for name in Source.__slots__ if name != "newer")


def parse_source_id(text: str) -> str:
    """Return *text* if it is a source id, `tenant/name`; raise `UsageFault` if not."""
    if not _ID.fullmatch(text) or ".." in text:
        raise UsageFault(
            f"{text[:80]!r} is not a source: write TENANT/NAME, each 1 to 63 of a-z, 0-9, dot, "
            "dash or underscore, starting with a letter or digit, without two dots in a row."
        )
    return text


def document_key(source_id: str) -> str:
    return f"{REGISTRY}/{source_id}.json"


def is_registered(storage: Storage, source_id: str) -> bool:
    """Say whether *storage* has the document of a source, connected or disconnected."""
    return storage.get(document_key(source_id)) is not None
