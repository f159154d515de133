"""Records of erasures, made and signed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.evidence.erasure_records import (
    Account,
    ErasedRun,
    Erasure,
    StoredErasure,
    read_record,
)
from tasks.evidence.signatures import signed_record
from tests.seals import KEY
from workers.signing.signers import SigningKey

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


def erasure(
    source: str,
    through: int,
    before: StoredErasure | None = None,
    digests: Mapping[str, str] | None = None,
    seals: Mapping[str, str] | None = None,
    key: SigningKey = KEY,
    at: datetime = AT,
) -> Erasure:
    """Return the record of the erasure of every run from the one after *before*, or the first, up to *through*."""
    first = int(before.through) + 1 if before else 1
    names = [f"{number:08d}" for number in range(first, through + 1)]
    found, sealed = digests or {}, seals or {}
    return Erasure(
        source=source,
        previous=before.link if before else None,
        through=names[-1],
        why="purge",
        retention_months=None,
        by="tester",
        at=at,
        account=Account(region="us", subdomain="acme"),
        runs=tuple(
            ErasedRun(
                run=name,
                manifest_sha256=found.get(name),
                seal_sha256=sealed.get(name),
                objects=1,
                bytes=10,
            )
            for name in names
        ),
        objects=len(names),
        bytes=10 * len(names),
        key=key.public.id,
    )


def text_of(record: Erasure, key: SigningKey = KEY) -> bytes:
    """Return the file of a record, signed with *key*."""
    return signed_record(record, key.signer)


def stored(record: Erasure, key: SigningKey = KEY) -> StoredErasure:
    """Return a record as it is read back."""
    return read_record(text_of(record, key), record.source, record.through)
