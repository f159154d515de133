"""Rules on seals: each is about the run beside it, follows the seal before, and is signed with a key that is known."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import record_key
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, run_prefix, seal_key, sums_key
from tasks.evidence.seals import Account, SealedBefore, StoredSeal, read_seal
from tasks.evidence.signatures import check_signature
from tasks.verifying.contents import SLACK
from tasks.verifying.copies import NotThere, RunCopy
from tasks.verifying.report import Difference, Report, SealFound
from tasks.verifying.rules import Finding, rule
from workers.storage import Storage


def seal_of(run: RunCopy) -> StoredSeal:
    """Return the seal of a run; raises `NotThere` without one, and ValueError for anything else in its place."""
    key = seal_key(run.source, run.run)
    if key not in run.sizes:
        raise NotThere(key)
    return read_seal(run.text(key), run.source, run.run)


@rule("seal", "a seal is written as Pagetrail writes it, and is of its run and source")
def seal_is_strict(run: RunCopy) -> Iterator[Finding]:
    try:
        seal_of(run)
    except ValueError as error:
        yield seal_key(run.source, run.run), str(error)


@rule("seal", "a seal is about the manifest and the list of digests beside it")
def seal_is_about_its_run(run: RunCopy) -> Iterator[Finding]:
    statement = _readable(run).statement
    listed = run.text(sums_key(run.source, run.run))
    if statement.manifest_sha256 != sha256(run.manifest_text):
        yield seal_key(run.source, run.run), "it is about another manifest"
    if statement.sums_sha256 != sha256(listed):
        yield seal_key(run.source, run.run), "it is about another list of digests"


@rule("seal", "a seal says of its run what the manifest says")
def seal_says_what_the_manifest_says(run: RunCopy) -> Iterator[Finding]:
    seal, manifest = _readable(run).seal, run.manifest
    account = Account(region=manifest.account.region, subdomain=manifest.account.subdomain)
    records = {name: each.records for name, each in manifest.resources.items()}
    said = (seal.account, seal.period, seal.state, seal.records)
    if said != (account, manifest.period, manifest.state, records):
        yield seal_key(run.source, run.run), "it says something else than the manifest"
    if seal.sealed_at < manifest.sealed_at - SLACK:
        yield seal_key(run.source, run.run), "it was made before the run ended"


@rule(
    "seal",
    "each seal names the seal before it, or the one that a record of an erasure names in its place",
)
def seals_follow_each_other(run: RunCopy) -> Iterator[Finding]:
    before = _readable(run).seal.previous
    if before is None:
        return
    if record := run.purged.naming(before.run):
        if record.entry(before.run).seal_sha256 != before.sha256:
            key = record_key(run.source, record.through)
            yield key, f"it doesn't name the seal that the seal of run {run.run} follows"
        return
    text = documents.stored(run.storage, seal_key(run.source, before.run))
    if text is None:
        yield (
            seal_key(run.source, before.run),
            f"the seal of run {run.run} follows it, and it is gone",
        )
    elif sha256(text) != before.sha256:
        key = seal_key(run.source, before.run)
        yield key, f"it isn't the seal that the seal of run {run.run} follows"


@rule(
    "record",
    "the newest record of an erasure at the time of a seal is still the one that the seal names",
)
def records_are_the_sealed_ones(run: RunCopy) -> Iterator[Finding]:
    named = _readable(run).seal.purged
    if named is None:
        return
    key = record_key(run.source, named.through)
    text = documents.stored(run.storage, key)
    if text is None:
        yield key, f"the seal of run {run.run} names it, and it is gone"
    elif sha256(text) != named.sha256:
        yield key, f"it isn't the record that the seal of run {run.run} names"


@rule("seal", "a run that the signer left out has no seal of its own, and is named with the reason")
def left_out_runs_are_named(run: RunCopy) -> Iterator[Finding]:
    for each in _readable(run).seal.unsealed:
        if not run.purged.erased(each.run):
            key = manifest_key(run.source, each.run)
            yield key, f"the signer did not seal run {each.run}: {each.reason}"


@rule(
    "seal", "each seal is signed with one of the keys that were given, by the last day of that key"
)
def signature_is_known(run: RunCopy) -> Iterator[Finding]:
    if run.keys is None:
        return
    try:
        check_signature(_readable(run), run.keys)
    except ValueError as error:
        yield seal_key(run.source, run.run), str(error)


def _readable(run: RunCopy) -> StoredSeal:
    """Return the seal of a run. Where it can't be read, another rule says so."""
    try:
        return seal_of(run)
    except ValueError:
        raise NotThere(seal_key(run.source, run.run)) from None


def note(run: RunCopy, report: Report) -> None:
    """Add the seal of a run to the report, or the run to those that are not sealed yet."""
    try:
        stored = _readable(run)
    except NotThere:
        report.unsealed.append(run.run)
        return
    report.seals.append(SealFound(run.run, stored.sha256, stored.seal.key))
    report.unsealed = []  # the seal says of the runs before it why they have none


def lineage(storage: Storage, purged: Purged, source: str) -> Iterator[SealedBefore]:
    """Yield the newest seal of a source and each seal that it follows, newest first, up to one that can't be read.

    The seals of purged runs are those that the records of their erasures name.
    """
    runs = reversed(purged.kept)
    newest = next(
        (run for run in runs if documents.stored(storage, seal_key(source, run)) is not None), None
    )
    link = SealedBefore(run=newest, sha256="") if newest else None
    while link is not None:
        if (record := purged.naming(link.run)) and record.entry(
            link.run
        ).seal_sha256 == link.sha256:
            yield from _purged_seals(purged)
            return
        text = documents.stored(storage, seal_key(source, link.run))
        if text is None or link.sha256 not in ("", sha256(text)):
            return
        try:
            stored = read_seal(text, source, link.run)
        except ValueError:
            return
        yield stored.link
        link = stored.seal.previous


def _purged_seals(purged: Purged) -> Iterator[SealedBefore]:
    for record in purged.held.values():
        for each in record.runs:
            if each.seal_sha256:
                yield SealedBefore(run=each.run, sha256=each.seal_sha256)


def without_head(storage: Storage, source: str, head: str, report: Report) -> Iterator[Difference]:
    """Yield the differences that the newest seal doesn't follow the seal with the digest *head*, or a verified one."""
    known = {each.sha256: each.run for each in lineage(storage, Purged(storage, source), source)}
    if head not in known:
        detail = (
            f"the newest seal is not the one with the digest {head}, and doesn't follow it: the end is "
            "cut off, or this is another history"
        )
        yield Difference("", run_prefix(source, "").rstrip("/"), "head", detail)
        return
    for each in report.seals:
        if each.sha256 not in known:
            detail = "the newest seal doesn't follow it"
            yield Difference(each.run, seal_key(source, each.run), "head", detail)
