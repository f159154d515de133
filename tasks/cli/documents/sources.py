"""The documents about a source: its account, its settings, and what its key can read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from workers.storage.registry import PurgeWish, Source, SourceState


@dataclass(frozen=True)
class Account:
    """A source, and the account that it is connected to."""

    source: str
    region: str
    subdomain: str
    credential: str
    fingerprint: str
    state: SourceState
    retention_months: int | None
    held_since: datetime | None
    former_subdomains: list[str]
    purge: PurgeWish | None  # an erasure that was asked for and isn't finished


@dataclass(frozen=True)
class Access:
    """Whether a key can read one resource, and why not."""

    readable: bool
    reason: str


@dataclass(frozen=True)
class SourceDetails(Account):
    """A source, as the commands that connect, check or change it print it."""

    resources: dict[str, Access]


@dataclass(frozen=True)
class ShownSource(SourceDetails):
    """A source, as `source show` prints it."""

    renamed_to: str | None  # the new subdomain that the records of the last run link to


@dataclass(frozen=True)
class ListedSource(Account):
    """A source, as `source list` prints it."""

    since: datetime
    every_seconds: int | None
    resources: tuple[str, ...] | None
    reserve: float
    connected_at: datetime
    key_age_days: int
    rotation_due: bool


def source_details(source: Source) -> SourceDetails:
    """Return a source as the commands that connect, check or change it print it."""
    access = {name: Access(not reason, reason) for name, reason in source.access.items()}
    return SourceDetails(**vars(_account(source)), resources=access)


def shown_source(source: Source, renamed_to: str) -> ShownSource:
    """Return a source as `source show` prints it."""
    return ShownSource(**vars(source_details(source)), renamed_to=renamed_to or None)


def listed_source(source: Source, key_age_days: int, *, rotation_due: bool) -> ListedSource:
    """Return a source as `source list` prints it."""
    return ListedSource(
        **vars(_account(source)),
        since=source.since,
        every_seconds=source.every_seconds,
        resources=source.resources,
        reserve=source.reserve,
        connected_at=source.connected_at,
        key_age_days=key_age_days,
        rotation_due=rotation_due,
    )


def _account(source: Source) -> Account:
    return Account(
        source.id,
        source.region,
        source.subdomain,
        source.credential,
        source.fingerprint,
        source.state,
        source.retention_months,
        source.held_since,
        [each.old for each in source.renamings],
        source.purge,
    )
