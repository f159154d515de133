"""`pagetrail recover`: restore an emptied Redis now, as the fleet would by itself."""

from __future__ import annotations

import click

from tasks.cli import output
from tasks.runs.restoring import restore
from workers.runtime import runtime


@click.command()
@output.json_option
def recover(as_json: bool) -> None:
    """Restore sources and open runs from storage into Redis. It is safe at any time.

    The fleet does this by itself, within seconds after it notices that Redis lost data.
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
