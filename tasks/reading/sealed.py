"""The structure of `manifest.json`, the account of a sealed run."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from tasks.reading.catalog import PAGE_LIMIT
from tasks.reading.windows import Moment, Period
from workers.storage.renamings import Renaming


class PartContent(Struct, frozen=True, kw_only=True):
    """The content of one part of an artifact: the digest of the object, and of its records before compression."""

    bytes: int
    sha256: str
    content_sha256: str
    records: int


class ArtifactPart(PartContent, frozen=True, kw_only=True):
    """One part of an artifact, and the key under which it is stored."""

    key: str


class ListedPage(Struct, frozen=True, array_like=True):
    """A page of a pass: its number, the digest and size of its stored object, and how many records it has."""

    number: str
    sha256: str
    bytes: int
    records: int


class WindowPass(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reading of a window, and its verdict."""

    feed: str
    window: str
    pass_: int = field(name="pass")
    size: int = PAGE_LIMIT  # records asked for in one request
    state: str
    reason: str = ""
    words: str = ""
    total: int | None = None
    unique: int | None = None
    pages: tuple[ListedPage, ...]


class Outside(Struct, frozen=True, order=True, array_like=True):
    """A part of a resource's period that nothing proves."""

    since: Moment
    until: Moment
    reason: str  # retention (PagerDuty no longer has it) | backlog (later runs read it) | unread


class SealedResource(Struct, frozen=True, kw_only=True):
    """The result of a run for one resource."""

    state: str  # complete, partial, unavailable or failed
    reason: str
    words: str
    withheld: Mapping[str, str]  # list that the account's plan lacks -> PagerDuty's words
    vanished: tuple[str, ...]  # ids that a list names, and whose own address answers 404
    period: Period | None
    outside: tuple[Outside, ...]
    records: int
    sightings: int
    redacted: int
    requests: int
    artifacts: tuple[ArtifactPart, ...] = ()
    windows: tuple[WindowPass, ...]

    @property
    def has_artifact(self) -> bool:
        return self.state in ("complete", "partial")


class PreviousRun(Struct, frozen=True):
    """The sealed run that a run follows, and the digest of its manifest."""

    run: str
    sha256: str


class SealedAccount(Struct, frozen=True, kw_only=True):
    """The PagerDuty account whose records a run holds."""

    region: str
    subdomain: str
    seen: tuple[str, ...]  # the subdomains that the records link to
    renamed: tuple[Renaming, ...]  # since the manifest before this one


class SealedCredential(Struct, frozen=True, kw_only=True):
    """The keys that a run was read with."""

    kind: str  # account; or user, if any page was read with a user's key
    fingerprints: tuple[str, ...]


class Manifest(Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`. docs/evidence.md explains each member."""

    format: int = 1
    source: str
    run: str
    previous: PreviousRun | None
    plan_sha256: str
    state: str  # complete, partial, failed or cancelled
    ended: str
    opened_at: Moment
    scheduled_at: Moment
    sealed_at: Moment
    account: SealedAccount
    credential: SealedCredential
    period: Period
    reached: Moment
    backfill: bool
    resources: Mapping[str, SealedResource]
    covered: Mapping[str, tuple[Period, ...]]
    backlog: Mapping[str, tuple[Period, ...]]
    unsettled: Mapping[str, tuple[str, ...]]
    denied: Mapping[str, Mapping[str, str]]
    sizes: Mapping[str, tuple[int, str]]
    continues: bool
    unreadable: tuple[str, ...]
    orphans: tuple[str, ...]
    sha256: str = ""  # the digest of all other members; it is set when the manifest is written

    @property
    def link(self) -> PreviousRun:
        """The link with which the next run names this one."""
        return PreviousRun(self.run, self.sha256)
