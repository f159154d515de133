"""Read the evidence: artifacts, exports, verification. These functions need only storage."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tasks.api.wishes import check_resources
from tasks.evidence.exports import Choice, choose, sealed
from tasks.evidence.exports import records as exported
from tasks.evidence.manifests import nothing_sealed
from tasks.evidence.outcomes import Artifact, RunOutcome, artifacts_of, sealed_outcome
from tasks.verifying.report import Report
from tasks.verifying.verify import verify as verified
from workers.signing.keys import PublicKeys
from workers.storage import Storage
from workers.storage.registry import parse_source_id


@dataclass(frozen=True, slots=True)
class Export:
    """The records of a resource, one line of JSON each, and the readings that they come from.

    If there are no readings, no run could read the resource, and `choice.newest` says why.
    """

    choice: Choice
    records: Iterator[bytes]


def artifacts(
    storage: Storage, source_id: str, run: str | None = None
) -> tuple[RunOutcome, list[Artifact]]:
    """Return a sealed run (default: the newest) and its artifacts; `NotFound` if there isn't one."""
    manifest = next(sealed(storage, parse_source_id(source_id), run))
    return sealed_outcome(manifest), artifacts_of(manifest)


def export(storage: Storage, source_id: str, resource: str, run: str | None = None) -> Export:
    """Return the records of a resource: the newest version of each, or those of one run.

    Records are read from storage while the caller iterates. If an artifact was changed, `StorageConflict` is raised
    then. Raises `NotFound` if no run is sealed, or if no sealed run was asked to read the resource.
    """
    check_resources([resource])
    manifests = sealed(storage, parse_source_id(source_id), run)
    choice = choose(manifests, source_id, resource, run)
    return Export(choice, exported(storage, choice))


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
