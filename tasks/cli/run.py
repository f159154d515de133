"""`pagetrail run`: list, show or cancel the runs of a source."""

from __future__ import annotations

import click

from tasks import api
from tasks.cli import gaps, output, parse, sights
from tasks.cli.documents.runs import listed_run, shown_run, working_run
from tasks.cli.summaries import Summary, summary
from tasks.evidence.outcomes import RunOutcome
from workers.runtime import runtime


@click.group()
def run() -> None:
    """List, show or cancel the runs of a source."""


@run.command("list")
@parse.source_argument
@output.json_option
def list_(source: str, as_json: bool) -> None:
    """List the runs of a source, oldest first."""
    runs = api.runs(runtime(), source)
    if as_json:
        output.emit({"source": source, "runs": [listed_run(each) for each in runs]})
        return
    if not runs:
        output.say(f"{source} has no run: `pagetrail collect {source}` starts one.")
        return
    columns = (
        "RUN",
        "STATE",
        "SINCE",
        "UNTIL",
        "SEALED",
        "#RECORDS",
        "#REQUESTS",
        "BACKLOG",
        "SEAL",
    )
    output.table(columns, map(_cells, runs))
    if any(each.state == "damaged" for each in runs):
        output.say(f"`pagetrail verify {source}` shows what is wrong with the damaged ones.")


@run.command()
@parse.source_argument
@parse.run_option("the newest")
@output.json_option
def show(source: str, run: str | None, as_json: bool) -> None:
    """Show the outcome of a run for every resource."""
    fleet = runtime()
    found = api.run(fleet, source, run)
    outcome = summary([found])
    if found.sealed_at is not None:
        if as_json:
            output.emit(shown_run(outcome, found.seal))
        else:
            show_summary(source, outcome)
            if found.seal is None:
                output.say(f"Run {found.run} is unsealed: the signer has not signed it yet.")
        return
    [sight] = api.status(fleet, [api.get(fleet, source)]).sights
    if as_json:
        output.emit(working_run(outcome, sight))
    else:
        show_summary(source, outcome)
        output.say(f"Now: {sights.line(sight)}.")


@run.command()
@parse.source_argument
@parse.run_option("the open one")
@output.json_option
def cancel(source: str, run: str | None, as_json: bool) -> None:
    """End the open run of a source. The records it has read are sealed as cancelled."""
    chosen = api.cancel(runtime(), source, run)
    if as_json:
        output.emit({"run": chosen, "state": "cancelled"})
    else:
        output.say(f"Cancelled run {chosen} of {source}: the records it has read are being sealed.")


def show_summary(source: str, outcome: Summary) -> None:
    """Print a summary for a person."""
    output.table(
        ("RESOURCE", "STATE", "REASON", "#RECORDS", "#REQUESTS"),
        (
            (name, each.state, each.reason, each.records, each.requests)
            for name, each in outcome.resources.items()
        ),
    )
    runs = ", ".join(outcome.runs)
    output.say(
        f"{source}, run {runs}: {outcome.state}, {output.utc(outcome.since)} to "
        f"{output.utc(outcome.until)}."
    )
    for sentence in gaps.sentences(outcome.resources):
        output.say(sentence)
    if any(each.state == "failed" and each.reason == "key" for each in outcome.resources.values()):
        output.say(
            f"PagerDuty refused the key: `pagetrail source check {source}` tries it again, "
            f"`pagetrail source rotate {source}` replaces it."
        )


def _cells(run: RunOutcome) -> tuple[object, ...]:
    unsealed = "unsealed" if run.sealed_at else ""
    seal = run.seal[:12] if run.seal else unsealed
    times = map(output.utc, (run.since, run.until, run.sealed_at))
    return run.run, run.state, *times, run.records, run.requests, "yes" if run.backlog else "", seal
