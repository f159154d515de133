"""Read the evidence: artifacts, exports, verification. These functions need only storage."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from tasks.api.wishes import check_resources
from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasures import Purged
from tasks.evidence.exports import NOW, AsOf, Choice, Doubts, choose, sealed
from tasks.evidence.exports import records as exported
from tasks.evidence.layout import seal_key
from tasks.evidence.manifests import (
    chosen_runs,
    no_run,
    nothing_sealed,
    read_manifest,
    read_plan,
    runs_of,
)
from tasks.evidence.outcomes import (
    Artifact,
    Missing,
    RunOutcome,
    artifacts_of,
    damaged_outcome,
    missing_of,
    open_outcome,
    sealed_outcome,
)
from tasks.verifying.report import Report
from tasks.verifying.verify import verify as verified
from workers.errors import StorageConflict
from workers.signing.keys import PublicKeys
from workers.storage import Storage
from workers.storage.registry import parse_source_id

_READERS = 8


@dataclass(frozen=True, slots=True)
class Export:
    """The records of a resource, one line of JSON each, and the readings that they come from.

    If there are no readings, no run could read the resource, and `choice.newest` says why. `doubts` has the sentences
    of an unverified export about what doesn't hold.
    """

    choice: Choice
    records: Iterator[bytes]
    doubts: list[str]


def stored_runs(storage: Storage, source_id: str) -> list[RunOutcome]:
    """Return the stored runs of a source, oldest first; the last may be open, and any may be damaged.

    Only Redis knows how many requests an open run has sent. Raises `NotFound` if nothing is stored of the source.
    """
    chosen_runs(storage, parse_source_id(source_id))
    with ThreadPoolExecutor(_READERS) as readers:
        found = runs_of(storage, source_id)
        return list(readers.map(lambda run: _listed(storage, source_id, run), found))


def stored_run(storage: Storage, source_id: str, run: str | None = None) -> RunOutcome:
    """Return one stored run of a source (default: the newest); `NotFound` if there isn't one."""
    source = parse_source_id(source_id)
    newest = "" if run else Purged(storage, source).newest()
    found = [newest] if newest else chosen_runs(storage, source, run)
    if not found:
        raise no_run(storage, source)
    return outcome_of(storage, source, found[-1])


def _listed(storage: Storage, source: str, run: str) -> RunOutcome:
    try:
        return outcome_of(storage, source, run)
    except StorageConflict:  # a damaged manifest must not hide the other runs
        return damaged_outcome(read_plan(storage, source, run))


def outcome_of(storage: Storage, source: str, run: str) -> RunOutcome:
    """Return a run that is known to be stored, without listing the others."""
    if manifest := read_manifest(storage, source, run):
        seal = documents.stored(storage, seal_key(source, run))
        return sealed_outcome(manifest, sha256(seal) if seal is not None else None)
    return open_outcome(read_plan(storage, source, run))


def artifacts(
    storage: Storage, source_id: str, run: str | None = None
) -> tuple[RunOutcome, list[Artifact], list[Missing]]:
    """Return a sealed run (default: the newest), its artifacts, and the resources that it has none of.

    Raises `NotFound` if there isn't such a run.
    """
    manifest = next(sealed(storage, parse_source_id(source_id), run))
    return sealed_outcome(manifest), artifacts_of(manifest), missing_of(manifest)


def export(
    storage: Storage,
    source_id: str,
    resource: str,
    run: str | None = None,
    *,
    as_of: AsOf = NOW,
    unverified: bool = False,
) -> Export:
    """Return the records of a resource: the newest version of each until *as_of*, or those of one run.

    Raises `StorageConflict` if a document, digest or seal of a run that it reads doesn't hold; if *unverified*, that is
    one of the `doubts` instead, and what can be read is returned. Records are read from storage while the caller
    iterates. Raises `NotFound` if no run is sealed, or if no sealed run was asked to read the resource.
    """
    check_resources([resource])
    doubts = Doubts(tolerant=unverified)
    manifests = sealed(storage, parse_source_id(source_id), run, doubts)
    choice = choose(manifests, source_id, resource, run, as_of)
    doubts.check(storage, source_id, choice)
    return Export(choice, exported(storage, choice, doubts), doubts.sentences)


def verify(
    storage: Storage,
    source_id: str,
    run: str | None = None,
    *,
    keys: PublicKeys | None = None,
    head: str | None = None,
    as_at: datetime | None = None,
) -> Report:
    """Recompute every digest and count of a source, or of one run, and name every difference.

    *keys* check the signatures of seals; *head* is the digest of a seal that has to be there; *as_at* is the time until
    which an open run must have ended.

    Differences are reported, not raised. Raises `NotFound` if no run is sealed.
    """
    report = Report()
    source = parse_source_id(source_id)
    for grown in verified(storage, source, run, keys=keys, head=head, as_at=as_at):
        report = grown
    if not report.runs and report.ok:
        raise nothing_sealed(storage, source_id, run)
    return report
