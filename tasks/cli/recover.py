"""`pagetrail recover`: what the fleet does by itself when Redis was emptied, done now."""

from __future__ import annotations

import click

from tasks.cli import output
from tasks.runs.restoring import restore
from workers.runtime import runtime


@click.command()
@output.json_option
def recover(as_json: bool) -> None:
    """Restore sources and open runs from storage into Redis; harmless at any time.

    The fleet does this by itself within seconds after it finds Redis emptied or set back.
    """
    fleet = runtime()
    with output.waiting("Restoring from storage"):
        runs = restore(fleet)
    sources = len(fleet.sources.list())
    if as_json:
        output.emit({"sources": sources, "runs": runs})
    else:
        places = output.counted(sources, "source")
        output.say(f"In place: {places}, {output.counted(runs, 'open run')}.")
