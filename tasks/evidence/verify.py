"""Recomputes every count and digest of a manifest from storage, and names every difference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
import zstandard

from tasks.evidence import documents
from tasks.evidence.artifacts import RUN, Collation, describe_part
from tasks.evidence.compression import sha256
from tasks.evidence.envelopes import decode_page
from tasks.evidence.erasure_records import Erasure, Purge, record_key, summary
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, page_key, plan_key, run_prefix, sums_key
from tasks.evidence.manifests import (
    chosen_runs,
    make_manifest,
    resources_of,
    run_state,
    stored_manifest,
)
from tasks.evidence.replay import Evidence, gather
from tasks.evidence.sums import listed_pages, sums
from tasks.evidence.verdicts import NOT_KNOWN
from tasks.reading.catalog import CATALOG
from tasks.reading.plans import Plan
from tasks.reading.sealed import (
    ArtifactPart,
    Manifest,
    PreviousRun,
    SealedAccount,
    SealedResource,
)
from workers.storage import Storage
from workers.storage.renamings import Renaming, leads

_COMPARED = (
    "state",
    "reason",
    "period",
    "outside",
    "withheld",
    "vanished",
    "records",
    "sightings",
    "redacted",
    "windows",
)
_HANDED_ON = ("covered", "backlog", "unsettled", "denied", "sizes", "account")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs from what was sealed.

    `kind`: missing, changed, extra, manifest (it was changed), chain (it doesn't follow the manifest before), count,
    or record (an object among the records of erasures is not a valid one). Two kinds don't count: late (a page stored
    too late to be counted) and left (an object of a purged run).
    """

    run: str
    key: str
    kind: str
    detail: str

    @property
    def counts(self) -> bool:
        return self.kind not in ("late", "left")


@dataclass(slots=True)
class Report:
    runs: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)  # runs without a manifest can't be verified yet
    objects: int = 0
    differences: list[Difference] = field(default_factory=list)
    renamed: list[tuple[str, Renaming]] = field(default_factory=list)  # run that followed it
    purged: list[Purge] = field(
        default_factory=list
    )  # according to the record before the oldest run

    @property
    def ok(self) -> bool:
        return not any(difference.counts for difference in self.differences)


def verify(storage: Storage, source: str, run: str | None = None) -> Iterator[Report]:
    """Verify one run of *source*, or all; yield the growing report after each run.

    Raises `NotFound` for a run that doesn't exist.
    """
    report = Report()
    for each in chosen_runs(storage, source, run):
        RunCheck(storage, source, each, report).check()
        yield report
    if run is None:
        report.differences += _beside(storage, source)
        yield report


def _beside(storage: Storage, source: str) -> Iterator[Difference]:
    """Yield the differences outside the verified runs."""
    purged = Purged(storage, source)
    for key, why in purged.faults():
        yield Difference("", key, "record", why)
    for run in purged.left:
        detail = "the run was purged, and something of it is still stored"
        yield Difference(run, run_prefix(source, run), "left", detail)
    for name in storage.children(f"{source}/runs"):
        if not RUN.fullmatch(name):
            yield Difference("", run_prefix(source, name), "extra", "no run is called so")


