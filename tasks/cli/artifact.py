"""`pagetrail artifact`: list or export what a run collected. It needs only storage."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tasks import api
from tasks.cli import output, parse
from tasks.cli.formats import FORMATS, opened
from tasks.evidence.exports import NOW, AsOf, Choice, RunReading
from tasks.evidence.layout import run_prefix
from tasks.reading.catalog import CATALOG
from workers.errors import UsageFault
from workers.settings.environment import load_settings
from workers.storage import Storage, open_storage


def _as_of(text: str) -> AsOf:
    """Return the end of an export's view: a past date or time, or a run."""
    return AsOf(run=parse.run_id(text)) if text.isdecimal() else AsOf(until=parse.date(text))


@click.group()
def artifact() -> None:
    """List what a run collected, or export its records."""


@artifact.command("list")
@parse.source_argument
@parse.run_option("the newest")
@output.json_option
def list_(source: str, run: str | None, as_json: bool) -> None:
    """List the artifacts of a sealed run, and the resources that it has none of, and why."""
    storage = _storage()
    sealed, artifacts, missing = api.artifacts(storage, source, run)
    if as_json:
        output.emit({"run": sealed.run, "artifacts": artifacts, "missing": missing})
        return
    output.say(
        f"Run {sealed.run} of {source} is {sealed.state}; its objects are below "
        f"{storage}/{run_prefix(source, sealed.run)}."
    )
    output.table(
        ("ARTIFACT", "#RECORDS", "#SIZE", "SHA-256"),
        (
            (Path(each.key).name, each.records, output.size(each.bytes), each.sha256)
            for each in artifacts
        ),
    )
    if missing:
        click.echo()
        output.table(
            ("NOT IN THIS RUN", "WHY", "PAGERDUTY SAID"),
            ((each.resource, each.why, each.words) for each in missing),
        )


@artifact.command()
@parse.source_argument
@click.option(
    "--resource",
    required=True,
    metavar="RESOURCE",
    type=click.Choice(list(CATALOG)),
    help="The resource to export.",
)
@parse.run_option("all, the newest version of each record")
@click.option(
    "--as-of",
    metavar="DATE|RUN",
    type=_as_of,
    help="Leave out what runs read whose period ends after DATE, or that came after RUN.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    default="jsonl",
    show_default=True,
    help="Parquet needs the extra pagetrail[parquet].",
)
@click.option(
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to FILE, complete or not at all; default: stdout.",
)
@click.option(
    "--unverified",
    is_flag=True,
    help="Export what can be read even if digests, documents or seals of the run don't hold.",
)
@output.json_option
def export(
    source: str,
    resource: str,
    run: str | None,
    as_of: AsOf | None,
    kind: str,
    path: Path | None,
    unverified: bool,
    as_json: bool,
) -> None:
    """Export the records of a resource: the newest version of each, or those of one run.

    jsonl has the records as PagerDuty gave them, without redacted values. csv and parquet have a
    column for every field, with nested values as JSON. csv is made for spreadsheets: an apostrophe
    keeps a text from running as a formula, and a text that is too long for a cell is cut and ends
    in a note. Use jsonl or parquet for programs.

    It first checks the manifests, artifacts and seals that it reads, and writes nothing if one of
    them was changed. With --unverified it warns instead, and the exit code is 3.

    \b
    Examples:
      pagetrail artifact export acme/main --resource incidents > incidents.jsonl
      pagetrail artifact export acme/main --resource users --format csv --output users.csv
      pagetrail artifact export acme/main --resource users --as-of 2026-03-31 > march.jsonl
    """
    _refuse(run, as_of, kind, path, as_json=as_json)
    with output.waiting(f"Exporting {resource}"):
        found = api.export(
            _storage(), source, resource, run, as_of=as_of or NOW, unverified=unverified
        )
        choice = found.choice
        for doubt in found.doubts:
            output.say(f"Not verified: {doubt}")
        if not choice.readings:
            _explain_nothing(source, choice)
        told = len(found.doubts)
        with opened(path) as out:
            written = FORMATS[kind](found.records, out, found.doubts)
    for remark in (*written.remarks, *(f"Not verified: {each}" for each in found.doubts[told:])):
        output.say(remark)
    if not choice.whole:
        output.say(f"These may not be all {resource}: {_why(choice)}.")
    if as_of:
        last = choice.newest
        output.say(
            f"As of {as_of}, the last run is {last.run}: its period ended at {output.utc(last.until)}, and no "
            f"record was read later than {output.utc(last.sealed_at)}."
        )
    if path:
        output.say(f"Wrote {written.count} {resource} to {path}.")
    if found.doubts:
        output.end(3)


def _refuse(
    run: str | None, as_of: AsOf | None, kind: str, path: Path | None, *, as_json: bool
) -> None:
    """Raise `UsageFault` for options that don't go together."""
    if as_json and kind != "jsonl":
        raise UsageFault(f"--json prints one record per line: leave out --json or --format {kind}.")
    if run and as_of:
        raise UsageFault("--run and --as-of don't go together: leave out one.")
    if kind == "parquet" and path is None and sys.stdout.isatty():
        raise UsageFault("Parquet is not text: add --output FILE.")


def _explain_nothing(source: str, choice: Choice) -> None:
    newest = choice.newest
    output.say(
        f"Run {newest.run} of {source} could not read {choice.resource}: {_described(newest)}."
    )
    output.end(3)


def _why(choice: Choice) -> str:
    newest = choice.newest
    if choice.gone:
        return f"the runs up to {choice.gone} are gone, with records that only they held"
    if newest.state == "complete":
        return f"run {newest.run} left a backlog that later runs read"
    return f"in run {newest.run} they are {_described(newest)}"


def _described(reading: RunReading) -> str:
    return f"{reading.state} ({reading.reason}) {reading.words}".rstrip(". ")


def _storage() -> Storage:
    return open_storage(load_settings().storage_url_or_default)
