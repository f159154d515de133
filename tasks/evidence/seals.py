"""The seal of a run, `seal.dsse.json`: an in-toto statement about its files, in a DSSE envelope.

This module writes seals and reads them strictly. It needs no cryptography: `tasks/evidence/signatures.py` has that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Struct, field

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.dsse import Envelope, read_envelope
from tasks.evidence.erasure_records import Link
from tasks.reading.sealed import Count, Digest, Part, RunId, RunState, told
from tasks.reading.windows import Moment, Period

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SUMS, MANIFEST = "SHA256SUMS", "manifest.json"


class SealedBefore(Part, frozen=True, kw_only=True):
    """The seal before, by its run and the digest of its file."""

    run: Annotated[RunId, told("Its run")]
    sha256: Annotated[Digest, told("The SHA-256 of its file, `seal.dsse.json`")]


class UnsealedRun(Part, frozen=True, kw_only=True):
    """A run between two seals that could not be sealed, and the reason. Its manifest may be missing."""

    run: Annotated[RunId, told("The run")]
    manifest_sha256: Annotated[
        Digest | None, told("The SHA-256 of its `manifest.json`; null if there wasn't one")
    ]
    reason: Annotated[str, told("What was wrong with it")]


class Account(Part, frozen=True, kw_only=True):
    """The PagerDuty account whose records the run holds."""

    region: Annotated[str, told("PagerDuty's service region")]
    subdomain: Annotated[str, told("The account's subdomain at PagerDuty")]


class Tool(Part, frozen=True, kw_only=True):
    """The program that sealed the run."""

    name: Annotated[str, told("Its name")]
    version: Annotated[str, told("Its version")]


class Seal(Part, frozen=True, kw_only=True):
    """What the signer says about a run. It verified the run first."""

    source: Annotated[str, told("The source, as TENANT/NAME")]
    run: Annotated[RunId, told("The run")]
    account: Annotated[Account, told("The account at PagerDuty")]
    period: Annotated[Period, told("The period that the run was to read")]
    state: Annotated[RunState, told("The result of the run")]
    records: Annotated[Mapping[str, Count], told("The number of records of each resource")]
    sealed_at: Annotated[Moment, told("When the seal was made, by the signer's clock")]
    tool: Annotated[Tool, told("The program that made the seal")]
    key: Annotated[Digest, told("The id of the public key: the SHA-256 of the key in DER form")]
    previous: Annotated[SealedBefore | None, told("The seal before; null for the first one")]
    unsealed: Annotated[
        tuple[UnsealedRun, ...], told("Every run between the seal before and this one")
    ]
    purged: Annotated[Link | None, told("The newest record of an erasure; null if there isn't one")]


class Digests(Part, frozen=True, kw_only=True):
    """The digests of a file."""

    sha256: Annotated[Digest, told("The SHA-256 of the file")]


class Subject(Part, frozen=True, kw_only=True):
    """A file of the run that the statement is about."""

    name: Annotated[str, told("Its name")]
    digest: Annotated[Digests, told("Its digests")]


class Statement(Part, frozen=True, kw_only=True):
    """An in-toto statement, version 1. The signature is over its text."""

    type_: Literal["https://in-toto.io/Statement/v1"] = field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: Annotated[tuple[Subject, ...], told("`SHA256SUMS` and `manifest.json` of the run")]
    predicate_type: Literal["pagetrail:seal:v1"] = field(
        name="predicateType", default="pagetrail:seal:v1"
    )
    predicate: Annotated[Seal, told("What the signer says about the run")]

    @classmethod
    def about(cls, seal: Seal, sums_sha256: str, manifest_sha256: str) -> Statement:
        """Return the statement that *seal* is about the files with these digests."""
        digests = {SUMS: sums_sha256, MANIFEST: manifest_sha256}
        subjects = (
            Subject(name=name, digest=Digests(sha256=each)) for name, each in digests.items()
        )
        return cls(subject=tuple(subjects), predicate=seal)

    @property
    def sums_sha256(self) -> str:
        return self.subject[0].digest.sha256

    @property
    def manifest_sha256(self) -> str:
        return self.subject[1].digest.sha256

    def check(self) -> None:
        """Raise ValueError unless the subjects are the two files, and `unsealed` names every run in between."""
        if tuple(each.name for each in self.subject) != (SUMS, MANIFEST):
            raise ValueError(f"it isn't about {SUMS} and {MANIFEST}")
        seal = self.predicate
        between = tuple(int(each.run) for each in seal.unsealed)
        first = int(seal.previous.run) + 1 if seal.previous else min(between, default=int(seal.run))
        if first > int(seal.run) or between != tuple(range(first, int(seal.run))):
            raise ValueError("it doesn't name every run since the seal before it")


class StoredSeal(Struct, frozen=True, kw_only=True):
    """A seal that was read, and the digest of its file. Nobody has checked the signature yet."""

    envelope: Envelope
    statement: Statement
    sha256: str

    @property
    def seal(self) -> Seal:
        return self.statement.predicate

    @property
    def link(self) -> SealedBefore:
        """The link with which the next seal names this one."""
        return SealedBefore(run=self.seal.run, sha256=self.sha256)


def read_seal(text: bytes, source: str, run: str) -> StoredSeal:
    """Return the seal of a run, whose signature is still to be checked; ValueError says why it can't be trusted."""
    envelope = read_envelope(text, PAYLOAD_TYPE)
    statement = documents.read(envelope.payload, Statement, indent=-1)
    statement.check()
    seal = statement.predicate
    if (seal.source, seal.run) != (source, run):
        raise ValueError("it is the seal of another run")
    envelope.check_signer(seal.key)
    return StoredSeal(envelope=envelope, statement=statement, sha256=sha256(text))
