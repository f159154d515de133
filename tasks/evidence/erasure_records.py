"""The record of an erasure: its members, how it is written, and how it is checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Annotated, Literal

from msgspec import Struct
from msgspec.structs import asdict

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.dsse import Envelope, read_envelope
from tasks.reading.sealed import Count, Digest, RunId, RunState, told
from tasks.reading.windows import Moment, Period

RECORDS = ".purged"
"""Storage prefix of the records; outside the evidence, whose runs they outlive."""
PAYLOAD_TYPE = "application/vnd.pagetrail.erasure+json"

Why = Literal["purge", "retention"]
Text = bytes  # spelt out here because a member named bytes hides the type


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The account whose evidence was erased."""

    region: Annotated[str, told("PagerDuty's service region")]
    subdomain: Annotated[str, told("The account's subdomain at PagerDuty")]


class ErasedRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of an erasure. Without a readable manifest, only `run` and the counts are set."""

    run: Annotated[RunId, told("The run")]
    state: Annotated[RunState | None, told("The result of the run")] = None
    period: Annotated[Period | None, told("The period that it was to read")] = None
    opened_at: Annotated[Moment | None, told("When it began")] = None
    sealed_at: Annotated[Moment | None, told("When it ended")] = None
    manifest_sha256: Annotated[Digest | None, told("The SHA-256 of its `manifest.json`")] = None
    seal_sha256: Annotated[
        Digest | None, told("The SHA-256 of its `seal.dsse.json`; missing if it was not sealed")
    ] = None
    objects: Annotated[Count, told("How many objects it had")]
    bytes: Annotated[Count, told("How large they were")]


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record, by its last run and the digest of its file."""

    through: Annotated[RunId, told("The last run that it names")]
    sha256: Annotated[Digest, told("The SHA-256 of its file")]


class Erasure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the signer says about one erasure, before anything is deleted.

    It names every run from the one after the record before, or the first, up to `through`.
    """

    format: Literal[2] = 2
    source: Annotated[str, told("The source, as TENANT/NAME")]
    previous: Annotated[Link | None, told("The record before; null for the first one")]
    through: Annotated[RunId, told("The last run that was erased")]
    why: Annotated[
        Why, told("A person asked for a `purge`, or the `retention` of the source was over")
    ]
    retention_months: Annotated[
        Count | None, told("The retention of the source; null if it had none")
    ]
    by: Annotated[str, told("Who erased them")]
    at: Annotated[Moment, told("When the record was signed, by the signer's clock")]
    account: Annotated[Account, told("The account at PagerDuty")]
    runs: Annotated[tuple[ErasedRun, ...], told("The erased runs, oldest first")]
    objects: Annotated[Count, told("How many objects they had")]
    bytes: Annotated[Count, told("How large these were")]
    key: Annotated[Digest, told("The id of the public key: the SHA-256 of the key in DER form")]

    def entry(self, run: str) -> ErasedRun:
        """Return what it says about one of its runs."""
        return self.runs[int(run) - int(self.runs[0].run)]

    def digest_of(self, run: str) -> str | None:
        """Return the digest of the manifest of one of its runs; None if that manifest could not be read."""
        return self.entry(run).manifest_sha256

    def check(self) -> None:
        """Raise ValueError unless each run follows the one before, from the record before on, and the sums fit."""
        before = int(self.previous.through) if self.previous else 0
        numbers = (int(each.run) for each in self.runs)
        if len(self.runs) != int(self.through) - before or any(
            number != expected for number, expected in zip(numbers, count(before + 1))
        ):
            raise ValueError("its runs don't follow the record before it one by one")
        if not self.runs or (self.objects, self.bytes) != (
            sum(each.objects for each in self.runs),
            sum(each.bytes for each in self.runs),
        ):
            raise ValueError("its sums aren't those of its runs")


class StoredErasure(Erasure, frozen=True, kw_only=True):
    """A record that was read, its envelope and the digest of its file. Nobody has checked the signature yet."""

    envelope: Envelope
    sha256: Digest

    @property
    def link(self) -> Link:
        """The link with which the next record names this one."""
        return Link(through=self.through, sha256=self.sha256)


def read_record(text: bytes, source: str, through: str) -> StoredErasure:
    """Return the record of *source* up to the run *through*; ValueError says why it can't be trusted.

    `Purged` checks its signature, and whether it follows the record before it and fits the stored manifests.
    """
    envelope = read_envelope(text, PAYLOAD_TYPE)
    record = documents.read(envelope.payload, Erasure, indent=-1, source=source, through=through)
    record.check()
    envelope.check_signer(record.key)
    return StoredErasure(**asdict(record), envelope=envelope, sha256=sha256(text))


class Finished(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The object stored beside a record once all runs in the record are deleted."""

    format: Literal[2] = 2
    source: Annotated[str, told("The source, as TENANT/NAME")]
    through: Annotated[RunId, told("The last run that was erased")]
    record_sha256: Annotated[Digest, told("The SHA-256 of the record's file")]
    finished_at: Annotated[Moment, told("When everything was deleted")]

    @classmethod
    def of(cls, record: StoredErasure, at: datetime) -> Finished:
        """Return the object that says that an erasure ended at that time."""
        source, link = record.source, record.link
        return cls(source=source, through=link.through, record_sha256=link.sha256, finished_at=at)

    @classmethod
    def check(cls, text: Text, record: StoredErasure) -> None:
        """Raise ValueError unless *text* is the document that `of` makes of *record*."""
        found = documents.read(text, cls)
        if cls.of(record, found.finished_at) != found:
            raise ValueError("it doesn't name the record beside it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """One erasure, as callers see it: every run of a source up to *through*, and when they were erased."""

    source: str
    through: str
    why: str  # purge or retention
    by: str
    at: datetime
    runs: tuple[str, ...]
    objects: int
    bytes: int


def summary(record: Erasure) -> Purge:
    """Return a record as callers see it."""
    names = ("source", "through", "why", "by", "at", "objects", "bytes")
    return Purge(
        **{name: getattr(record, name) for name in names},
        runs=tuple(each.run for each in record.runs),
    )


def record_key(source: str, run: str) -> str:
    """Return the key of the record that is stored before the runs up to *run* are erased."""
    return f"{RECORDS}/{source}/{run}.dsse.json"


def done_key(source: str, run: str) -> str:
    """Return the key of the object that is stored once the runs up to *run* are erased."""
    return f"{RECORDS}/{source}/{run}.done.json"
