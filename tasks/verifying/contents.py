"""Rules on the contents of one run: its documents, pages and artifacts, and the counts in its manifest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import msgspec
import zstandard

from tasks.evidence import documents
from tasks.evidence.artifacts import describe, describe_part
from tasks.evidence.compression import sha256
from tasks.evidence.envelopes import decode_page
from tasks.evidence.layout import artifact_key, page_key, run_prefix, sums_key
from tasks.evidence.manifests import stored_manifest
from tasks.evidence.sums import listed_pages, sums
from tasks.evidence.verdicts import NOT_KNOWN
from tasks.reading.catalog import CATALOG, CATALOG_VERSION
from tasks.reading.pages import request_of
from tasks.reading.plans import Plan
from tasks.reading.sealed import ArtifactPart, SealedResource, StoredObject
from tasks.verifying.copies import RunCopy
from tasks.verifying.rules import Finding, rule
from workers.storage import Storage

SLACK = timedelta(minutes=5)
"""How far times that different machines noted may be in the wrong order."""
ENDINGS = ("done", "cancelled", "refused", "silent")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@rule("manifest", "a manifest is written as Pagetrail writes it, and is of its run and source")
def manifest_is_strict(run: RunCopy) -> Iterator[Finding]:
    try:
        stored_manifest(run.manifest_text, run.source, run.run)
    except ValueError as error:
        yield run.manifest_key, str(error)


@rule("missing", "the plan is stored")
def plan_is_there(run: RunCopy) -> Iterator[Finding]:
    if run.plan_key not in run.sizes:
        yield run.plan_key, "the plan is gone"


@rule("manifest", "a plan is written as Pagetrail writes it, and is of its run and source")
def plan_is_strict(run: RunCopy) -> Iterator[Finding]:
    try:
        documents.read(run.text(run.plan_key), Plan, source=run.source, run=run.run)
    except ValueError as error:
        yield run.plan_key, str(error)


@rule("changed", "the plan is the one whose digest the manifest has")
def plan_is_the_sealed_one(run: RunCopy) -> Iterator[Finding]:
    if sha256(run.text(run.plan_key)) != run.manifest.plan_sha256:
        yield run.plan_key, "the plan isn't the one this run followed"


@rule("missing", "the list of digests is stored")
def sums_are_there(run: RunCopy) -> Iterator[Finding]:
    if sums_key(run.source, run.run) not in run.sizes:
        yield sums_key(run.source, run.run), "the list of digests is gone"


@rule("changed", "the list of digests has what the manifest names")
def sums_follow_the_manifest(run: RunCopy) -> Iterator[Finding]:
    key = sums_key(run.source, run.run)
    if run.text(key) != sums(run.manifest, run.manifest_text):
        yield key, "it doesn't list what the manifest names"


@rule("missing", "each page that the manifest lists is stored")
def pages_are_there(run: RunCopy) -> Iterator[Finding]:
    yield from ((key, "the page is gone") for key, now in run.digests.items() if now is None)


@rule("changed", "each page is the one that the manifest lists, with its digest and its size")
def pages_are_the_sealed_ones(run: RunCopy) -> Iterator[Finding]:
    for page_id, page in listed_pages(run.manifest).items():
        key = page_key(run.source, run.run, page_id)
        if (now := run.digests[key]) is not None and now != (page.sha256, page.bytes):
            yield key, "the page isn't the one that was sealed"


@rule("missing", "each artifact that the manifest lists is stored")
def artifacts_are_there(run: RunCopy) -> Iterator[Finding]:
    for part in _parts(run):
        if part.key not in run.sizes:
            yield part.key, "the artifact is gone"


@rule("changed", "each artifact is the one that the manifest lists, and can be read to its end")
def artifacts_are_the_sealed_ones(run: RunCopy) -> Iterator[Finding]:
    for part in _parts(run):
        chunks = run.storage.open(part.key) if part.key in run.sizes else None
        if chunks is None:
            continue
        try:
            found = describe_part(chunks)
        except (ValueError, zstandard.ZstdError):
            yield part.key, "the artifact can't be read"
            continue
        if ArtifactPart(key=part.key, **msgspec.structs.asdict(found)) != part:
            yield part.key, "the artifact isn't the one that was sealed"


@rule("count", "each resource with records has its artifacts, inside its run and in order")
def artifacts_are_in_place(run: RunCopy) -> Iterator[Finding]:
    for name, resource in run.manifest.resources.items():
        keys = [part.key for part in resource.artifacts]
        possible = [artifact_key(run.source, run.run, name, number) for number in range(1_000)]
        places = [possible.index(key) if key in possible else -1 for key in keys]
        if -1 in places or places != sorted(set(places)):
            yield run.manifest_key, f"{name}: its artifacts aren't those of this run, in order"
        if bool(keys) is not resource.has_artifact:
            yield run.manifest_key, f"{name}: {resource.state} and {len(keys)} artifacts"


@rule("missing", "each object that doesn't count is stored where the manifest says")
def uncounted_objects_are_there(run: RunCopy) -> Iterator[Finding]:
    for each in (*run.manifest.orphans, *run.manifest.unreadable):
        if each.key not in run.sizes:
            yield each.key, "the object is gone"


@rule("changed", "each object that doesn't count is the one that the manifest names")
def uncounted_objects_are_the_same(run: RunCopy) -> Iterator[Finding]:
    for each in (*run.manifest.orphans, *run.manifest.unreadable):
        chunks = run.storage.open(each.key) if each.key in run.sizes else None
        if chunks is not None and describe(chunks) != (each.sha256, each.bytes):
            yield each.key, "the object isn't the one that was sealed"


@rule("count", "an unreadable page can't be read, and an orphan is an artifact that nothing lists")
def uncounted_objects_are_what_they_are_called(run: RunCopy) -> Iterator[Finding]:
    prefix = run_prefix(run.source, run.run)
    listed = {part.key for part in _parts(run)}
    for each in run.manifest.unreadable:
        if not each.key.startswith(f"{prefix}/pages/") or _is_page(run, each):
            yield each.key, "the manifest calls it unreadable, and it is a page of this run"
    for each in run.manifest.orphans:
        if not each.key.startswith(f"{prefix}/artifacts/") or each.key in listed:
            yield each.key, "the manifest calls it an orphan, and it isn't one"


@rule("count", "the manifest says what its plan and its pages amount to")
def manifest_is_what_its_pages_amount_to(run: RunCopy) -> Iterator[Finding]:
    told, found = run.manifest, run.again
    if any(name not in CATALOG or _claims_nothing(each) for name, each in told.resources.items()):
        return  # the next rule names what can't be counted
    for member in told.__struct_fields__:
        if member in ("sha256", "resources", "unreadable"):
            continue
        if getattr(told, member) != getattr(found, member):
            yield run.manifest_key, f"{member} is not what its pages amount to"


@rule("count", "each planned resource has an entry that says what its pages amount to")
def resources_are_what_their_pages_amount_to(run: RunCopy) -> Iterator[Finding]:
    told, found = run.manifest.resources, run.again.resources
    for name in sorted(found.keys() - told.keys()):
        yield run.manifest_key, f"{name}: nothing says what it came to"
    for name in sorted(told.keys() - found.keys()):
        yield run.manifest_key, f"{name}: its plan doesn't have it"
    for name in found.keys() & told.keys():
        if _claims_nothing(told[name]):
            continue
        if name not in CATALOG:
            yield run.manifest_key, f"{name}: this version of Pagetrail can't count it again"
        else:
            yield from (
                (run.manifest_key, f"{name}: {member} is not what its pages amount to")
                for member in SealedResource.__struct_fields__
                if getattr(told[name], member) != getattr(found[name], member)
            )


@rule("count", "the artifacts have the records of the pages, each of them and no others")
def artifacts_hold_the_records(run: RunCopy) -> Iterator[Finding]:
    if not run.unharmed:
        return
    for name, resource in run.manifest.resources.items():
        gathered = run.evidence.resources.get(name)
        if gathered is None or name not in CATALOG or not resource.has_artifact:
            continue
        lines = gathered.collation.lines()
        for part in resource.artifacts:
            if part.content_sha256 != _digest_of(islice(lines, part.records)):
                yield part.key, "its records aren't those of its pages"
        if next(lines, None) is not None:
            yield run.manifest_key, f"{name}: its artifacts lack records of its pages"


@rule("count", "a run ended in one of the ways in which runs end")
def ending_is_known(run: RunCopy) -> Iterator[Finding]:
    if run.manifest.ended not in ENDINGS:
        yield run.manifest_key, "it ended in a way in which no run ends"


@rule("page", "each page that counts can be read, and its second line says what its body says")
def pages_say_the_same_twice(run: RunCopy) -> Iterator[Finding]:
    """An object that isn't the listed one has been named by another rule."""
    listed = {
        page_key(run.source, run.run, name): each
        for name, each in listed_pages(run.manifest).items()
    }
    for key, why in run.evidence.faults:
        if run.digests[key] == (listed[key].sha256, listed[key].bytes):
            yield key, why


