"""`pagetrail status`: the fleet and every source at a glance."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click
import orjson

from tasks.cli import output, summaries
from tasks.cli.following import ASLEEP_SECONDS
from workers.errors import UsageFault, redis_faults
from workers.runtime import Runtime, runtime
from workers.sources import Source

REFRESH_SECONDS = 1.0
_QUEUES = ("plan", "fetch", "backfill", "seal")


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
    with redis_faults():
        clock = fleet.ledger.time()
        lengths = {name: _length(fleet, name) for name in _QUEUES}
        rows = [_row(fleet, source) for source in fleet.sources.list()]
    age = None if clock.tick_ms is None else max(0.0, (clock.now_ms - clock.tick_ms) / 1000)
    return {
        "working": age is not None and age < ASLEEP_SECONDS,
        "tick_age_seconds": age,
        "paused": fleet.switch.paused(),
        "queues": lengths,
        "sources": rows,
    }


def _length(fleet: Runtime, queue: str) -> int:
    return int(fleet.redis.llen(f"{fleet.settings.key_prefix}:{queue}"))


def _row(fleet: Runtime, source: Source) -> dict[str, Any]:
    progress, last = fleet.ledger.progress(source.id), fleet.ledger.last(source.id)
    due = progress["due_at"]
    row: dict[str, Any] = {
        "source": source.id,
        "state": source.state,
        "next_due": datetime.fromtimestamp(due // 1000, UTC) if due else None,
        "open": None,
        "last": orjson.loads(last) if last else None,
    }
    if run := progress.get("run"):
        row["open"] = {
            "run": run,
            "closed": progress.get("closed", 0),
            "pages": progress["pages"],
            "in_flight": progress["offered"] + progress["claimed"],
            "requests": summaries.requests_sent(progress),
            "words": summaries.progress_words(progress),
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
