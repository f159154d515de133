"""`pagetrail status`: show the fleet and every source, sources that need a person first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import click

from tasks import api
from tasks.cli import output
from tasks.cli.documents.runs import fleet_status
from tasks.cli.following import found_again
from tasks.cli.screen import screen
from tasks.watching.census import Census
from workers.errors import RedisUnreachable
from workers.runtime import Runtime, runtime

REFRESH_SECONDS = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@output.json_option
def status(watch: bool, as_json: bool) -> None:
    """Show the fleet and every source. Sources that need a person come first.

    With --watch --json it prints one document per line, every second.
    """
    fleet = runtime()
    if watch:
        _watch(fleet, as_json=as_json)
    elif as_json:
        output.emit(fleet_status(api.status(fleet)))
    else:
        console = output.console()
        width, height = console.size
        console.print(
            screen(api.status(fleet), (width, height - 1) if console.is_terminal else None)
        )


def _watch(fleet: Runtime, *, as_json: bool) -> None:
    with suppress(KeyboardInterrupt):  # Ctrl-C is how a person ends --watch
        if as_json:
            for view in _views(fleet):
                if isinstance(view, Census):
                    output.emit_line(fleet_status(view))
                else:
                    output.say(view)
        else:
            _play(_views(fleet))


def _play(views: Iterator[Census | str]) -> None:
    """Show one view after another. On a terminal, each one replaces the one before."""
    from rich.live import Live

    console = output.console()
    if not console.is_terminal or console.is_dumb_terminal:
        for view in views:
            console.print(screen(view, None) if isinstance(view, Census) else view)
        return
    with Live(console=console, screen=True, auto_refresh=False) as display:
        for view in views:
            shown = screen(view, console.size) if isinstance(view, Census) else view
            display.update(shown, refresh=True)


def _views(fleet: Runtime) -> Iterator[Census | str]:
    """Yield the state of the fleet every second; while Redis is away, a sentence instead."""
    while True:
        try:
            view: Census | str = api.status(fleet)
        except RedisUnreachable as fault:
            view, fleet = f"{fault} Waiting for it.", found_again(fleet)
        yield view
        time.sleep(REFRESH_SECONDS)
