"""`pagetrail collect`: start a run now, or join the open one; follow it to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from tasks.cli import output, parse, summaries
from tasks.cli.following import ASLEEP_SECONDS, Follower
from tasks.cli.run import show_summary
from tasks.plan import collect_now
from workers.errors import Fault
from workers.runtime import Runtime, runtime

Show = Callable[[str, Mapping[str, Any]], None]


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
    opened = collect_now(fleet, fleet.sources.get(source))
    if not wait:
        if as_json:
            output.emit({"run": opened.run, "state": "open", "joined": opened.joined})
        _say_opened(fleet, source, opened.run, joined=opened.joined)
        return
    try:
        with _progress(source) as show:
            manifests = Follower(fleet, source, show, output.say).follow(opened.run)
    except KeyboardInterrupt:
        raise Fault(
            f"Interrupted: run {opened.run} of {source} goes on; `pagetrail collect {source} "
            f"--wait` follows it again, `pagetrail run cancel {source}` ends it."
        ) from None
    document = summaries.summary(manifests)
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


@contextmanager
def _progress(source: str) -> Iterator[Show]:
    """Show a run's pages as they are closed, where there is a person to see it."""
    console = output.console(stderr=True)
    if not console.is_terminal:
        yield lambda _run, _progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(14),
        MofNCompleteColumn(),
        TextColumn("pages  {task.fields[words]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(source, total=None, words="")

        def show(run: str, progress: Mapping[str, Any]) -> None:
            closed = progress.get("closed", 0)
            bars.update(
                bar,
                description=f"{source} {run}",
                completed=closed,
                total=closed + progress["pages"],
                words=summaries.progress_words(progress),
            )

        yield show
