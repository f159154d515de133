"""`pagetrail run`: list, show or cancel the runs of a source."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click

from tasks import messages
from tasks.cli import output, parse, summaries
from tasks.manifests import read_manifest, read_plan, runs_of, sealed_runs
from tasks.plan import reopen
from workers.errors import Fault, NotFound
from workers.runtime import Runtime, runtime

_READERS = 8


@click.group()
def run() -> None:
    """List, show or cancel the runs of a source."""


@run.command("list")
@parse.source_argument
@output.json_option
def list_(source: str, as_json: bool) -> None:
    """List the runs of a source, oldest first."""
    fleet = runtime()
    fleet.sources.get(source)
    with ThreadPoolExecutor(_READERS) as readers:
        rows = list(
            readers.map(lambda run: _row(fleet, source, run), runs_of(fleet.storage, source))
        )
    if as_json:
        output.emit({"source": source, "runs": rows})
        return
    if not rows:
        output.say(f"{source} has no run yet: `pagetrail collect {source}` starts one.")
        return
    columns = ("RUN", "STATE", "SINCE", "UNTIL", "SEALED", "#RECORDS", "#REQUESTS", "BACKLOG")
    names = ("run", "state", "since", "until", "sealed_at", "records", "requests")
    output.table(
        columns,
        ([*(row[name] for name in names), "yes" if row["backlog"] else ""] for row in rows),
    )


@run.command()
@parse.source_argument
@parse.run_option
@output.json_option
def show(source: str, run: str | None, as_json: bool) -> None:
    """Show what a run read of every resource."""
    fleet = runtime()
    chosen = _newest(fleet, source, run)
    document = _summary(fleet, source, chosen)
    if as_json:
        output.emit(document)
    else:
        show_summary(source, document)


@run.command()
@parse.source_argument
@parse.run_option
@output.json_option
def cancel(source: str, run: str | None, as_json: bool) -> None:
    """End the open run of a source; what it has read is sealed as cancelled."""
    fleet = runtime()
    chosen = _newest(fleet, source, run)
    if read_manifest(fleet.storage, source, chosen):
        raise Fault(f"Run {chosen} of {source} is sealed: there is nothing to cancel.")
    reopen(fleet, fleet.sources.get(source), chosen)  # Redis may have lost it
    messages.publish(source, chosen, fleet.ledger.cancel(source, chosen))
    if as_json:
        output.emit({"run": chosen, "state": "cancelled"})
    else:
        output.say(f"Cancelled run {chosen} of {source}: what it has read is being sealed.")


def show_summary(source: str, document: dict[str, Any]) -> None:
    """Print a summary for a person."""
    output.table(
        ("RESOURCE", "STATE", "REASON", "#RECORDS", "#REQUESTS"),
        (
            (name, each["state"], each["reason"], each["records"], each["requests"])
            for name, each in document["resources"].items()
        ),
    )
    runs = ", ".join(document["runs"])
    output.say(
        f"{source}, run {runs}: {document['state']}, {document['since']} to {document['until']}."
    )


def _newest(fleet: Runtime, source: str, run: str | None) -> str:
    fleet.sources.get(source)
    runs = sealed_runs(fleet.storage, source, run)
    if not runs:
        raise NotFound(f"{source} has no run yet: `pagetrail collect {source}` starts one.")
    return runs[-1]


def _row(fleet: Runtime, source: str, run: str) -> dict[str, Any]:
    if manifest := read_manifest(fleet.storage, source, run):
        return summaries.run_row(manifest)
    plan = read_plan(fleet.storage, source, run)
    assert plan, f"{run} was listed, so it has a plan"
    return summaries.open_row(plan, fleet.ledger.progress(source))


def _summary(fleet: Runtime, source: str, run: str) -> dict[str, Any]:
    if manifest := read_manifest(fleet.storage, source, run):
        return summaries.summary([manifest])
    plan = read_plan(fleet.storage, source, run)
    assert plan, f"{run} was listed, so it has a plan"
    return summaries.open_summary(plan, fleet.ledger.progress(source))
