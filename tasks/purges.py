"""What was erased of a source's evidence: the records of it, outside the evidence, and what they mean."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from tasks.windows import moment
from workers.sources import Source, State
from workers.storage import Storage

RECORDS = ".purged"
"""Storage prefix of the records; outside the evidence, whose runs they outlive."""
_DONE = ".done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """One erasure: every run of a source up to *through*, and when all of them were gone."""

    source: str
    through: str
    why: str  # purge or retention
    by: str
    at: datetime
    runs: tuple[str, ...]
    objects: int
    bytes: int


def record_key(source: str, run: str) -> str:
    """Return the key of the record that is stored before the runs up to *run* are erased."""
    return f"{RECORDS}/{source}/{run}.json"


def done_key(source: str, run: str) -> str:
    """Return the key of what is stored once the runs up to *run* are erased."""
    return f"{RECORDS}/{source}/{run}{_DONE}.json"


def records_of(storage: Storage, source: str) -> list[str]:
    """Return the last run of every erasure, oldest first."""
    names = storage.children(f"{RECORDS}/{source}")
    return [name.removesuffix(".json") for name in names if _DONE not in name]


def unfinished(storage: Storage, source: str) -> list[str]:
    """Return the erasures that something may be left of."""
    names = [name.removesuffix(".json") for name in storage.children(f"{RECORDS}/{source}")]
    return [name for name in names if _DONE not in name and name + _DONE not in names]


def purged_through(storage: Storage, source: str) -> str:
    """Return the last run that was erased with all before it; "" if none was.

    It holds from the moment the record is stored: whatever is left of such a run is no evidence any more.
    """
    return max(records_of(storage, source), default="")


def record_naming(storage: Storage, source: str, run: str) -> dict[str, Any] | None:
    """Return the record of the erasure that took *run*; None if it wasn't erased, or the record can't be read."""
    through = min((each for each in records_of(storage, source) if each >= run), default="")
    text = storage.get(record_key(source, through)) if through else None
    try:
        record: dict[str, Any] = orjson.loads(text or b"")
        purge_of(record), digests_of(record), account_of(record)
    except (ValueError, TypeError, KeyError):
        return None
    return record


def digests_of(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Return, per run that a record names, the digest of its manifest; None if it had none."""
    return {run["run"]: run["manifest_sha256"] for run in record["runs"]}


def account_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return region and subdomain of the account whose evidence was erased."""
    return record["account"]["region"], record["account"]["subdomain"]


def purge_of(record: Mapping[str, Any]) -> Purge:
    """Return what a record says."""
    names = ("source", "through", "why", "by", "objects", "bytes")
    return Purge(
        **{name: record[name] for name in names},
        at=moment(record["at"]),
        runs=tuple(digests_of(record)),
    )


def wants_look(source: Source) -> bool:
    """Whether there is anything that must be done for *source* once a day."""
    return source.state is not State.DISCONNECTED or source.retention_months is not None


def months_before(when: datetime, months: int) -> datetime:
    """Return the same time so many calendar months earlier; of a shorter month, its last day."""
    year, month = divmod(when.year * 12 + when.month - 1 - months, 12)
    day = min(when.day, monthrange(year, month + 1)[1])
    return when.replace(year=year, month=month + 1, day=day)
