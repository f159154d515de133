"""`pagetrail run`: list, show or cancel the runs of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tasks import api
from tasks.cli import gaps, output, parse
from tasks.cli.documents.outcomes import listed_run, shown_run
from tasks.cli.summaries import Summary, summary
from tasks.evidence.manifests import no_run
from tasks.evidence.outcomes import RunOutcome, with_requests
from workers.errors import RedisUnreachable
from workers.settings.environment import load_settings
from workers.storage import Storage, open_storage
from workers.storage.registry import is_registered

if TYPE_CHECKING:
    from tasks.watching.census import Sight


@click.group()
def run() -> None:
    """List, show or cancel the runs of a source."""


@run.command("list")
@parse.source_argument
@output.json_option
def list_(source: str, as_json: bool) -> None:
    """List the runs of a source, oldest first. It needs only storage."""
    storage = _storage()
    runs = api.stored_runs(storage, source)
    if any(each.state == "open" for each in runs) and (sight := _sight(storage, source)):
        requests = sight.progress.requests
        runs = [with_requests(each, requests) if each.state == "open" else each for each in runs]
    if as_json:
        output.emit({"source": source, "runs": [listed_run(each) for each in runs]})
        return
    if not runs:
        output.say(str(no_run(storage, source)))
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
    """Show the outcome of a run for every resource. It needs only storage."""
    storage = _storage()
    found = api.stored_run(storage, source, run)
    sight = _sight(storage, source) if found.sealed_at is None else None
    if sight:
        _show_working(source, with_requests(found, sight.progress.requests), sight, as_json)
    elif as_json:
        output.emit(shown_run(summary([found]), found.seal))
    else:
        show_summary(source, summary([found]))
        if found.sealed_at is None:
            output.say(f"Run {found.run} had not ended when this storage was written or copied.")
        elif found.seal is None:
            output.say(f"Run {found.run} is unsealed: the signer has not signed it yet.")


def _show_working(source: str, found: RunOutcome, sight: Sight, as_json: bool) -> None:
    """Show an open run, and what the fleet does with it."""
    from tasks.cli import sights
    from tasks.cli.documents.runs import working_run

    outcome = summary([found])
    if as_json:
        output.emit(working_run(outcome, sight))
    else:
        show_summary(source, outcome)
        output.say(f"Now: {sights.line(sight)}.")


def _sight(storage: Storage, source: str) -> Sight | None:
    """Return what the fleet does with a source; None if this is a copy of the evidence, or if Redis doesn't answer."""
    if not is_registered(storage, source):
        return None
    # Imported only here, so that a copy can be read where Redis isn't even installed.
    from workers.runtime import runtime

    fleet = runtime()
    try:
        [sight] = api.status(fleet, [api.get(fleet, source)]).sights
    except RedisUnreachable as fault:
        output.say(f"Only storage was read, which doesn't say how far an open run is. {fault}")
        return None
    return sight


def _storage() -> Storage:
    return open_storage(load_settings().storage_url_or_default)


@run.command()
@parse.source_argument
@parse.run_option("the open one")
@output.json_option
def cancel(source: str, run: str | None, as_json: bool) -> None:
    """End the open run of a source. The records it has read are sealed as cancelled."""
    from workers.runtime import runtime  # reading commands don't need it

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
