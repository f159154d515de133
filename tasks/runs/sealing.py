"""Write the artifacts and the manifest of a finished run."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard
from msgspec import convert
from msgspec.structs import asdict, replace

from tasks.evidence import documents
from tasks.evidence.artifacts import describe, describe_part, write_parts
from tasks.evidence.compression import sha256
from tasks.evidence.layout import artifact_key, manifest_key, plan_key
from tasks.evidence.manifests import (
    collected,
    make_manifest,
    read_manifest,
    read_plan,
    resources_of,
)
from tasks.evidence.replay import Evidence, gather
from tasks.reading.sealed import ArtifactPart, Ending, PartContent, StoredManifest, StoredObject
from workers.errors import Busy, StorageConflict
from workers.room import Share
from workers.runtime import Runtime
from workers.storage import deleted_meanwhile

LEASE_RENEW_SECONDS = 10.0
MOST_ORPHANS = 20
"""Most stored parts with other content that a sealer skips. An earlier sealer leaves at most one."""
_LINE_COPIES = 3  # copies of a line in memory: one is read, one waits, one is compressed


class LostLease(Busy):
    """Another worker seals the run now, and stores the same objects."""


class Lease:
    """The right to seal a run. It has to be renewed during the work."""

    def __init__(self, fleet: Runtime, source: str, run: str) -> None:
        token = secrets.token_hex(8)
        self._take: Callable[[], bool] = lambda: fleet.ledger.seal(source, run, token)
        self._renewed_at = time.monotonic()

    def renew(self) -> bool:
        """Take or renew the lease; False if the run isn't ready, or another worker has the lease."""
        self._renewed_at = time.monotonic()
        return self._take()

    def beat(self) -> None:
        """Renew the lease if it is time to; raises `LostLease`."""
        if time.monotonic() - self._renewed_at > LEASE_RENEW_SECONDS and not self.renew():
            raise LostLease


def seal(fleet: Runtime, source: str, run: str, lease: Lease) -> StoredManifest:
    """Store the artifacts, then the manifest; return the manifest that is in storage afterwards."""
    plan = read_plan(fleet.storage, source, run)
    plan_text = fleet.storage.get(plan_key(source, run))
    assert plan_text is not None, "it was just read"
    progress = fleet.ledger.progress(source)
    ended = convert(progress.verdict or "done", Ending)
    with gather(plan, fleet.storage, lease.beat, room=fleet.room) as evidence:
        resources = resources_of(evidence, progress.requests, ended)
        writer = Writer(fleet, evidence, lease)
        for name in collected(resources):
            resources[name] = replace(resources[name], artifacts=writer.write(name))
        manifest = make_manifest(
            evidence,
            resources,
            ended=ended,
            plan_sha256=sha256(plan_text),
            sealed_at=fleet.ledger.time().now,
            orphans=writer.orphans,
        )
    fleet.storage.put_new(manifest_key(source, run), documents.written(manifest))
    stored = read_manifest(fleet.storage, source, run)
    if stored is None:
        raise deleted_meanwhile(manifest_key(source, run))
    return stored


class Writer:
    """Puts a run's artifacts into storage, and adopts the artifacts that an earlier sealer left."""

    def __init__(self, fleet: Runtime, evidence: Evidence, lease: Lease) -> None:
        self._storage = fleet.storage
        self._room = fleet.room
        self._evidence = evidence
        self._plan = evidence.plan
        self._lease = lease
        self.orphans: list[StoredObject] = []  # artifacts of an earlier sealer with other content

    def write(self, resource: str) -> tuple[ArtifactPart, ...]:
        """Store all parts of *resource* and return them."""
        stored: list[ArtifactPart] = []
        number = 0
        with tempfile.TemporaryDirectory() as directory, self._room.share() as share:
            lines = self._beating(
                _measured(self._evidence.resources[resource].collation.lines(), share)
            )
            path = Path(directory) / "part"
            for content in write_parts(lines, path):
                number, part = self._put(resource, number, path, content)
                stored.append(part)
                number += 1
        return tuple(stored)

    def _put(
        self, resource: str, first: int, path: Path, content: PartContent
    ) -> tuple[int, ArtifactPart]:
        """Store a part under the first number that is free or already has the same content.

        Parts with other content, under the numbers before that one, are orphans.
        """
        plan = self._plan
        for number in range(first, first + MOST_ORPHANS + 1):
            self._lease.beat()
            key = artifact_key(plan.source, plan.run, resource, number)
            if self._storage.put_new_file(key, path):
                return number, ArtifactPart(key=key, **asdict(content))
            if adopted := self._adopt(key, content):
                return number, ArtifactPart(key=key, **asdict(adopted))
            self.orphans.append(self._orphan(key))
        raise StorageConflict(
            f"{artifact_key(plan.source, plan.run, resource, first)} and the parts after it hold other "
            f"records, so run {plan.run} can't be sealed: move them away."
        )

    def _orphan(self, key: str) -> StoredObject:
        chunks = self._storage.open(key)
        if chunks is None:
            raise deleted_meanwhile(key)
        digest, size = describe(self._beating(chunks))
        return StoredObject(key=key, sha256=digest, bytes=size)

    def _adopt(self, key: str, content: PartContent) -> PartContent | None:
        chunks = self._storage.open(key)
        if chunks is None:
            raise deleted_meanwhile(key)
        try:
            found = describe_part(self._beating(chunks))
        except (ValueError, zstandard.ZstdError):
            return None
        return found if found.content_sha256 == content.content_sha256 else None

    def _beating(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._lease.beat()
            yield piece


def _measured(lines: Iterator[bytes], share: Share) -> Iterator[bytes]:
    """Yield *lines*. While a line is in use, *share* reserves the memory to hash and compress it."""
    for line in lines:
        share.give_back()
        share.take(_LINE_COPIES * len(line))
        yield line
    share.give_back()
