"""Chooses the records of an export: one run's artifact, or the newest version of every record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import zstandard

from tasks.evidence.artifacts import lines_of
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key
from tasks.evidence.manifests import chosen_runs, nothing_sealed, read_manifest
from tasks.reading.answers import identity_of_line
from tasks.reading.catalog import CATALOG
from tasks.reading.sealed import ArtifactPart, Manifest, PreviousRun, StoredManifest
from workers.errors import NotFound, StorageConflict
from workers.storage import Storage

_KEY_DIGEST_BYTES = 16
_FOLLOWS_NONE = "follows no run, although older runs are stored"


@dataclass(frozen=True, slots=True)
class RunReading:
    """One sealed run's records of a resource."""

    run: str
    state: str
    reason: str
    words: str
    backlog: bool  # more of its past is still to be read
    artifacts: tuple[ArtifactPart, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The readings that an export is made from, newest first. The newest version of a record wins."""

    resource: str
    readings: tuple[RunReading, ...]
    newest: RunReading
    gone: str = ""  # the newest erased run; records that only erased runs held are missing

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be missing. A run reads again what earlier runs missed."""
        return self.newest.state == "complete" and not self.newest.backlog and not self.gone


def sealed(storage: Storage, source: str, run: str | None = None) -> Iterator[StoredManifest]:
    """Yield the manifests of *source*, newest first, or the one asked for.

    Each manifest is unchanged and is the one that the next run follows. The oldest follows no run or an erased one.
    Raises `StorageConflict` if that isn't so, and `NotFound` if the run, or the source, has no manifest.
    """
    newer = None
    for name in reversed(chosen_runs(storage, source, run)):
        if manifest := read_manifest(storage, source, name):
            if newer and newer.previous != manifest.link:
                raise _broken(source, newer)
            newer = manifest
            yield manifest
    if newer is None:
        raise nothing_sealed(storage, source, run)
    before = newer.previous
    if run is None and before and not _was_erased(storage, source, before):
        raise _broken(source, newer)


def _was_erased(storage: Storage, source: str, before: PreviousRun) -> bool:
    record = Purged(storage, source).naming(before.run)
    return record is not None and record.digest_of(before.run) == before.sha256


def _broken(source: str, newer: Manifest) -> StorageConflict:
    before, run = newer.previous, newer.run
    key = manifest_key(source, before.run if before else run)
    what = f"is missing or isn't the manifest that run {run} follows" if before else _FOLLOWS_NONE
    return StorageConflict(
        f"{key} {what}: `pagetrail verify {source}` says what else is wrong; restore it from a copy "
        "of the storage."
    )


def choose(
    manifests: Iterable[Manifest], source: str, resource: str, run: str | None = None
) -> Choice:
    """Return the readings of *resource* to export from *manifests* (newest first, or those of *run*).

    A windowed resource needs every run; a snapshot the last complete reading and the partial ones
    after it. Raises `NotFound` if no run read the resource.
    """
    readings: list[RunReading] = []
    newest, before = None, None
    for manifest in manifests:
        before = manifest.previous
        found = manifest.resources.get(resource)
        if found is None:
            continue
        reading = RunReading(
            manifest.run,
            found.state,
            found.reason,
            found.words,
            any(feed.segment in manifest.backlog for feed in CATALOG[resource].feeds),
            found.artifacts,
        )
        newest = newest or reading
        if found.has_artifact:
            readings.append(reading)
            if reading.state == "complete" and not CATALOG[resource].windowed:
                break
    if newest is None:
        raise NotFound(
            f"{source} does not collect {resource}: `pagetrail artifact list {source}` shows what "
            "it does."
        )
    gone = before.run if before and not run and CATALOG[resource].windowed else ""
    return Choice(resource, tuple(readings), newest, gone)


def records(storage: Storage, choice: Choice) -> Iterator[bytes]:
    """Yield each chosen record once, as one line of JSON.

    Raises `StorageConflict` when an artifact is missing or is not the one its manifest names.
    """
    if len(choice.readings) == 1:
        yield from _lines(storage, choice.readings[0])
        return
    seen: set[bytes] = set()
    for reading in choice.readings:
        for line in _lines(storage, reading):
            key = identity_of_line(choice.resource, line).encode()
            digest = hashlib.blake2b(key, digest_size=_KEY_DIGEST_BYTES).digest()
            if digest not in seen:
                seen.add(digest)
                yield line


def _lines(storage: Storage, reading: RunReading) -> Iterator[bytes]:
    for artifact in reading.artifacts:
        key, digest = artifact.key, hashlib.sha256()
        chunks = storage.open(key)
        if chunks is None:
            raise _damaged(key, "is missing")
        try:
            yield from lines_of(_counted(chunks, digest))
        except (ValueError, zstandard.ZstdError):
            raise _damaged(key, "can't be read") from None
        if digest.hexdigest() != artifact.sha256:
            raise _damaged(key, "is not the object its manifest names")


def _counted(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _damaged(key: str, what: str) -> StorageConflict:
    source = "/".join(key.split("/")[:2])
    return StorageConflict(f"{key} {what}: `pagetrail verify {source}` says what else is wrong.")