class RunCheck:
    """The verification of one run."""

    def __init__(self, storage: Storage, source: str, run: str, report: Report) -> None:
        self._storage = storage
        self._source = source
        self._run = run
        self._report = report
        self._sizes = {o.key: o.size for o in storage.list(run_prefix(source, run))}

    def check(self) -> None:
        """Add the findings to the report."""
        key = manifest_key(self._source, self._run)
        text = self._storage.get(key)
        if text is None:
            self._report.open.append(self._run)
            return
        self._report.runs.append(self._run)
        self._report.objects += len(self._sizes)
        try:
            manifest = stored_manifest(text, self._source, self._run)
        except ValueError as error:
            self._differs(key, "manifest", str(error))
            return
        try:
            self._recompute(manifest)
            self._sums(manifest, text)
        except (ValueError, TypeError, LookupError, AttributeError):
            # Its digest fits, but no seal wrote it.
            self._differs(key, "manifest", "it hasn't the shape of a manifest")

    def _sums(self, manifest: Manifest, text: bytes) -> None:
        key = sums_key(self._source, self._run)
        stored = self._storage.get(key)
        if stored is None:
            self._differs(key, "missing", "the list of digests is gone")
        elif stored != sums(manifest, text):
            self._differs(key, "changed", "it doesn't list what the manifest names")

    def _recompute(self, manifest: Manifest) -> None:
        plan = self._plan(manifest)
        if plan is None:
            return
        self._chain(manifest, plan)
        self._report.renamed += ((self._run, each) for each in plan.renamed)
        before = len(self._report.differences)
        for resource in manifest.resources.values():
            for part in resource.artifacts:
                self._artifact(part)
        with gather(plan, self._storage, only=listed_pages(manifest)) as evidence:
            self._pages(manifest, evidence)
            if len(self._report.differences) == before:
                self._counts(manifest, evidence)
        self._unlisted(manifest)

    def _differs(self, key: str, kind: str, detail: str) -> None:
        self._report.differences.append(Difference(self._run, key, kind, detail))

    def _plan(self, manifest: Manifest) -> Plan | None:
        key = plan_key(self._source, self._run)
        text = self._storage.get(key)
        if text is None:
            self._differs(key, "missing", "the plan is gone")
        elif sha256(text) != manifest.plan_sha256:
            self._differs(key, "changed", "the plan isn't the one this run followed")
        else:
            return documents.read(text, Plan, source=self._source, run=self._run)
        return None

    def _chain(self, manifest: Manifest, plan: Plan) -> None:
        previous = manifest.previous
        if not previous:
            return
        if record := Purged(self._storage, self._source).naming(previous.run):
            self._purged(previous, record)
            return
        key = manifest_key(self._source, previous.run)
        text = self._storage.get(key)
        if text is None:
            self._differs(key, "chain", f"run {self._run} follows it, and it is gone")
        elif sha256(text) != previous.sha256:
            self._differs(key, "chain", f"it isn't the manifest that run {self._run} follows")
        else:
            before = stored_manifest(text, self._source, previous.run)
            self._account(key, before.account, plan)

    def _account(self, key: str, previous: SealedAccount, plan: Plan) -> None:
        """Name another account than that of the manifest before, unless a person confirmed that it was renamed."""
        region, subdomain = previous.region, previous.subdomain
        if region != plan.region or not leads(plan.renamed, subdomain, plan.subdomain):
            self._differs(
                key,
                "chain",
                f"it is of the account {subdomain} in region {region}, and run {self._run} of "
                f"{plan.subdomain} in region {plan.region}",
            )

    def _purged(self, previous: PreviousRun, record: Erasure) -> None:
        """Take the record of a purge in place of the manifest this run follows."""
        if record.digest_of(previous.run) == previous.sha256:
            self._report.purged.append(summary(record))
            return
        key = record_key(self._source, record.through)
        self._differs(key, "chain", f"it doesn't name the manifest that run {self._run} follows")

    def _artifact(self, part: ArtifactPart) -> None:
        chunks = self._storage.open(part.key)
        if chunks is None:
            self._differs(part.key, "missing", "the artifact is gone")
            return
        try:
            found = describe_part(chunks)
        except (ValueError, zstandard.ZstdError):
            self._differs(part.key, "changed", "the artifact can't be read")
            return
        if ArtifactPart(key=part.key, **msgspec.structs.asdict(found)) != part:
            self._differs(part.key, "changed", "the artifact isn't the one that was sealed")

    def _pages(self, manifest: Manifest, evidence: Evidence) -> None:
        """Compare every page the manifest lists with what storage holds."""
        for page_id, page in listed_pages(manifest).items():
            sealed = page.sha256
            key = page_key(self._source, self._run, page_id)
            now, _ = evidence.objects.get(page_id, (None, 0))
            if now is None and (blob := self._storage.get(key)) is not None:
                now = sha256(blob)  # the replay did not come to this page
            if now is None:
                self._differs(key, "missing", "the page is gone")
            elif now != sealed:
                self._differs(key, "changed", "the page isn't the one that was sealed")

    def _counts(self, manifest: Manifest, evidence: Evidence) -> None:
        """Compare the counts of the pages with the manifest, member by member."""
        document = _document(manifest)
        key, resources = manifest_key(self._source, self._run), manifest.resources
        again = self._again(manifest, evidence)
        for name in sorted(again["resources"].keys() - resources.keys()):
            self._differs(key, "count", f"{name}: nothing says what it came to")
        if run_state(resources, evidence.credential, manifest.ended) != manifest.state:
            self._differs(key, "count", "its state is not what its resources amount to")
        for name, sealed in resources.items():
            if _is_counted(name, sealed):
                told, found = document["resources"][name], again["resources"][name]
                self._compare(told, found, _COMPARED, f"{name}: ")
                self._records(sealed, evidence.resources[name].collation)
            elif sealed.windows:
                detail = f"{name}: this version of Pagetrail can't count it again"
                self._differs(key, "count", detail)
        if all(_is_counted(name, sealed) for name, sealed in resources.items()):
            self._compare(document, again, _HANDED_ON)

    def _compare(
        self,
        told: Mapping[str, Any],
        found: Mapping[str, Any],
        members: Iterable[str],
        whose: str = "",
    ) -> None:
        for name in members:
            if told[name] != found[name]:
                detail = f"{whose}{name} is not what its pages amount to"
                self._differs(manifest_key(self._source, self._run), "count", detail)

    def _again(self, manifest: Manifest, evidence: Evidence) -> dict[str, Any]:
        """Return the manifest that sealing the run again would give, as a document."""
        again = make_manifest(
            evidence,
            resources_of(evidence, {}, manifest.ended),
            verdict=manifest.ended,
            plan_sha256=manifest.plan_sha256,
            sealed_at=manifest.sealed_at,
            orphans=manifest.orphans,
        )
        return _document(again)

    def _records(self, sealed: SealedResource, collation: Collation) -> None:
        """Compare the records of the pages with those of the artifacts."""
        lines = collation.lines()
        for part in sealed.artifacts:
            if part.content_sha256 != _digest_of(islice(lines, part.records)):
                self._differs(part.key, "count", "its records aren't those of its pages")

    def _unlisted(self, manifest: Manifest) -> None:
        known = {page_key(self._source, self._run, page) for page in listed_pages(manifest)}
        known |= {part.key for each in manifest.resources.values() for part in each.artifacts}
        known |= {each.key for each in (*manifest.orphans, *manifest.unreadable)}
        known |= {each(self._source, self._run) for each in (plan_key, manifest_key, sums_key)}
        for key in self._sizes:
            if key not in known:
                late = self._is_own_page(key)
                detail = "stored too late to count" if late else "no manifest lists it"
                self._differs(key, "late" if late else "extra", detail)

    def _is_own_page(self, key: str) -> bool:
        """Whether the object under *key* is a page of this run, under its own name."""
        try:
            envelope = decode_page(self._storage.get(key) or b"").envelope
        except (ValueError, zstandard.ZstdError):
            return False
        return bool(envelope and page_key(envelope.source, envelope.run, envelope.page) == key)


def _is_counted(name: str, sealed: SealedResource) -> bool:
    """Whether this version can count a resource again. A release without an entry for it claimed nothing."""
    claims_nothing = (sealed.state, sealed.words) == ("failed", NOT_KNOWN) and not (
        sealed.records or sealed.windows or sealed.artifacts
    )
    return name in CATALOG and not claims_nothing


def _document(manifest: Manifest) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest))
    return document


def _digest_of(lines: Iterable[bytes]) -> str:
    content = hashlib.sha256()
    for line in lines:
        content.update(line)
    return content.hexdigest()
