"""Say in a few words what a source is doing, and how long its run will take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tasks.cli import output
from tasks.watching.activity import Activity, Doing, Forecast
from tasks.watching.census import Sight
from workers.storage.registry import Source

WORDS = {each: str(each) for each in Activity} | {
    Activity.SUSPENDED: "suspended: key refused",
    Activity.WORKER: "waiting for a worker",
    Activity.PAGERDUTY: "waiting on PagerDuty",
    Activity.BUDGET: "waiting for budget",
}
STUCK = {
    "look": "the fleet doesn't look after it",
    "plan": "its due run doesn't open",
    "offer": "its messages get lost",
    "error": "faults of our own",
    "seal": "its run isn't sealed",
}
_TIMELESS = (Activity.SEALING, Activity.READING)


def next_due(sight: Sight) -> datetime | None:
    """Return when the next run of a source is due, None for never."""
    due = sight.progress.due_at
    return datetime.fromtimestamp(due // 1000, UTC) if due else None


def line(sight: Sight) -> str:
    """Return a line about a source: its activity, the time that its run still takes, and its pages."""
    ahead, closed = sight.forecast, sight.progress.closed
    pages = f"{closed:,}/{closed + ahead.pages:,} pages" if ahead else ""
    return ", ".join(filter(None, (words(sight.doing), remaining(ahead), pages)))


def words(now: Doing) -> str:
    """Return the words for an activity. For a wait they say how long it has lasted."""
    said = WORDS[now.activity] + (f": {STUCK[now.why]}" if now.why else "")
    timeless = now.seconds is None or now.activity in _TIMELESS
    return said if timeless else f"{said} {output.age(now.seconds or 0.0)}"


def remaining(ahead: Forecast | None) -> str:
    """Return the time that a run still takes; "" while it makes no progress."""
    if ahead is None or ahead.least_minutes is None:
        return ""
    about = "at least" if ahead.unsure else "about"
    return f"{about} {output.age(ahead.least_minutes * 60)} left"


def purge(source: Source) -> Iterator[str]:
    """Yield the words about a purge that isn't finished, if the source has one."""
    if wish := source.purge:
        yield (
            f"purge up to run {wish.through} not finished (asked for by {wish.by}, {output.utc(wish.at)}): the signer "
            "signs its record before anything is deleted"
        )
