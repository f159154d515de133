"""`pagetrail verify`: recompute every digest and count of a source. It needs only storage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import click

from tasks import api
from tasks.cli import output, parse
from tasks.evidence.erasure_records import Purge
from tasks.verifying.report import Difference, Report
from workers.settings.environment import load_settings
from workers.storage import open_storage


@click.command()
@parse.source_argument
@parse.run_option("all of them")
@output.json_option
def verify(source: str, run: str | None, as_json: bool) -> None:
    """Recompute every digest and count of a source from storage, and name every difference.

    It trusts neither Redis nor the fleet. The exit code is 3 if anything differs from what was sealed.

    \b
    Examples:
      pagetrail verify acme/main
      pagetrail verify acme/main --run 7 --json
    """
    storage = open_storage(load_settings().storage_url_or_default)
    with output.waiting(f"Verifying {source}"):
        report = api.verify(storage, source, run)
    if as_json:
        output.emit(_verified(report))
    else:
        _show(report)
    if not report.ok:
        output.end(3)


@dataclass(frozen=True, slots=True)
class FollowedRenaming:
    """A change of the account's subdomain, and the first run after it."""

    run: str
    old: str
    new: str
    at: datetime
    by: str
    because: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a verification, as --json prints it."""

    ok: bool
    runs: list[str]
    objects: int
    differences: list[Difference]
    purged: list[Purge]
    renamed: list[FollowedRenaming]


def _verified(report: Report) -> Verified:
    return Verified(
        report.ok,
        report.runs,
        report.objects,
        report.differences,
        report.purged,
        [FollowedRenaming(run, **asdict(each)) for run, each in report.renamed],
    )


def _show(report: Report) -> None:
    if report.differences:
        output.table(
            ("RUN", "KIND", "WHAT", "KEY"),
            ((each.run, each.kind, each.detail, each.key) for each in report.differences),
        )
    wrong = sum(difference.counts for difference in report.differences)
    result = "everything is as it was sealed"
    if wrong:
        differences = output.counted(wrong, "difference")
        result = f"{differences}, restore the named objects from a copy of the storage"
    objects, runs = output.counted(report.objects, "object"), len(report.runs)
    output.say(f"Verified {objects} of {output.counted(runs, 'run')}: {result}.")
    for purge in report.purged:
        output.say(
            f"The runs up to {purge.through} were purged at {output.utc(purge.at)} by {purge.by} "
            f"({purge.why}), as its record says."
        )
    for run, each in report.renamed:
        output.say(
            f"From run {run} on the account {each.old} is called {each.new}, as {each.by} confirmed "
            f"at {output.utc(each.at)}: {each.because}."
        )
    if report.open:
        output.say(f"Not sealed yet, so not verified: run {', '.join(report.open)}.")
