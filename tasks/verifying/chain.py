"""Rules on how a run follows the one before it."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import Erasure, record_key
from tasks.evidence.layout import manifest_key
from tasks.reading.plans import Plan, make_plan
from tasks.reading.sealed import StoredManifest
from tasks.verifying.contents import SLACK
from tasks.verifying.copies import RunCopy
from tasks.verifying.rules import Finding, rule
from workers.storage.renamings import leads

_GIVEN = {"previous", "resources", "catalog", "renamed"}
"""Members of a plan that don't follow from the manifest before. The first and the last have rules of their own."""


@rule("chain", "plan and manifest name the same run before")
def plan_and_manifest_follow_the_same_run(run: RunCopy) -> Iterator[Finding]:
    if run.plan.previous != run.manifest.previous:
        yield run.manifest_key, "the plan follows another run than the manifest"


@rule("chain", "runs are numbered without a gap: each follows the one with the number before")
def numbers_have_no_gap(run: RunCopy) -> Iterator[Finding]:
    previous = run.plan.previous.run if run.plan.previous else ""
    expected = f"{int(run.run) - 1:08d}" if run.run != "00000001" else ""
    if previous == expected or (not previous and run.purged.through == expected):
        return
    yield run.plan_key, f"it follows run {previous or 'none'}, not run {expected or 'none'}"


@rule("chain", "the manifest before is stored, or the record of an erasure is in its place")
def run_before_is_there(run: RunCopy) -> Iterator[Finding]:
    if (previous := run.plan.previous) and run.purged.naming(previous.run) is None:
        key = manifest_key(run.source, previous.run)
        if documents.stored(run.storage, key) is None:
            yield key, f"run {run.run} follows it, and it is gone"


@rule("chain", "the manifest before has the digest that this run names")
def run_before_is_the_named_one(run: RunCopy) -> Iterator[Finding]:
    previous = run.plan.previous
    if previous is None:
        return
    if record := run.purged.naming(previous.run):
        if record.digest_of(previous.run) != previous.sha256:
            key = record_key(run.source, record.through)
            yield key, f"it doesn't name the manifest that run {run.run} follows"
        return
    text = documents.stored(run.storage, manifest_key(run.source, previous.run))
    if text is not None and sha256(text) != previous.sha256:
        key = manifest_key(run.source, previous.run)
        yield key, f"it isn't the manifest that run {run.run} follows"


@rule("chain", "a run is of the same account as the one before, or a person confirmed its new name")
def account_is_the_same(run: RunCopy) -> Iterator[Finding]:
    before, plan = run.before, run.plan
    if before is None or isinstance(before, Erasure):
        return
    region, subdomain = before.account.region, before.account.subdomain
    if region != plan.region or not leads(plan.renamed, subdomain, plan.subdomain):
        yield (
            manifest_key(run.source, before.run),
            f"it is of the account {subdomain} in region {region}, and run {run.run} of "
            f"{plan.subdomain} in region {plan.region}",
        )


@rule("chain", "times are in order: the run before ended, this run opened, this run ended")
def times_are_in_order(run: RunCopy) -> Iterator[Finding]:
    opened, sealed = run.plan.opened_at, run.manifest.sealed_at
    if sealed < opened - SLACK:
        yield run.manifest_key, "it ended before it opened"
    if isinstance(run.before, StoredManifest) and opened < run.before.sealed_at - SLACK:
        yield run.plan_key, "it opened before the run before it ended"


@rule("chain", "the plan goes on from the manifest before: nothing that it left open is lost")
def plan_goes_on(run: RunCopy) -> Iterator[Finding]:
    """The plan is made again from the settings that it names and from the manifest before."""
    plan = run.plan
    if isinstance(run.before, Erasure):
        return  # what that run left open was erased with it
    again = make_plan(
        source=plan.source,
        resources=plan.resources,
        since=plan.since,
        until=plan.period.until,
        opened_at=plan.opened_at,
        page_budget=plan.page_budget,
        region=plan.region,
        subdomain=plan.subdomain,
        credential=plan.credential,
        renamings=plan.renamed,
        backfill=plan.backfill,
        last=run.before,
        newest=f"{int(run.run) - 1:08d}",
        ask_again_seconds=plan.ask_again_seconds,
        every_seconds=plan.every_seconds,
    )
    for member in {*Plan.__struct_fields__} - _GIVEN:
        if getattr(again, member) != getattr(plan, member):
            yield run.plan_key, f"{member} doesn't follow from the run before"
