"""`pagetrail collect`: start a run now, or join the open one; follow it to its end."""

from __future__ import annotations

import click

from tasks import api
from tasks.cli import output, parse, summaries
from tasks.cli.bars import bars
from tasks.cli.following import ASLEEP_SECONDS, Follower
from tasks.cli.run import show_summary
from tasks.outcomes import sealed_outcome
from workers.errors import Fault
from workers.runtime import Runtime, runtime


@click.command()
@parse.source_argument
@click.option("--wait", is_flag=True, help="Follow the run, and its backlog, to the end.")
@output.json_option
def collect(source: str, wait: bool, as_json: bool) -> None:
    """Start a run of a source now, or join the one that is open.

    With --wait it ends with 0 when the run is complete, 3 when it is partial or cancelled, and 1
    when it failed. Ctrl-C ends the waiting, never the run.

    \b
    Examples:
      pagetrail collect acme/main
      pagetrail collect acme/main --wait
    """
    fleet = runtime()
    opened = api.collect(fleet, source)
    if not wait:
        if as_json:
            output.emit({"run": opened.run, "state": "open", "joined": opened.joined})
        _say_opened(fleet, source, opened.run, joined=opened.joined)
        return
    try:
        with bars([source]) as show_of:
            manifests = Follower(fleet, source, show_of(source), output.say).follow(opened.run)
    except KeyboardInterrupt:
        raise Fault(
            f"Interrupted: run {opened.run} of {source} goes on; `pagetrail collect {source} "
            f"--wait` follows it again, `pagetrail run cancel {source}` ends it."
        ) from None
    document = summaries.summary([sealed_outcome(each) for each in manifests])
    if as_json:
        output.emit(document)
    else:
        show_summary(source, document)
    output.ended(summaries.exit_code(document["state"]))


def _say_opened(fleet: Runtime, source: str, run: str, *, joined: bool) -> None:
    what = f"Joined the open run {run}" if joined else f"Opened run {run}"
    output.say(f"{what} of {source}: `pagetrail collect {source} --wait` follows it.")
    clock = fleet.ledger.time()
    if clock.now_ms - (clock.tick_ms or 0) > ASLEEP_SECONDS * 1000:
        output.say("No fleet is at work, so the run waits: start it with `pagetrail up`.")
