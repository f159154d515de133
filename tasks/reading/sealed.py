"""The structures of stored pages and of `manifest.json`, the account of a sealed run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tasks.reading.catalog import PAGE_LIMIT
from tasks.reading.windows import Moment, Period
from workers.storage.renamings import Renaming

Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""The SHA-256 of the bytes of a file."""
Count = Annotated[int, Meta(ge=0)]
RunId = Annotated[str, Meta(pattern=r"\A[0-9]{8}\Z")]
RunState = Literal["complete", "partial", "failed", "cancelled"]
Ending = Literal["done", "cancelled", "refused", "silent"]
"""How a run ended: it read everything, somebody cancelled it, its key was refused, or its source didn't answer."""
ResourceState = Literal["complete", "partial", "unavailable", "failed"]
Reason = Literal["", "plan", "role", "key", "unproved", "backlog", "vanished", "denied", "error"]
"""Why a resource or a pass is not complete; only a pass is `denied`: PagerDuty no longer has a record known before."""


def told(text: str) -> Meta:
    """Return the description of a member, for the JSON Schemas and docs/documents.md."""
    return Meta(description=text)


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
    source: Annotated[str, told("The source, as TENANT/NAME")]
    run: Annotated[str, told("The run")]
    page: Annotated[str, told("The page: its key below `pages/`, without `.json.zst`")]
    method: Literal["GET"] = "GET"
    path: Annotated[str, told("The path of the request")]
    params: Annotated[
        tuple[tuple[str, str], ...],
        told("The parameters of the request, in the order in which they were sent"),
    ]
    status: Annotated[int, told("The HTTP status of the answer")]
    words: Annotated[str, told("PagerDuty's words about an error, otherwise empty")]
    request_id: Annotated[
        str | None, told("PagerDuty's id of the request, to quote in a question to PagerDuty")
    ]
    date: Annotated[Moment | None, told("The date in the answer, from PagerDuty's clock")]
    fetched_at: Annotated[Stamp, told("When the answer came, by the worker's clock")]
    region: Annotated[str, told("PagerDuty's service region")]
    credential: Annotated[str, told("The kind of key: `account` or `user`")]
    fingerprint: Annotated[str, told("The fingerprint of the key")]
    requests: Annotated[Count, told("The number of requests that it took to get this answer")]
    received_sha256: Annotated[Digest, told("The SHA-256 of the body as it was received")]
    stored_sha256: Annotated[
        Digest, told("The SHA-256 of the third line of the page, without its line break")
    ]
    rewritten: Annotated[
        bool,
        told(
            "Whether the third line differs from the body: secrets were cut out, or it wasn't one line"
        ),
    ]
    redacted: Annotated[
        tuple[str, ...], told("Where secrets were cut out, as JSON pointers (RFC 6901)")
    ]


Scalar = str | int | float | bool | None
Cuts = tuple[tuple[Count, Count], ...]


