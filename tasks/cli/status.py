"""`pagetrail status`: the fleet and every source at a glance."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from tasks.census import Sight, census
from tasks.cli import output, sights, summaries
from workers.errors import UsageFault
from workers.runtime import Runtime, runtime

REFRESH_SECONDS = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@output.json_option
def status(watch: bool, as_json: bool) -> None:
    """Show the fleet and every source at a glance."""
    fleet = runtime()
    if not watch:
        document = _document(fleet)
        if as_json:
            output.emit(document)
        else:
            _show(document)
        return
    if as_json:
        raise UsageFault("--json prints one document: leave --watch out, or --json.")
    try:
        while True:
            document = _document(fleet)
            click.clear()
            _show(document)
            time.sleep(REFRESH_SECONDS)
    except KeyboardInterrupt:
        return


def _document(fleet: Runtime) -> dict[str, Any]:
    found = census(fleet, fleet.sources.list())
    return {
        "working": found.working,
        "tick_age_seconds": found.tick_seconds,
        "paused": found.paused,
        "queues": found.queues,
        "workers": found.workers,
        "sources": list(map(_row, found.sights)),
    }


def _row(sight: Sight) -> dict[str, Any]:
    progress = sight.progress
    due = progress["due_at"]
    row: dict[str, Any] = {
        "source": sight.source.id,
        "state": sight.source.state,
        **sights.document(sight),
        "next_due": datetime.fromtimestamp(due // 1000, UTC) if due else None,
        "open": None,
        "last": sight.last,
    }
    if run := progress.get("run"):
        row["open"] = {
            "run": run,
            "closed": progress.get("closed", 0),
            "pages": progress["pages"],
            "in_flight": progress["offered"] + progress["claimed"],
            "requests": summaries.requests_sent(progress),
            "words": sights.words(sight.doing),
        }
    return row


def _show(document: dict[str, Any]) -> None:
    queues = ", ".join(f"{name} {count}" for name, count in document["queues"].items())
    working = "at work" if document["working"] else "not at work: start it with `pagetrail up`"
    click.echo(f"The fleet is {working}. Messages waiting: {queues}.")
    if document["paused"]:
        click.echo("All requests are paused: `pagetrail source resume --all` lets them go on.")
    output.table(
        ("SOURCE", "STATE", "NOW", "LAST RUN", "NEXT"), (_cells(row) for row in document["sources"])
    )


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    now, last = row["open"], row["last"]
    doing = f"run {now['run']}: {now['closed']} pages, {now['words']}" if now else "-"
    done = f"{last['run']} {last['state']}" if last else "-"
    return row["source"], row["state"], doing, done, output.moment(row["next_due"])
