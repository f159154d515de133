"""The structures of stored pages and of `manifest.json`, the account of a sealed run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from tasks.reading.catalog import PAGE_LIMIT
from tasks.reading.windows import Moment, Period
from workers.storage.renamings import Renaming

Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""The SHA-256 of the bytes of a file."""
Count = Annotated[int, Meta(ge=0)]
RunId = Annotated[str, Meta(pattern=r"\A\d{8}\Z")]
RunState = Literal["complete", "partial", "failed", "cancelled"]
Ending = Literal["done", "cancelled", "refused", "silent"]
"""How a run ended: it read everything, somebody cancelled it, its key was refused, or its source didn't answer."""
ResourceState = Literal["complete", "partial", "unavailable", "failed"]
Reason = Literal["", "plan", "role", "key", "unproved", "backlog", "vanished", "denied", "error"]
"""Why a resource or a pass is not complete; only a pass is `denied`: PagerDuty no longer has a record known before."""


class ProofState(StrEnum):
    """The result of a reading of a window."""

    PROVED = "proved"
    PARTIAL = "partial"  # read, but not provably all of it
    FAILED = "failed"  # nothing read
    UNAVAILABLE = "unavailable"  # PagerDuty says this key can't have it
    SUPERSEDED = "superseded"  # replaced: by a further pass, smaller pages or smaller windows


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a document. Its members are the ones that are named here, and no others."""


Stamp = Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")]
"""A time of fixed width, so that texts sort like times."""


class Envelope(Part, frozen=True, kw_only=True):
    """The first line of a stored page: the request, and all about its answer but the body."""

    format: Literal[2] = 2
    source: str
    run: str
    page: str
    method: Literal["GET"] = "GET"
    path: str
    params: tuple[tuple[str, str], ...]  # in the order in which they were sent
    status: int
    words: str  # of PagerDuty about an error, else ""
    request_id: str | None
    date: Moment | None  # PagerDuty's
    fetched_at: Stamp
    region: str
    credential: str
    fingerprint: str
    requests: Count  # sent until this answer came
    received_sha256: Digest  # of the body as received
    stored_sha256: Digest  # of the second line
    rewritten: bool  # the second line is not the body as received
    redacted: tuple[str, ...]  # JSON pointers (RFC 6901) to the secrets that were taken out


class PartContent(Part, frozen=True, kw_only=True):
    """The content of one part of an artifact: the digest of the object, and of its records before compression."""

    bytes: Count
    sha256: Digest
    content_sha256: Digest
    records: Count


class ArtifactPart(PartContent, frozen=True, kw_only=True):
    """One part of an artifact, and the key under which it is stored."""

    key: str


class ListedPage(Part, frozen=True, kw_only=True):
    """A page of a pass: its number, the digest and size of its stored object, and how many records it has."""

    number: str
    sha256: Digest
    bytes: Count
    records: Count


class StoredObject(Part, frozen=True, kw_only=True):
    """An object that counts towards nothing: an unreadable page, or an artifact of an earlier sealer."""

    key: str
    sha256: Digest
    bytes: Count


ProvedBy = Literal["total", "overlap", "cursor_end", "single_answer"]


class Proof(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a reading has every record of its window, and the numbers that it rests on."""

    by: ProvedBy
    total: Count | None = None  # PagerDuty's, at the beginning and at the end
    overlaps: Count = 0  # neighbouring pages that showed the same record at their edge
    unique: Count  # different records


class WindowPass(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One reading of a window, and its verdict."""

    feed: str
    window: str
    pass_: int = field(name="pass")
    size: int = PAGE_LIMIT  # records asked for in one request
    state: ProofState
    reason: Reason = ""
    words: str = ""
    total: Count | None = None  # only where PagerDuty gave one
    unique: Count | None = None
    proof: Proof | None = None  # if the reading is proved
    pages: tuple[ListedPage, ...]


class Outside(Part, frozen=True, kw_only=True, order=True):
    """A part of a resource's period that nothing proves."""

    since: Moment
    until: Moment
    reason: Literal["retention", "backlog", "unread"]  # retention: PagerDuty no longer has it


class SealedResource(Part, frozen=True, kw_only=True):
    """The result of a run for one resource."""

    state: ResourceState
    reason: Reason
    words: str
    withheld: Mapping[str, str]  # list that the account's plan lacks -> PagerDuty's words
    vanished: tuple[str, ...]  # ids that a list names, and whose own address answers 404
    period: Period | None
    outside: tuple[Outside, ...]
    records: Count
    sightings: Count
    redacted: Count
    requests: Count
    artifacts: tuple[ArtifactPart, ...] = ()
    windows: tuple[WindowPass, ...]

    @property
    def has_artifact(self) -> bool:
        return self.state in ("complete", "partial")


class PageSize(Part, frozen=True):
    """How many records a page a list is asked for where larger pages took too long, and since when."""

    size: int
    since: Moment


class PreviousRun(Part, frozen=True):
    """The sealed run that a run follows, and the digest of its manifest's file."""

    run: str
    sha256: Digest


class SealedAccount(Part, frozen=True, kw_only=True):
    """The PagerDuty account whose records a run holds."""

    region: str
    subdomain: str
    seen: tuple[str, ...]  # the subdomains that the records link to
    renamed: tuple[Renaming, ...]  # since the manifest before this one


class SealedCredential(Part, frozen=True, kw_only=True):
    """The keys that a run was read with."""

    kind: str  # account; or user, if any page was read with a user's key
    fingerprints: tuple[str, ...]


class Manifest(Part, frozen=True, kw_only=True):
    """The content of `manifest.json`. docs/evidence.md explains each member."""

    format: Literal[2] = 2
    source: str
    run: str
    previous: PreviousRun | None
    plan_sha256: Digest
    state: RunState
    ended: Ending
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
    sizes: Mapping[str, PageSize]
    continues: bool
    unreadable: tuple[StoredObject, ...]
    orphans: tuple[StoredObject, ...]


class StoredManifest(Manifest, frozen=True, kw_only=True):
    """A manifest that was read from storage, and the digest of its file."""

    sha256: Digest

    @property
    def link(self) -> PreviousRun:
        """The link with which the next run names this one."""
        return PreviousRun(self.run, self.sha256)
