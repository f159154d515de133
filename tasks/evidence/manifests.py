"""Makes the manifest that ends a run, and reads manifests and plans back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from msgspec.structs import asdict

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import RECORDS, record_key
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, plan_key, sums_key
from tasks.evidence.replay import Evidence
from tasks.evidence.sums import sums
from tasks.evidence.verdicts import outside, state_of, states, vanished, withheld
from tasks.reading.plans import Plan
from tasks.reading.sealed import (
    Ending,
    Manifest,
    RunState,
    SealedAccount,
    SealedCredential,
    SealedResource,
    StoredManifest,
    StoredObject,
)
from tasks.reading.windows import rfc3339
from workers.errors import NotFound, StorageConflict
from workers.signing.keys import PublicKeys
from workers.storage import Storage
from workers.storage.registry import is_registered


def resources_of(
    evidence: Evidence, requests: Mapping[str, int], ended: Ending
) -> dict[str, SealedResource]:
    """Return the result of every resource, still without artifacts."""
    verdicts = states(evidence, refused=ended == "refused")
    return {
        name: SealedResource(
            state=state_of(verdicts[name]),
            reason=verdicts[name].reason,
            words=verdicts[name].words,
            withheld=withheld(evidence, name),
            vanished=tuple(vanished(evidence, name)),
            period=evidence.plan.period_of(name),
            outside=tuple(outside(evidence, name)),
            records=gathered.collation.records,
            sightings=gathered.collation.sightings,
            redacted=gathered.redacted,
            requests=max(gathered.requests, requests.get(name, 0)),
            windows=tuple(gathered.windows),
        )
        for name, gathered in evidence.resources.items()
    }


def run_state(resources: Mapping[str, SealedResource], credential: str, ended: Ending) -> RunState:
    """Return the state of a run with these resources."""
    if ended == "cancelled":
        return ended
    nothing = all(r.state in ("failed", "unavailable") for r in resources.values())
    if nothing and any(r.reason != "plan" for r in resources.values()):
        return "failed"
    whole = all(
        r.state == "complete" or (r.state == "unavailable" and r.reason == "plan")
        for r in resources.values()
    )
    return "complete" if whole and credential != "user" else "partial"


def make_manifest(
    evidence: Evidence,
    resources: Mapping[str, SealedResource],
    *,
    ended: Ending,
    plan_sha256: str,
    sealed_at: datetime,
    orphans: Iterable[StoredObject],
) -> Manifest:
    """Return the manifest of a run."""
    plan = evidence.plan
    state = run_state(resources, evidence.credential, ended)
    advanced = state in ("complete", "partial")
    return Manifest(
        source=plan.source,
        run=plan.run,
        previous=plan.previous,
        plan_sha256=plan_sha256,
        state=state,
        ended=ended,
        opened_at=plan.opened_at,
        scheduled_at=plan.scheduled_at,
        sealed_at=sealed_at,
        account=SealedAccount(
            region=plan.region,
            subdomain=plan.subdomain,
            seen=tuple(evidence.subdomains),
            renamed=plan.renamed,
        ),
        credential=SealedCredential(
            kind=evidence.credential, fingerprints=tuple(sorted(evidence.fingerprints))
        ),
        period=plan.period,
        reached=plan.period.until if advanced else plan.period.since,
        backfill=plan.backfill,
        resources=resources,
        covered=evidence.covered,
        backlog=evidence.backlog,
        unsettled=evidence.unsettled,
        denied=evidence.denied,
        sizes=evidence.sizes,
        # The next run goes on with a backlog at once, unless this one read nothing new.
        continues=advanced and bool(evidence.backlog) and evidence.progressed,
        unreadable=tuple(evidence.unreadable),
        orphans=tuple(orphans),
    )


def runs_of(storage: Storage, source: str) -> list[str]:
    """Return the ids of the runs of *source* that were not erased, oldest first."""
    return Purged(storage, source).kept


def read_plan(storage: Storage, source: str, run: str) -> Plan:
    """Return the plan of a run, its first object; `StorageConflict` if it is missing or damaged."""
    key = plan_key(source, run)
    text = documents.stored(storage, key)
    if text is None:
        raise StorageConflict(
            f"{key} is missing, so run {run} can't go on: restore it from a copy of the storage, or "
            "move away what else is left of the run."
        )
    try:
        return documents.read(text, Plan, source=source, run=run)
    except ValueError as error:
        raise _damaged(source, key, str(error)) from None


def read_manifest(storage: Storage, source: str, run: str) -> StoredManifest | None:
    """Return the manifest of a run, or None while the run is open; `StorageConflict` if it can't be trusted.

    It is compared with the run's `SHA256SUMS`, once that is stored.
    """
    found = read_stored(storage, source, run)
    if found is None:
        return None
    listed = documents.stored(storage, sums_key(source, run))
    if listed is not None and listed != sums(*found):
        raise _damaged(source, manifest_key(source, run), "SHA256SUMS lists another one")
    return found[0]


def read_stored(storage: Storage, source: str, run: str) -> tuple[StoredManifest, bytes] | None:
    """Return the manifest of a run and the text of its file, compared with nothing; None while the run is open."""
    key = manifest_key(source, run)
    text = documents.stored(storage, key)
    try:
        return (stored_manifest(text, source, run), text) if text is not None else None
    except ValueError as error:
        raise _damaged(source, key, str(error)) from None


def stored_manifest(text: bytes, source: str, run: str) -> StoredManifest:
    """Return the manifest of a run from the text of its file; ValueError says why it can't be trusted."""
    manifest = documents.read(text, Manifest, source=source, run=run)
    return StoredManifest(**asdict(manifest), sha256=sha256(text))


