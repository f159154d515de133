"""The signer's part in a purge: it checks holds and digests, then signs and stores the record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from msgspec.structs import replace

from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import (
    Account,
    ErasedRun,
    Erasure,
    StoredErasure,
    Why,
    record_key,
)
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, run_prefix, seal_key
from tasks.evidence.manifests import read_manifest
from tasks.evidence.seals import SealedBefore, StoredSeal, read_seal
from tasks.evidence.signatures import check_signature, signed_record
from tasks.runs.records import adopted, confirmed, last_sealed
from tasks.runs.signing import sign
from workers.errors import PurgeRefused, SealRefused, StorageConflict
from workers.runtime import Runtime
from workers.signing.heads import Found, Head, Sealed
from workers.state.sources import changed
from workers.storage.registry import PurgeWish, Source

log = logging.getLogger("pagetrail.sign")
MOST_LOST = 10_000
"""Most lost runs that the record of an erasure may name, besides the runs that are in storage."""


def record_purge(fleet: Runtime, source: str, beat: Callable[[], None] = lambda: None) -> None:
    """Sign and store the record of the purge that *source* waits for, if it waits for one. Safe to repeat.

    Runs that can be sealed are sealed first. Raises `PurgeRefused` if the runs may not be erased, `SealRefused` for
    another history, and `Busy` if a legal hold begins at the same moment.
    """
    refusal = ""
    try:
        sign(fleet, source, beat)
    except SealRefused as error:
        refusal = str(error)
    _Recorder(fleet, source, refusal).record()


class _Recorder:
    """One attempt to record one purge. *refusal* is why the source's history can't be sealed, or ""."""

    def __init__(self, fleet: Runtime, source: str, refusal: str) -> None:
        self._fleet = fleet
        self._storage = fleet.storage
        self._source = source
        self._refusal = refusal
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._key = fleet.private_key.opened(self._now.date())
        self._keys = fleet.public_keys.use(self._key.public, self._now.date())

    def record(self) -> None:
        known = self._fleet.heads.find(self._source) or Found(Head(source=self._source), None)
        found = adopted(self._fleet, self._source, self._purged(), known)
        registered, purged = self._fleet.sources.fresh(self._source), self._purged()
        wish = registered.purge
        if wish is None or registered.held_since or purged.erased(wish.through):
            return
        record = self._drawn_up(found.head, registered, wish, purged)
        confirmed(self._fleet, found, self._stored(record, wish))

    def _purged(self) -> Purged:
        return Purged(self._storage, self._source, self._keys)

    def _drawn_up(self, head: Head, registered: Source, wish: PurgeWish, purged: Purged) -> Erasure:
        """Return the record of a purge; `PurgeRefused` if it may not be signed."""
        check_range(purged, self._source, wish.through)
        entries = tuple(self._entries(head, wish.through, purged))
        if purged.newest() > wish.through:  # some runs stay
            self._refuse_unsealed(entries, purged)
        before = purged.last
        return Erasure(
            source=self._source,
            previous=before.link if before else None,
            through=wish.through,
            why=_why(wish),
            retention_months=registered.retention_months if wish.why == "retention" else None,
            by=wish.by,
            at=self._now,
            account=Account(region=registered.region, subdomain=registered.subdomain),
            runs=entries,
            objects=sum(each.objects for each in entries),
            bytes=sum(each.bytes for each in entries),
            key=self._key.public.id,
        )

    def _entries(self, head: Head, through: str, purged: Purged) -> Iterator[ErasedRun]:
        first = int(purged.through or 0) + 1
        for number in range(first, int(through) + 1):
            entry = self._entry(f"{number:08d}")
            if head.sealed and head.sealed.run == entry.run:  # later seals follow this one
                entry = replace(entry, seal_sha256=head.sealed.sha256)
            yield entry

    def _entry(self, run: str) -> ErasedRun:
        sizes = [stored.size for stored in self._storage.list(run_prefix(self._source, run))]
        text = self._storage.get(manifest_key(self._source, run)) if sizes else None
        counted = ErasedRun(
            run=run,
            manifest_sha256=sha256(text) if text is not None else None,
            objects=len(sizes),
            bytes=sum(sizes),
        )
        try:
            manifest = read_manifest(self._storage, self._source, run) if text else None
        except StorageConflict:
            log.warning("erased though unreadable", extra={"source": self._source, "run": run})
            return counted
        if manifest is None:
            return counted
        seal = self._seal(run)
        sealed = seal is not None and seal.statement.manifest_sha256 == manifest.sha256
        return replace(
            counted,
            state=manifest.state,
            period=manifest.period,
            opened_at=manifest.opened_at,
            sealed_at=manifest.sealed_at,
            seal_sha256=seal.sha256 if seal and sealed else None,
        )

    def _seal(self, run: str) -> StoredSeal | None:
        """Return the seal of a run if it is one of ours."""
        try:
            seal = read_seal(
                self._storage.get(seal_key(self._source, run)) or b"", self._source, run
            )
            check_signature(seal, self._keys)
        except ValueError:
            return None
        return seal

    def _refuse_unsealed(self, entries: tuple[ErasedRun, ...], purged: Purged) -> None:
        """Raise `PurgeRefused` unless each run is sealed, and each seal follows the one before it.

        The first seal that stays has to follow them too.
        """
        if self._refusal:
            raise self._refused(self._refusal)
        before = _link(last_sealed(purged.last))
        for each in entries:
            seal = self._seal(each.run)
            if each.seal_sha256 is None or seal is None:
                raise self._refused(f"run {each.run} has no seal")
            if _link(seal.seal.previous) != before:
                raise self._refused(f"the seal of run {each.run} doesn't follow the seal before it")
            before = (each.run, each.seal_sha256)
        for run in purged.kept:
            if run > entries[-1].run and (seal := self._seal(run)):
                if _link(seal.seal.previous) != before:
                    raise self._refused(f"the seal of run {run} doesn't follow the seal before it")
                return

    def _refused(self, why: str) -> PurgeRefused:
        name = self._source
        return PurgeRefused(
            f"The purge of some runs of {name} is refused ({why}), so nothing was deleted: restore these runs from a "
            f"copy of the storage, or pause the source and erase all of its runs with `pagetrail source purge {name}`."
        )

    def _stored(self, record: Erasure, wish: PurgeWish) -> StoredErasure:
        """Store the signed record, unless a legal hold begins. From then on the runs count as erased."""
        key = record_key(self._source, record.through)
        sources = self._fleet.sources
        with sources.alone(self._source):
            now = sources.fresh(self._source)
            if now.held_since or now.purge != wish:
                raise changed(self._source)
            new = self._storage.put_new(key, signed_record(record, self._key.signer))
            if new and sources.fresh(self._source).purge != wish:
                # Our lock ran out before we stored the record, and a hold began: everything must stay.
                self._storage.delete(key)
                raise changed(self._source)
        stored = self._purged().held.get(record.through)
        if stored is None:
            raise in_the_way(self._source, key)
        return stored


def check_range(purged: Purged, source: str, through: str) -> None:
    """Raise `StorageConflict` if far more runs would be erased than there are: *through* is no number of a run."""
    first = int(purged.through or 0) + 1
    if int(through) - first > MOST_LOST + len(purged.kept):
        raise StorageConflict(
            f"Too many runs of {source} before run {through} are lost, so nothing was erased: restore them from a copy "
            f"of the storage, or move {run_prefix(source, through)} away if that run was never collected."
        )


def in_the_way(source: str, key: str) -> StorageConflict:
    """Return the fault for an object that has the name of a record."""
    return StorageConflict(
        f"{key} is in the way, so nothing was erased: `pagetrail verify {source}` says what is wrong with it; move it "
        "away and try again."
    )


def _why(wish: PurgeWish) -> Why:
    return "purge" if wish.why == "purge" else "retention"


def _link(sealed: Sealed | SealedBefore | None) -> tuple[str, str] | None:
    return (sealed.run, sealed.sha256) if sealed else None
