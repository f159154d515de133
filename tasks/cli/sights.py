"""What commands show of a source at work: documents for programs, a few words for people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tasks.cli import output
from tasks.watching.activity import Activity, Doing, Forecast, waits
from tasks.watching.census import Sight

WORDS = {each: str(each) for each in Activity} | {
    Activity.SUSPENDED: "suspended: key refused",
    Activity.WORKER: "waiting for a worker",
    Activity.PAGERDUTY: "waiting on PagerDuty",
    Activity.BUDGET: "waiting for budget",
}
STUCK = {
    "look": "nobody looks after it",
    "plan": "its due run isn't opened",
    "offer": "its messages get lost",
    "error": "faults of our own",
    "seal": "it isn't sealed",
}
_TIMELESS = (Activity.SEALING, Activity.READING)


def document(sight: Sight) -> dict[str, Any]:
    """Return what a source is doing, and what its open run waits for."""
    now = sight.doing
    return {
        "activity": now.activity,
        "activity_seconds": now.seconds,
        "why": now.why,
        "waits": {str(name): wait for name, wait in waits(sight.progress).items()},
        "forecast": _forecast(sight),
        "troubles": sight.troubles,
    }


def _forecast(sight: Sight) -> dict[str, Any] | None:
    ahead, budget = sight.forecast, sight.budget
    if ahead is None or budget is None:
        return None
    share = {"ceiling": budget.ceiling, "others": budget.foreign, "limit": budget.limit}
    return asdict(ahead) | {"minutes": ahead.minutes} | share


def open_run(sight: Sight) -> dict[str, Any] | None:
    """Return how far the open run of a source is; None without one."""
    progress = sight.progress
    if not progress.run:
        return None
    return {
        "run": progress.run,
        "closed": progress.closed,
        "pages": progress.pages,
        "in_flight": progress.offered + progress.claimed,
        "requests": sum(progress.requests.values()),
    }


def next_due(sight: Sight) -> datetime | None:
    """Return when the next run of a source is due; None: never."""
    due = sight.progress.due_at
    return datetime.fromtimestamp(due // 1000, UTC) if due else None


def line(sight: Sight) -> str:
    """Return what a source is doing, how far its run is, and how long it will take."""
    ahead, closed = sight.forecast, sight.progress.closed
    pages = f"{closed:,}/{closed + ahead.pages:,} pages" if ahead else ""
    return ", ".join(filter(None, (words(sight.doing), remaining(ahead), pages)))


def words(now: Doing) -> str:
    """Return what a source is doing, and for how long where it waits."""
    said = WORDS[now.activity] + (f": {STUCK[now.why]}" if now.why else "")
    timeless = now.seconds is None or now.activity in _TIMELESS
    return said if timeless else f"{said} {output.age(now.seconds or 0.0)}"


def remaining(ahead: Forecast | None) -> str:
    """Return how long the open run will take, as far as that is known; empty where it isn't moving."""
    if ahead is None or ahead.least_minutes is None:
        return ""
    about = "at least" if ahead.unsure else "about"
    return f"{about} {output.age(ahead.least_minutes * 60)} left"
