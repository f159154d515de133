"""What commands show of a source at work: documents for programs, a few words for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.activity import Activity, Doing, Forecast, waits
from tasks.census import Sight
from tasks.cli import output

_WORDS = {
    Activity.BUDGET: "waits for budget",
    Activity.WORKER: "waits for a worker",
    Activity.PAGERDUTY: "waits on PagerDuty",
    Activity.SUSPENDED: "suspended, the key is refused",
}
_STUCK = {
    "look": "nobody looks after it",
    "plan": "its run is due and is not opened",
    "offer": "workers take its messages and do nothing",
    "error": "faults of our own, the workers' log tells which",
    "seal": "it is not sealed, the workers' log tells why",
}


def document(sight: Sight) -> dict[str, Any]:
    """Return what a source is doing, and what its open run waits for."""
    now = sight.doing
    return {
        "activity": now.activity,
        "activity_seconds": now.seconds,
        "why": now.why,
        "waits": {str(name): asdict(wait) for name, wait in waits(sight.progress).items()},
        "forecast": _forecast(sight),
    }


def _forecast(sight: Sight) -> dict[str, Any] | None:
    ahead, budget = sight.forecast, sight.budget
    if ahead is None or budget is None:
        return None
    return {
        "pages": ahead.pages,
        "minutes": ahead.minutes,
        "least_minutes": ahead.least_minutes,
        "unsure": ahead.unsure,
        "ceiling": budget.ceiling,
        "others": budget.foreign,
        "limit": budget.limit,
    }


def words(now: Doing) -> str:
    """Return what a source is doing, and for how long where it waits."""
    said = _WORDS.get(now.activity, str(now.activity))
    if now.activity is Activity.STUCK:
        said = f"stuck: {_STUCK[now.why]}"
    known = now.seconds is not None and now.activity is not Activity.SEALING
    return f"{said}, {output.age(now.seconds or 0.0)}" if known else said


def remaining(ahead: Forecast | None) -> str:
    """Return how long the open run will take, as far as that is known; empty without one."""
    if ahead is None:
        return ""
    if ahead.least_minutes is None:
        return f"{output.counted(ahead.pages, 'page')} left, how long is unknown"
    least = output.age(ahead.least_minutes * 60)
    about = "at least" if ahead.unsure else "about"
    return f"{output.counted(ahead.pages, 'page')} left, {about} {least}"
