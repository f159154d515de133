"""`pagetrail status`: the fleet and every source, what needs a person first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from tasks import api
from tasks.cli import output, sights
from tasks.cli.following import found_again
from tasks.cli.screen import Row, View, screen, seen
from workers.errors import RedisUnreachable
from workers.runtime import Runtime, runtime

REFRESH_SECONDS = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@output.json_option
def status(watch: bool, as_json: bool) -> None:
    """Show the fleet and every source: what needs a person first.

    With --watch --json it prints one document a line, every second.
    """
    fleet = runtime()
    if watch:
        _watch(fleet, as_json=as_json)
    elif as_json:
        output.emit(_document(_view(fleet)))
    else:
        console = output.console()
        width, height = console.size
        console.print(screen(_view(fleet), (width, height - 1) if console.is_terminal else None))


def _watch(fleet: Runtime, *, as_json: bool) -> None:
    with suppress(KeyboardInterrupt):
        if as_json:
            for view in _views(fleet):
                if isinstance(view, View):
                    output.emit_line(_document(view))
                else:
                    output.say(view)
        else:
            _play(_views(fleet))


def _play(views: Iterator[View | str]) -> None:
    """Show one view after another, on a terminal each in the place of the last."""
    from rich.live import Live

    console = output.console()
    if not console.is_terminal or console.is_dumb_terminal:
        for view in views:
            console.print(screen(view, None) if isinstance(view, View) else view)
        return
    with Live(console=console, screen=True, auto_refresh=False) as display:
        for view in views:
            shown = screen(view, console.size) if isinstance(view, View) else view
            display.update(shown, refresh=True)


def _views(fleet: Runtime) -> Iterator[View | str]:
    """Yield the fleet every second; while Redis is away, a sentence that says so."""
    while True:
        try:
            view: View | str = _view(fleet)
        except RedisUnreachable as fault:
            view, fleet = f"{fault} Waiting for it.", found_again(fleet)
        yield view
        time.sleep(REFRESH_SECONDS)


def _view(fleet: Runtime) -> View:
    found = api.status(fleet)
    at = datetime.fromtimestamp(found.now_ms / 1000, UTC)
    return seen(found, at, fleet.settings.key_max_age_days)


def _document(view: View) -> dict[str, Any]:
    found = view.census
    return {
        "at": view.at,
        "working": found.working,
        "tick_age_seconds": found.tick_seconds,
        "paused": found.paused,
        "redis": {"lost": found.lost, "warning": found.warning},
        "queues": found.queues,
        "workers": found.workers,
        "sources": list(map(_entry, view.rows)),
    }


def _entry(row: Row) -> dict[str, Any]:
    sight = row.sight
    return {
        "source": sight.source.id,
        "state": sight.source.state,
        "needs": row.needs,
        **sights.document(sight),
        "next_due": sights.next_due(sight),
        "open": sights.open_run(sight),
        "last": sight.last,
    }