@rule("page", "each page answers the request that the plan leads to")
def pages_answer_their_requests(run: RunCopy) -> Iterator[Finding]:
    for page, envelope in run.envelopes():
        request = request_of(page, run.plan)
        if (envelope.path, envelope.params) != (request.path, request.params):
            yield page_key(run.source, run.run, page.id), "it answers another request"


@rule("page", "each page is of the source, region and kind of key of its run")
def pages_are_of_this_source(run: RunCopy) -> Iterator[Finding]:
    for page, envelope in run.envelopes():
        right = (
            (envelope.source, envelope.region) == (run.source, run.plan.region)
            and envelope.credential in ("account", "user")
            and _FINGERPRINT.fullmatch(envelope.fingerprint)
            and envelope.requests > 0
        )
        if not right:
            yield (
                page_key(run.source, run.run, page.id),
                "it was read for another source, or by nobody",
            )


@rule("page", "a body that is called unchanged has the digest of the answer as it was received")
def bodies_are_as_received(run: RunCopy) -> Iterator[Finding]:
    for page, envelope in run.envelopes():
        same = envelope.received_sha256 == envelope.stored_sha256
        if envelope.rewritten is same:
            yield page_key(run.source, run.run, page.id), "it isn't the answer as it was received"


@rule("page", "each page was read while its run was open")
def pages_are_of_the_runs_time(run: RunCopy) -> Iterator[Finding]:
    earliest, latest = run.plan.opened_at - SLACK, run.manifest.sealed_at + SLACK
    for page, envelope in run.envelopes():
        fetched_at = datetime.fromisoformat(envelope.fetched_at).astimezone(UTC)
        if not earliest <= fetched_at <= latest:
            yield page_key(run.source, run.run, page.id), "it was read while the run wasn't open"