def _damaged(source: str, key: str, why: str) -> StorageConflict:
    return StorageConflict(
        f"{key} is damaged ({why}): `pagetrail verify {source}` says what else is wrong; restore it "
        "from a copy of the storage."
    )


def account_of(storage: Storage, source: str) -> tuple[str, str] | None:
    """Return region and subdomain of the account whose evidence *source* holds or held; None without evidence."""
    for run in _newest_first(storage, source):
        # All runs of a source belong to one account, so a damaged object can be skipped for another.
        with suppress(StorageConflict):
            if manifest := read_manifest(storage, source, run):
                return manifest.account.region, manifest.account.subdomain
        with suppress(StorageConflict):
            plan = read_plan(storage, source, run)
            return plan.region, plan.subdomain
    erased = Purged(storage, source).last
    return (erased.account.region, erased.account.subdomain) if erased else None


def _newest_first(storage: Storage, source: str) -> Iterator[str]:
    """Yield the runs of *source*, newest first. Older runs are listed only if the caller asks for them."""
    if newest := Purged(storage, source).newest():
        yield newest
        yield from reversed(runs_of(storage, source)[:-1])


def chosen_runs(
    storage: Storage, source: str, run: str | None = None, keys: PublicKeys | None = None
) -> list[str]:
    """Return the run asked for, or all runs; `NotFound` if the run or the source does not exist.

    With *keys*, a record of an erasure hides no run unless it is signed.
    """
    purged = Purged(storage, source, keys)
    runs = purged.kept
    if run is None and runs:
        return runs
    if run in runs:
        return [run]
    if not (runs or storage.children(f"{RECORDS}/{source}") or is_registered(storage, source)):
        raise NotFound(
            f"There is no source {source} in {storage}: correct the name, or the storage with "
            "PAGETRAIL_STORAGE_URL or PAGETRAIL_DATA_DIR."
        )
    if run is None:
        return []
    if record := purged.naming(run):
        raise NotFound(
            f"Run {run} of {source} was purged at {rfc3339(record.at)}: "
            f"{record_key(source, record.through)} is the record of it."
        )
    raise NotFound(
        f"{source} has no run {run}: `pagetrail run list {source}` shows those there are."
    )


def nothing_sealed(storage: Storage, source: str, run: str | None) -> NotFound:
    """Return the fault for a *source* without a sealed run, or for a *run* that is still open."""
    what = f"Run {run} of {source} is not sealed" if run else f"{source} has no sealed run"
    gone = "" if run else _purged_so_far(storage, source)
    if is_registered(storage, source):
        return NotFound(f"{what} yet{gone}: `pagetrail collect {source} --wait` waits for one.")
    return NotFound(f"{what} in this copy{gone}: make a new copy after a run was sealed.")


def no_run(storage: Storage, source: str) -> NotFound:
    """Return the fault for a *source* of which no run is stored."""
    gone = _purged_so_far(storage, source)
    if is_registered(storage, source):
        return NotFound(f"{source} has no run{gone}: `pagetrail collect {source}` starts one.")
    return NotFound(
        f"{source} has no run in this copy{gone}: make a new copy after a run was sealed."
    )


def _purged_so_far(storage: Storage, source: str) -> str:
    purged = Purged(storage, source).through
    return f" (all up to {purged} were purged)" if purged else ""


def collected(resources: Mapping[str, SealedResource]) -> list[str]:
    """Return the resources that have an artifact."""
    return [name for name, each in resources.items() if each.has_artifact]