class Head(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The second line of a stored page: the part of the body that decisions and proofs need.

    It follows from the body. A member that the body doesn't have is left out.
    """

    more: Annotated[bool | UnsetType | None, told("Whether PagerDuty says that more follows")] = (
        UNSET
    )
    total: Annotated[int | UnsetType | None, told("The number of records, if PagerDuty told it")] = UNSET  # fmt: skip
    next_cursor: Annotated[
        str | UnsetType | None, told("The cursor of the page that follows, null at the end")
    ] = UNSET
    records: Annotated[
        tuple[dict[str, Scalar], ...],
        told(
            "The head of each record: its `id`, or the key that stands for it; the field that its list is sorted by; "
            "and the other fields on which later requests depend"
        ),
    ]
    cuts: Annotated[
        Cuts | None,
        told(
            "Where each record begins and ends in the body, in bytes. Left out for an error, and if the body has half "
            "characters or isn't UTF-8"
        ),
    ] = None


class PartContent(Part, frozen=True, kw_only=True):
    """The content of one part of an artifact: the digest of the object, and of its records before compression."""

    bytes: Annotated[Count, told("The size of the stored object")]
    sha256: Annotated[Digest, told("The SHA-256 of the stored object")]
    content_sha256: Annotated[
        Digest, told("The SHA-256 of the records in it, before they were compressed")
    ]
    records: Annotated[Count, told("The number of records in it")]


class ArtifactPart(PartContent, frozen=True, kw_only=True):
    """One part of an artifact, and the key under which it is stored."""

    key: Annotated[str, told("Where it is stored, below the storage URL")]


class ListedPage(Part, frozen=True, kw_only=True):
    """A page of a pass: its number, the digest and size of its stored object, and how many records it has."""

    number: Annotated[str, told("The last part of the page's name")]
    sha256: Annotated[Digest, told("The SHA-256 of the stored page")]
    bytes: Annotated[Count, told("The size of the stored page")]
    records: Annotated[Count, told("The number of records in it")]


class StoredObject(Part, frozen=True, kw_only=True):
    """An object that counts towards nothing: an unreadable page, or an artifact of an earlier sealer."""

    key: Annotated[str, told("Where it is stored, below the storage URL")]
    sha256: Annotated[Digest, told("The SHA-256 of the object")]
    bytes: Annotated[Count, told("The size of the object")]


ProvedBy = Literal["total", "overlap", "cursor_end", "single_answer"]


class Proof(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a reading has every record of its window, and the numbers that it rests on."""

    by: Annotated[ProvedBy, told("How the reading is proved")]
    total: Annotated[
        Count | None, told("PagerDuty's total, which was the same at the beginning and at the end")
    ] = None
    overlaps: Annotated[
        Count, told("How many neighbouring pages showed the same record at their edge")
    ] = 0
    unique: Annotated[Count, told("The number of different records that were received")]


class WindowPass(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One reading of a window, and its verdict."""

    feed: Annotated[
        str, told("The list that was read. Most resources have one list with the same name")
    ]
    window: Annotated[str, told("The period that was read; `all`; or `of-` and the id of a record")]
    pass_: Annotated[
        int, told("1 for the first reading of the window; 2 or 3 if it was read again")
    ] = field(name="pass")
    size: Annotated[int, told("How many records each request asked for")] = PAGE_LIMIT
    state: Annotated[ProofState, told("The result")]
    reason: Annotated[Reason, told("Why the reading isn't proved")] = ""
    words: Annotated[str, told("PagerDuty's words about that")] = ""
    total: Annotated[Count | None, told("PagerDuty's total, where it gave one")] = None
    unique: Annotated[Count | None, told("The number of different records that were received")] = (
        None
    )
    proof: Annotated[Proof | None, told("Why the reading has every record, if that is proved")] = (
        None
    )
    pages: Annotated[tuple[ListedPage, ...], told("The stored pages, in order")]


class Outside(Part, frozen=True, kw_only=True, order=True):
    """A part of a resource's period that nothing proves."""

    since: Annotated[Moment, told("Its beginning")]
    until: Annotated[Moment, told("Its end")]
    reason: Annotated[
        Literal["retention", "backlog", "unread"],
        told(
            "PagerDuty no longer has it (`retention`), later runs read it (`backlog`), or it is `unread`"
        ),
    ]


class SealedResource(Part, frozen=True, kw_only=True):
    """The result of a run for one resource."""

    state: Annotated[ResourceState, told("The result")]
    reason: Annotated[Reason, told("Why it is not complete")]
    words: Annotated[str, told("PagerDuty's words about that")]
    withheld: Annotated[
        Mapping[str, str], told("Lists that the account's plan lacks, each with PagerDuty's words")
    ]
    vanished: Annotated[
        tuple[str, ...],
        told("Ids of records that PagerDuty lists, but answers 404 for at their own address"),
    ]
    period: Annotated[Period | None, told("The period that this run and earlier ones were to read")]
    outside: Annotated[tuple[Outside, ...], told("Parts of that period that no run has proved")]
    records: Annotated[Count, told("The number of records in its artifacts")]
    sightings: Annotated[Count, told("How often these records were received")]
    redacted: Annotated[Count, told("How many secrets were cut out")]
    requests: Annotated[
        Count, told("How many requests were sent for it. Nothing stored can prove this number")
    ]
    artifacts: Annotated[tuple[ArtifactPart, ...], told("The stored objects with its records")] = ()
    windows: Annotated[
        tuple[WindowPass, ...], told("Every reading, also those that later ones replaced")
    ]

    @property
    def has_artifact(self) -> bool:
        return self.state in ("complete", "partial")


class PageSize(Part, frozen=True):
    """How many records a page a list is asked for where larger pages took too long, and since when."""

    size: Annotated[int, told("Records per request")]
    since: Annotated[Moment, told("Since when")]


class PreviousRun(Part, frozen=True):
    """The sealed run that a run follows, and the digest of its manifest's file."""

    run: Annotated[str, told("The run")]
    sha256: Annotated[Digest, told("The SHA-256 of its `manifest.json`")]


class SealedAccount(Part, frozen=True, kw_only=True):
    """The PagerDuty account whose records a run holds."""

    region: Annotated[str, told("PagerDuty's service region")]
    subdomain: Annotated[str, told("The account's subdomain at PagerDuty")]
    seen: Annotated[tuple[str, ...], told("The subdomains that links in the records name")]
    renamed: Annotated[
        tuple[Renaming, ...], told("Renamings since the run before, as a person confirmed them")
    ]


class SealedCredential(Part, frozen=True, kw_only=True):
    """The keys that a run was read with."""

    kind: Annotated[str, told("`account`, or `user` if any page was read with a user's key")]
    fingerprints: Annotated[tuple[str, ...], told("The fingerprints of the keys that were used")]


class Manifest(Part, frozen=True, kw_only=True):
    """What a run collected, what it did not, and why. It ends the run."""

    format: Literal[2] = 2
    source: Annotated[str, told("The source, as TENANT/NAME")]
    run: Annotated[str, told("The run")]
    previous: Annotated[PreviousRun | None, told("The run before, whose manifest this one fixes")]
    plan_sha256: Annotated[Digest, told("The SHA-256 of `plan.json`")]
    state: Annotated[RunState, told("The result of the run")]
    ended: Annotated[
        Ending,
        told(
            "Whether it was `done`, somebody `cancelled` it, or PagerDuty `refused` the key or was `silent`"
        ),
    ]
    opened_at: Annotated[Moment, told("When the run began")]
    scheduled_at: Annotated[
        Moment, told("When the newest run began that wasn't started to read a backlog")
    ]
    sealed_at: Annotated[Moment, told("When the run ended")]
    account: Annotated[SealedAccount, told("The account at PagerDuty")]
    credential: Annotated[SealedCredential, told("The keys that were used")]
    period: Annotated[Period, told("The period that the run was to read")]
    reached: Annotated[
        Moment, told("The time up to which the run counts as read: the next run begins there")
    ]
    backfill: Annotated[bool, told("Whether the run read a backlog of earlier runs")]
    resources: Annotated[Mapping[str, SealedResource], told("The result for each resource")]
    covered: Annotated[
        Mapping[str, tuple[Period, ...]], told("For each list, the periods that are proved by now")
    ]
    backlog: Annotated[
        Mapping[str, tuple[Period, ...]],
        told("For each list, the periods that are left to later runs"),
    ]
    unsettled: Annotated[
        Mapping[str, tuple[str, ...]],
        told(
            "For each list, the ids of records that weren't settled yet. The next run reads them again"
        ),
    ]
    denied: Annotated[
        Mapping[str, Mapping[str, str]],
        told("Those of them that PagerDuty answers 404 for, each with the time of its last 404"),
    ]
    sizes: Annotated[
        Mapping[str, PageSize],
        told("Lists that could only be read in smaller pages. The next run begins with that size"),
    ]
    continues: Annotated[bool, told("Whether another run follows at once, to read the backlog")]
    unreadable: Annotated[tuple[StoredObject, ...], told("Stored pages that can't be read")]
    orphans: Annotated[
        tuple[StoredObject, ...],
        told("Artifacts that an earlier attempt to end the run left, and that don't count"),
    ]


class StoredManifest(Manifest, frozen=True, kw_only=True):
    """A manifest that was read from storage, and the digest of its file."""

    sha256: Digest

    @property
    def link(self) -> PreviousRun:
        """The link with which the next run names this one."""
        return PreviousRun(self.run, self.sha256)