@rule("manifest", "the plan is one that this version of Pagetrail can follow")
def catalog_is_known(run: RunCopy) -> Iterator[Finding]:
    if run.plan.catalog != CATALOG_VERSION:
        yield (
            run.plan_key,
            f"it is made for catalog {run.plan.catalog}, and this is {CATALOG_VERSION}",
        )


def _parts(run: RunCopy) -> Iterator[ArtifactPart]:
    for resource in run.manifest.resources.values():
        yield from resource.artifacts


def _is_page(run: RunCopy, each: StoredObject) -> bool:
    return is_own_page(run.storage, each.key)


def is_own_page(storage: Storage, key: str) -> bool:
    """Whether the object under *key* is a readable page, stored under its own name."""
    try:
        envelope = decode_page(storage.get(key) or b"", strict=True).envelope
    except (ValueError, zstandard.ZstdError):
        return False
    return bool(envelope and page_key(envelope.source, envelope.run, envelope.page) == key)


def _claims_nothing(sealed: SealedResource) -> bool:
    """Whether a release whose catalog lacked a resource said so. It claimed nothing then."""
    return (sealed.state, sealed.words) == ("failed", NOT_KNOWN) and not (
        sealed.records or sealed.windows or sealed.artifacts
    )


def _digest_of(lines: Iterator[bytes]) -> str:
    content = hashlib.sha256()
    for line in lines:
        content.update(line)
    return content.hexdigest()
