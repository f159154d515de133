"""The signer's view of the records of erasures: which one it knows as the newest, and which ones it takes over."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import StoredErasure, record_key
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key
from tasks.runs.events import PurgeSigned
from workers.errors import NotFound, SealRefused
from workers.runtime import Runtime
from workers.signing.heads import Found, Head, Recorded, Sealed
from workers.state.sources import changed

log = logging.getLogger("pagetrail.sign")


def adopted(fleet: Runtime, source: str, purged: Purged, found: Found) -> Found:
    """Return the head after all of our own records that follow it. *purged* knows the signer's keys.

    The signer died after it had stored a record, or its store was restored from an older copy. Raises `SealRefused` if
    the record that the head names is gone or another one, and `Busy` after it took back a record (`_is_called_off`).
    """
    known = found.head.purged
    if known:
        key = record_key(source, known.through)
        text = fleet.storage.get(key)
        if text is None or sha256(text) != known.sha256:
            raise SealRefused(
                f"{key} isn't the newest record of an erasure (digest {known.sha256}): restore it from a copy of the "
                "storage."
            )
    last = known.through if known else ""
    if purged.names and purged.names[-1] > last:
        for record in list(purged.held.values()):
            if record.through > last:
                if _is_called_off(fleet, record, purged):
                    fleet.storage.delete(record_key(source, record.through))
                    raise changed(source)
                found = confirmed(fleet, found, record)
    return found


def confirmed(fleet: Runtime, found: Found, record: StoredErasure) -> Found:
    """Tell of a stored record, then note it in the head. A repeat of the event has the same id."""
    told = PurgeSigned(
        through=record.through,
        sha256=record.sha256,
        previous=record.previous.sha256 if record.previous else None,
        key=record.key,
    )
    fleet.events.emit(told, record.source, about=record.through)
    moved = _moved(found.head, record)
    log.info("recorded %s", record.sha256, extra={"source": record.source, "run": record.through})
    return fleet.heads.replace(found, moved)


def _moved(head: Head, record: StoredErasure) -> Head:
    """Return the head that names the record, and the newest seal among those that the head or the record names."""
    purged = Recorded(through=record.through, sha256=record.sha256)
    newest = last_sealed(record)
    behind = newest and (head.sealed is None or head.sealed.run < newest.run)
    return replace(head, purged=purged, sealed=newest if behind else head.sealed)


def last_sealed(record: StoredErasure | None) -> Sealed | None:
    """Return the newest sealed run that a record names."""
    for each in reversed(record.runs if record else ()):
        if each.seal_sha256 and each.manifest_sha256:
            return Sealed(
                run=each.run, sha256=each.seal_sha256, manifest_sha256=each.manifest_sha256
            )
    return None


def _is_called_off(fleet: Runtime, record: StoredErasure, purged: Purged) -> bool:
    """Whether a legal hold had called the purge off before its record was stored. Nothing is deleted then.

    The signer was frozen between its look at the hold and the record.
    """
    try:
        wish = fleet.sources.fresh(record.source).purge
    except NotFound:  # the registry was lost
        return False
    return (
        wish is None
        and purged.finished_through < record.through
        and all(
            fleet.storage.get(manifest_key(record.source, each.run)) is not None
            for each in record.runs
            if each.manifest_sha256
        )
    )
