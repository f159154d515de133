"""Chooses the records of an export: one run's artifact, or the newest version of every record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import zstandard

from tasks.evidence import documents
from tasks.evidence.artifacts import describe, lines_of
from tasks.evidence.compression import sha256
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, seal_key, sums_key
from tasks.evidence.manifests import chosen_runs, nothing_sealed, read_manifest, read_stored
from tasks.evidence.seals import read_seal
from tasks.reading.catalog import CATALOG
from tasks.reading.heads import identity_of_line
from tasks.reading.sealed import ArtifactPart, Manifest, PreviousRun, StoredManifest
from tasks.reading.windows import rfc3339
from workers import exact
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
    until: datetime  # the end of the run's period
    sealed_at: datetime  # no record was read later


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


@dataclass(frozen=True, slots=True)
class AsOf:
    """The end of an export's view: a moment, or a run. Runs that read beyond it don't count."""

    until: datetime | None = None
    run: str | None = None

    def has(self, manifest: Manifest) -> bool:
        """Whether a run ended its period by then."""
        if self.run is not None:
            return manifest.run <= self.run
        return self.until is None or manifest.period.until <= self.until

    def __str__(self) -> str:
        return f"run {self.run}" if self.run else rfc3339(self.until) if self.until else "now"


NOW = AsOf()


class Doubts:
    """What doesn't hold in the runs of an export: the first raises `StorageConflict`, unless they are tolerated."""

    def __init__(self, *, tolerant: bool = False) -> None:
        self._tolerant = tolerant
        self.sentences: list[str] = []

    def add(self, fault: StorageConflict) -> None:
        if not self._tolerant:
            raise fault
        if str(fault) not in self.sentences:
            self.sentences.append(str(fault))

    def check(self, storage: Storage, source: str, choice: Choice) -> None:
        """Add what doesn't hold in the seals and artifacts of the chosen readings. It reads each object once."""
        for reading in choice.readings:
            for fault in _unsealed(storage, source, reading.run):
                self.add(fault)
            for artifact in reading.artifacts:
                chunks = storage.open(artifact.key)
                if chunks is None:
                    self.add(_damaged(artifact.key, "is missing"))
                elif describe(chunks) != (artifact.sha256, artifact.bytes):
                    self.add(_damaged(artifact.key, "is not the object its manifest names"))


def _unsealed(storage: Storage, source: str, run: str) -> Iterator[StorageConflict]:
    """Yield the fault of a stored seal that isn't about the documents of its run."""
    key = seal_key(source, run)
    text = documents.stored(storage, key)
    if text is None:
        return
    manifest, listed = (
        documents.stored(storage, each(source, run)) for each in (manifest_key, sums_key)
    )
    try:
        statement = read_seal(text, source, run).statement
    except ValueError as error:
        yield _damaged(key, f"is damaged ({error})")
        return
    found = tuple(sha256(each) if each is not None else None for each in (listed, manifest))
    if found != (statement.sums_sha256, statement.manifest_sha256):
        yield _damaged(key, "is about another manifest, or another list of digests")


def sealed(
    storage: Storage, source: str, run: str | None = None, doubts: Doubts | None = None
) -> Iterator[StoredManifest]:
    """Yield the manifests of *source*, newest first, or the one asked for.

    Each manifest is unchanged and is the one that the next run follows. The oldest follows no run or an erased one. If
    that isn't so, *doubts* are told (default: they raise `StorageConflict`). Raises `NotFound` if the run, or the
    source, has no manifest.
    """
    doubts, newer = doubts or Doubts(), None
    for name in reversed(chosen_runs(storage, source, run)):
        if manifest := _manifest(storage, source, name, doubts):
            if newer and newer.previous != manifest.link:
                doubts.add(_broken(source, newer))
            newer = manifest
            yield manifest
    if newer is None:
        raise nothing_sealed(storage, source, run)
    before = newer.previous
    if run is None and before and not _was_erased(storage, source, before):
        doubts.add(_broken(source, newer))


