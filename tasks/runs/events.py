"""The events that runs send: one structure for the data of each kind. docs/events.md is written from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from tasks.evidence.erasure_records import Why
from tasks.reading.sealed import (
    Count,
    Digest,
    Ending,
    Manifest,
    Reason,
    ResourceState,
    RunId,
    RunState,
)
from tasks.reading.windows import Moment
from workers.state.events import EventData

Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]


class RunOpened(EventData, frozen=True, kw_only=True):
    """A run is planned, and its first pages are being offered."""

    kind: ClassVar = "run.opened"
    opened_at: Moment
    period: tuple[Moment, Moment]
    resources: tuple[str, ...]
    backfill: Annotated[bool, Meta(description="Whether the run reads a backlog")]


class ResourceResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a resource was read, and why not more."""

    state: ResourceState
    reason: Reason


class RunEnded(EventData, frozen=True, kw_only=True):
    """The manifest of a run is stored."""

    kind: ClassVar = "run.ended"
    sealed_at: Moment
    state: RunState
    ended: Ending
    period: tuple[Moment, Moment]
    backlog: Annotated[bool, Meta(description="Whether later runs read more of its period")]
    records: Count
    requests: Count
    resources: Mapping[str, ResourceResult]

    @classmethod
    def of(cls, manifest: Manifest) -> RunEnded:
        """Return the event about the run that *manifest* ends."""
        resources = manifest.resources
        return cls(
            sealed_at=manifest.sealed_at,
            state=manifest.state,
            ended=manifest.ended,
            period=(manifest.period.since, manifest.period.until),
            backlog=bool(manifest.backlog),
            records=sum(each.records for each in resources.values()),
            requests=sum(each.requests for each in resources.values()),
            resources={
                name: ResourceResult(state=each.state, reason=each.reason)
                for name, each in resources.items()
            },
        )


class RunSealed(EventData, frozen=True, kw_only=True):
    """The signer verified the run, and its seal is stored."""

    kind: ClassVar = "run.sealed"
    sealed_at: Moment
    sha256: Annotated[Digest, Meta(description="The digest of the seal, for `verify --head`")]
    previous: Annotated[Digest | None, Meta(description="The digest of the seal before")]
    key: Annotated[Digest, Meta(description="The id of the public key")]
    state: RunState
    unsealed: Annotated[
        tuple[RunId, ...], Meta(description="Runs since the seal before that have no seal")
    ]


class SealRefusal(EventData, frozen=True, kw_only=True):
    """The signer doesn't seal a run, because it doesn't verify or contradicts the seals before it.

    At most once a day.
    """

    kind: ClassVar = "seal.refused"
    reason: str


class HeadRestored(EventData, frozen=True, kw_only=True):
    """The signer's store had lost the newest seal of the source, and this one was the newest in storage.

    A newer one may be gone.
    """

    kind: ClassVar = "head.restored"
    sha256: Digest


class SourceFailing(EventData, frozen=True, kw_only=True):
    """A page failed twice (or once, if its list was slow), and the source answered nothing else, nor a probe.

    Once per run and hour.
    """

    kind: ClassVar = "source.failing"
    region: str


class KeyRefusal(EventData, frozen=True, kw_only=True):
    """PagerDuty answered 401 to the key that the source still has; once per run, key and day."""

    kind: ClassVar = "key.refused"
    region: str
    fingerprint: Fingerprint


class KeyRotationDue(EventData, frozen=True, kw_only=True):
    """The key is older than `PAGETRAIL_KEY_MAX_AGE_DAYS`; once a day."""

    kind: ClassVar = "key.rotation_due"
    of_run: ClassVar = False
    fingerprint: Fingerprint
    key_age_days: Count
    key_max_age_days: Count


class PurgeAsked(EventData, frozen=True, kw_only=True):
    """A purge or a retention is to erase runs, and waits until the signer has signed its record; at most once a day."""

    kind: ClassVar = "purge.asked"
    of_run: ClassVar = False
    why: Why
    by: str
    through: RunId
    at: Moment


class PurgeSigned(EventData, frozen=True, kw_only=True):
    """The signed record of a purge is stored: from now on these runs count as erased."""

    kind: ClassVar = "purge.signed"
    of_run: ClassVar = False
    through: RunId
    sha256: Annotated[Digest, Meta(description="The digest of the record")]
    previous: Annotated[Digest | None, Meta(description="The digest of the record before")]
    key: Annotated[Digest, Meta(description="The id of the public key")]


class PurgeRefusal(EventData, frozen=True, kw_only=True):
    """The signer doesn't sign the record of a purge, so nothing is deleted; at most once a day."""

    kind: ClassVar = "purge.refused"
    of_run: ClassVar = False
    reason: str


class EvidenceErased(EventData, frozen=True, kw_only=True):
    """A purge or a retention is finished: all objects of those runs are deleted."""

    kind: ClassVar = "evidence.erased"
    of_run: ClassVar = False
    why: Why
    by: str
    through: RunId
    runs: tuple[RunId, ...]
    objects: Count
    bytes: Count


KINDS: tuple[type[EventData], ...] = (
    RunOpened,
    RunEnded,
    RunSealed,
    SealRefusal,
    HeadRestored,
    SourceFailing,
    KeyRefusal,
    KeyRotationDue,
    PurgeAsked,
    PurgeSigned,
    PurgeRefusal,
    EvidenceErased,
)
