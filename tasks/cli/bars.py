"""Show the progress of runs: one bar per source on a terminal, or else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tasks.cli import output, sights
from tasks.watching.census import Sight

Show = Callable[[Sight], None]
"""Shows the progress of one source."""
_LINE_SECONDS = 5.0
_BAR_WIDTH = 12


@contextmanager
def bars(sources: Sequence[str], *, lines: bool = False) -> Iterator[Callable[[str], Show]]:
    """Show the runs of *sources* until the block ends. Yields a function from a source to its `Show`.

    Without a terminal it shows nothing or, with *lines*, one line every few seconds.
    """
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = output.console(stderr=True)
    words = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=_BAR_WIDTH),
        TextColumn("{task.fields[words]}", table_column=words),
    )
    said: dict[str, float] = {}
    off = not console.is_terminal
    with Progress(*columns, console=console, disable=off, expand=True, transient=True) as progress:
        rows = {source: progress.add_task(source, total=None, words="") for source in sources}

        def show_of(source: str) -> Show:
            def show(sight: Sight) -> None:
                closed, ahead = sight.progress.closed, sight.forecast
                total, words = closed + (ahead.pages if ahead else 0), sights.line(sight)
                progress.update(rows[source], completed=closed, total=total, words=words)
                if (
                    lines
                    and progress.disable
                    and time.monotonic() - said.get(source, 0.0) > _LINE_SECONDS
                ):
                    said[source] = time.monotonic()
                    output.say(f"{source}: {words}")

            return show

        yield show_of
