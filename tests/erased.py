"""Records of erasures, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tasks.evidence.erasure_records import Account, ErasedRun, Erasure

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def erasure(
    source: str,
    through: int,
    before: Erasure | None = None,
    digests: Mapping[str, str] | None = None,
) -> Erasure:
    """Return the record of the erasure of every run from the one after *before*, or the first, up to *through*."""
    first = int(before.through) + 1 if before else 1
    names = [f"{number:08d}" for number in range(first, through + 1)]
    found = digests or {}
    return Erasure(
        source=source,
        previous=before.link if before else None,
        through=names[-1],
        why="purge",
        retention_months=None,
        by="tester",
        at=AT,
        account=Account(region="us", subdomain="acme"),
        runs=tuple(
            ErasedRun(run=name, manifest_sha256=found.get(name), objects=1, bytes=10)
            for name in names
        ),
        objects=len(names),
        bytes=10 * len(names),
    )
