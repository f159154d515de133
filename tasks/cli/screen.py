"""The screen of `pagetrail status`: as many sources as fit, those that need a person first."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.cli import output, sights
from tasks.reading.windows import moment
from tasks.watching.activity import Activity
from tasks.watching.census import Census, Sight
from tasks.watching.concerns import Concern, concerns, urgency

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


@dataclass(frozen=True, slots=True)
class Row:
    """A source, and why it needs a person."""

    sight: Sight
    needs: tuple[Concern, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The fleet, and its sources in the order in which a person should look at them."""

    census: Census
    at: datetime
    rows: list[Row]


def seen(found: Census, at: datetime, key_max_age_days: int) -> View:
    """Return the fleet with its sources in the order in which a person should look at them."""
    rows = []
    for each in found.sights:
        about, troubled = (each.source, each.doing, each.last), bool(each.troubles)
        rows.append(Row(each, concerns(*about, at, key_max_age_days, troubled=troubled)))
    rows.sort(key=lambda row: urgency(row.sight.source, row.sight.doing, row.needs))
    return View(found, at, rows)


def screen(view: View, size: tuple[int, int] | None) -> RenderableType:
    """Return the whole view, or with a *size* (width and height) as many of the first sources as fit."""
    from rich.console import Group
    from rich.text import Text

    width, height = size or (None, None)
    head = [*_fleet_lines(view.census), *_counts(view)]
    if width:
        head = [part for line in head for part in textwrap.wrap(line, width)]
    lines = [Text(line) for line in [*head, ""]]
    if not view.rows:
        return Group(*lines)
    fits = len(view.rows) if height is None else max(1, height - len(lines) - 2)
    shown, rest = view.rows[:fits], view.rows[fits:]
    more = [f"... and {len(rest):,} more, {_needy(rest)}"] if rest else []
    return Group(*lines, _table(view, shown, width), *more)


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


def _counts(view: View) -> Iterator[str]:
    rows = view.rows
    if not rows and view.census.lost:
        return
    if not rows:
        yield "There is no source yet: `pagetrail source connect TENANT/NAME` connects one."
        return
    counts = Counter(row.sight.doing.activity for row in rows)
    names = {each: sights.WORDS[each].partition(":")[0] for each in Activity if counts[each]}
    tally = (f"{counts[each]:,} {name}" for each, name in names.items())
    yield f"{output.counted(len(rows), 'source')}, {_needy(rows)}: {', '.join(tally)}."


def _needy(rows: Sequence[Row]) -> str:
    count = sum(1 for row in rows if row.needs)
    return f"{count:,} need a person" if count != 1 else "1 needs a person"


def _table(view: View, rows: Sequence[Row], width: int | None) -> RenderableType:
    from rich.text import Text

    table = output.grid()
    table.add_column("SOURCE", no_wrap=True, max_width=width and width // 4)
    table.add_column("DOING")  # the column that shrinks
    table.add_column("LAST RUN", no_wrap=True)
    table.add_column("NEXT IN", no_wrap=True)
    for row in rows:
        doing = Text(_doing(row), _style(row), no_wrap=True, overflow="ellipsis")
        table.add_row(row.sight.source.id, doing, _last(view, row), _due(view, row))
    return table


def _doing(row: Row) -> str:
    said = sights.line(row.sight)
    troubles = (f"{Concern.TROUBLE}: {each}" for each in row.sight.troubles.values())
    told = (Concern.WAITS, Concern.TROUBLE)
    unsaid = (str(each) for each in row.needs if each not in told and each not in said)
    return ", ".join((said, *troubles, *unsaid))


def _style(row: Row) -> str:
    red = {Concern.KEY, Concern.STUCK, Concern.TROUBLE, Concern.FAILED, Concern.STALE,
           Concern.RENAMED}  # fmt: skip
    if red & set(row.needs):
        return _RED
    return _STYLES.get(row.sight.doing.activity, _YELLOW if row.needs else "")


def _last(view: View, row: Row) -> str:
    last = row.sight.last
    if last is None:
        return "-"
    return f"{last['state']} {output.age((view.at - moment(last['sealed_at'])).total_seconds())}"


def _due(view: View, row: Row) -> str:
    due = sights.next_due(row.sight)
    return output.age(max(0.0, (due - view.at).total_seconds())) if due else "-"