def _manifest(storage: Storage, source: str, run: str, doubts: Doubts) -> StoredManifest | None:
    """Return the manifest of a run; None if it is open, or so damaged that it can't be read."""
    try:
        return read_manifest(storage, source, run)
    except StorageConflict as fault:
        doubts.add(fault)
    with suppress(StorageConflict):
        if found := read_stored(storage, source, run):
            return found[0]
    return None


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
    manifests: Iterable[Manifest],
    source: str,
    resource: str,
    run: str | None = None,
    as_of: AsOf = NOW,
) -> Choice:
    """Return the readings of *resource* to export from *manifests* (newest first, or those of *run*).

    A windowed resource needs every run until *as_of*; a snapshot the last complete reading and the partial ones after
    it. Raises `NotFound` if no run read the resource.
    """
    readings: list[RunReading] = []
    newest, before = None, None
    for manifest in manifests:
        before = manifest.previous
        found = manifest.resources.get(resource)
        if found is None or not as_of.has(manifest):
            continue
        reading = RunReading(
            manifest.run,
            found.state,
            found.reason,
            found.words,
            any(feed.segment in manifest.backlog for feed in CATALOG[resource].feeds),
            found.artifacts,
            manifest.period.until,
            manifest.sealed_at,
        )
        newest = newest or reading
        if found.has_artifact:
            readings.append(reading)
            if reading.state == "complete" and not CATALOG[resource].windowed:
                break
    if newest is None and as_of != NOW:
        raise NotFound(
            f"No run of {source} that read {resource} ended its period by {as_of}: `pagetrail run list "
            f"{source}` shows the periods."
        )
    if newest is None:
        raise NotFound(
            f"{source} does not collect {resource}: `pagetrail artifact list {source}` shows what "
            "it does."
        )
    gone = before.run if before and not run and CATALOG[resource].windowed else ""
    return Choice(resource, tuple(readings), newest, gone)


def records(storage: Storage, choice: Choice, doubts: Doubts | None = None) -> Iterator[bytes]:
    """Yield each chosen record once, as one line of JSON.

    When an artifact is missing or is not the one its manifest names, *doubts* are told (default: they raise
    `StorageConflict`).
    """
    doubts = doubts or Doubts()
    if len(choice.readings) == 1:
        yield from _lines(storage, choice.readings[0], doubts)
        return
    seen: set[bytes] = set()
    for reading in choice.readings:
        for line in _lines(storage, reading, doubts):
            key = identity_of_line(choice.resource, line).encode()
            digest = hashlib.blake2b(key, digest_size=_KEY_DIGEST_BYTES).digest()
            if digest not in seen:
                seen.add(digest)
                yield line


def _lines(storage: Storage, reading: RunReading, doubts: Doubts) -> Iterator[bytes]:
    for artifact in reading.artifacts:
        key, digest = artifact.key, hashlib.sha256()
        chunks = storage.open(key)
        if chunks is None:
            doubts.add(_damaged(key, "is missing"))
            continue
        lines = lines_of(_counted(chunks, digest))
        try:
            yield from (_checked(lines, key, doubts) if doubts.sentences else lines)
        except (ValueError, zstandard.ZstdError):
            doubts.add(_damaged(key, "can't be read"))
        if digest.hexdigest() != artifact.sha256:
            doubts.add(_damaged(key, "is not the object its manifest names"))


def _checked(lines: Iterator[bytes], key: str, doubts: Doubts) -> Iterator[bytes]:
    """Yield those of the lines that are records. An artifact that was changed may have others."""
    for line in lines:
        try:
            found = exact.loads(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            yield line
        else:
            doubts.add(_damaged(key, "has lines that are not records"))


def _counted(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _damaged(key: str, what: str) -> StorageConflict:
    source = "/".join(key.split("/")[:2])
    return StorageConflict(f"{key} {what}: `pagetrail verify {source}` says what else is wrong.")
