"""The screen of `pagetrail status`: as many sources as fit, those that need a person first."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.cli import output, sights
from tasks.watching.activity import Activity
from tasks.watching.census import Census, Sight
from tasks.watching.concerns import Concern

if TYPE_CHECKING:
    from rich.console import RenderableType

_RED, _YELLOW = "red", "yellow"
_STYLES = {
    Activity.SUSPENDED: _RED,
    Activity.STUCK: _RED,
    Activity.WORKER: _YELLOW,
    Activity.PAGERDUTY: _YELLOW,
    Activity.BUDGET: _YELLOW,
}


def screen(found: Census, size: tuple[int, int] | None) -> RenderableType:
    """Return the screen with all sources, or with as many as fit a *size* (width and height)."""
    from rich.console import Group
    from rich.text import Text

    width, height = size or (None, None)
    head = [*_fleet_lines(found), *_counts(found)]
    if width:
        head = [part for line in head for part in textwrap.wrap(line, width)]
    lines = [Text(line) for line in [*head, ""]]
    if not found.sights:
        return Group(*lines)
    fits = len(found.sights) if height is None else max(1, height - len(lines) - 2)
    shown, rest = found.sights[:fits], found.sights[fits:]
    more = [f"... and {len(rest):,} more, {_needy(rest)}"] if rest else []
    return Group(*lines, _table(found.at, shown, width), *more)


def _fleet_lines(found: Census) -> Iterator[str]:
    tick = "never" if found.tick_seconds is None else f"{output.age(found.tick_seconds)} ago"
    at_work = "at work" if found.working else "not at work"
    yield f"The fleet is {at_work}: {output.counted(len(found.workers), 'worker')}, last tick {tick}."
    if not found.workers:
        yield "No worker is running: `pagetrail up` starts the fleet on this machine."
    else:
        if untaken := [name for name in found.queues if name not in found.taken]:
            yield f"No worker takes from {', '.join(untaken)}."
        if not found.working and "plan" in found.taken:
            yield "The tick is late: is beat running?"
    if found.paused:
        yield "All requests are paused: `pagetrail source resume --all` resumes them."
    if found.warning:
        yield found.warning
    if found.lost:
        yield (
            f"Redis may lack sources and runs ({found.lost}): a working fleet restores them from storage, and so "
            "does `pagetrail recover`."
        )
    waiting = ", ".join(f"{name} {count:,}" for name, count in found.queues.items())
    yield f"Messages waiting: {waiting}."


def _counts(found: Census) -> Iterator[str]:
    rows = found.sights
    if not rows and found.lost:
        return
    if not rows:
        yield "No source is connected yet: `pagetrail source connect TENANT/NAME` connects one."
        return
    counts = Counter(sight.doing.activity for sight in rows)
    names = {each: sights.WORDS[each].partition(":")[0] for each in Activity if counts[each]}
    tally = (f"{counts[each]:,} {name}" for each, name in names.items())
    yield f"{output.counted(len(rows), 'source')}, {_needy(rows)}: {', '.join(tally)}."


def _needy(rows: Sequence[Sight]) -> str:
    count = sum(1 for sight in rows if sight.needs)
    return f"{count:,} need a person" if count != 1 else "1 needs a person"


def _table(at: datetime, rows: Sequence[Sight], width: int | None) -> RenderableType:
    from rich.text import Text

    table = output.grid()
    table.add_column("SOURCE", no_wrap=True, max_width=width and width // 4)
    table.add_column("DOING")  # the column that shrinks
    table.add_column("LAST RUN", no_wrap=True)
    table.add_column("NEXT IN", no_wrap=True)
    for sight in rows:
        doing = Text(_doing(sight), _style(sight), no_wrap=True, overflow="ellipsis")
        table.add_row(sight.source.id, doing, _last(at, sight), _due(at, sight))
    return table


def _doing(sight: Sight) -> str:
    said = sights.line(sight)
    troubles = (f"{Concern.TROUBLE}: {each}" for each in sight.troubles.values())
    purge = sights.purge(sight.source)
    told = (Concern.WAITS, Concern.TROUBLE, Concern.PURGE)
    unsaid = (str(each) for each in sight.needs if each not in told and each not in said)
    return ", ".join((said, *troubles, *purge, *unsaid))


def _style(sight: Sight) -> str:
    red = {Concern.KEY, Concern.STUCK, Concern.TROUBLE, Concern.FAILED, Concern.STALE,
           Concern.RENAMED}  # fmt: skip
    if red & set(sight.needs):
        return _RED
    return _STYLES.get(sight.doing.activity, _YELLOW if sight.needs else "")


def _last(at: datetime, sight: Sight) -> str:
    last = sight.last
    if last is None:
        return "-"
    seal = ", unsealed" if last.run in sight.unsealed else ""
    return f"{last.state} {output.age((at - last.sealed_at).total_seconds())}{seal}"


def _due(at: datetime, sight: Sight) -> str:
    due = sights.next_due(sight)
    return output.age(max(0.0, (due - at).total_seconds())) if due else "-"
