"""Applies the rules to the runs of a source. It needs storage alone: no Redis, no fleet and no key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta

from tasks.evidence.erasure_records import Erasure, summary
from tasks.evidence.erasures import Purged
from tasks.evidence.manifests import chosen_runs
from tasks.verifying import chain, contents, seals, tree  # they add their rules
from tasks.verifying.copies import NotThere, RunCopy
from tasks.verifying.report import Difference, RecordFound, Report
from tasks.verifying.rules import RULES, Rule
from workers.signing.keys import PublicKeys
from workers.storage import Storage

FOR_OPEN_RUNS = (
    contents.plan_is_there,
    contents.plan_is_strict,
    contents.catalog_is_known,
    chain.numbers_have_no_gap,
    chain.run_before_is_there,
    chain.run_before_is_the_named_one,
    chain.account_is_the_same,
    chain.plan_goes_on,
)
"""The rules that a run has to keep before it ends."""


def verify(
    storage: Storage,
    source: str,
    run: str | None = None,
    *,
    keys: PublicKeys | None = None,
    head: str | None = None,
    as_at: datetime | None = None,
) -> Iterator[Report]:
    """Verify one run of *source*, or all; yield the growing report after each run.

    *keys* check the signatures of seals and of the records of erasures. *head* is the digest of a seal that has to be
    there. *as_at* is the time until which an open run must have ended. Raises `NotFound` for a run that doesn't exist.
    """
    report = Report(keyed=keys is not None)
    for each in chosen_runs(storage, source, run, keys):
        with ExitStack() as files:
            _verify_run(RunCopy(storage, source, each, files, keys), report, as_at)
        yield report
    if run is None:
        purged = Purged(storage, source, keys)
        report.differences += tree.beside(storage, source, purged)
        report.records += (
            RecordFound(each.through, each.sha256, each.key) for each in purged.held.values()
        )
    if head is not None:
        cut_off = list(seals.without_head(storage, source, head, report))
        report.differences += cut_off
        report.anchored = not cut_off
    yield report


def _verify_run(run: RunCopy, report: Report, as_at: datetime | None) -> None:
    if run.ended:
        report.runs.append(run.run)
        report.objects += len(run.sizes)
    else:
        report.open.append(run.run)
    for each in RULES:
        if run.ended or each.find in FOR_OPEN_RUNS:
            report.differences += (
                Difference(run.run, key, each.kind, detail) for key, detail in _applied(each, run)
            )
    report.differences += (
        Difference(run.run, key, "extra", "another name differs only in the case of letters")
        for key in tree.doubled(iter(run.sizes))
    )
    if run.ended:
        _note(run, report)
        seals.note(run, report)
    elif as_at is not None:
        report.differences += _overdue(run, as_at)


def _overdue(run: RunCopy, as_at: datetime) -> Iterator[Difference]:
    """Yield the difference that a run is still open although its source's interval was over at that time."""
    try:
        every, opened = run.plan.every_seconds, run.plan.opened_at
    except NotThere:
        return
    if every is not None and as_at > opened + timedelta(seconds=every):
        detail = f"it was open longer than its source's interval of {every} s"
        yield Difference(run.run, run.plan_key, "open", detail)


def _applied(each: Rule, run: RunCopy) -> list[tuple[str, str]]:
    """Return what a rule finds. Where it can't be applied, another rule says what is wrong."""
    try:
        return list(each.find(run))
    except NotThere:
        return []
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        RecursionError,
        OverflowError,
    ):
        # The document has the right shape, but no run could have written it.
        return [(run.manifest_key, f"it can't be recomputed ({each.name})")]


def _note(run: RunCopy, report: Report) -> None:
    """Add to the report what the run is about, its renamings, and which erasure the oldest run follows."""
    try:
        report.renamed += ((run.run, each) for each in run.plan.renamed)
        if isinstance(record := run.before, Erasure):
            report.purged.append(summary(record))
        report.facts.add(run.manifest)
    except NotThere:
        pass
