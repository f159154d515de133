"""Work out which problems of a source need a person, and which source comes first: pure functions."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tasks.watching.activity import WAITS, Activity, Doing
from tasks.watching.last_runs import LastRun
from workers.storage.registry import Source, SourceState

LONG_WAIT_SECONDS = 600.0
"""A wait this long needs a person."""
STALE_SHARE, STALE_SECONDS = 0.25, 900.0
"""A source is stale when it is late by more than a quarter of its interval plus a quarter of an hour."""


class Concern(StrEnum):
    """A problem that needs a person, the worst first."""

    KEY = "key refused"
    STUCK = "stuck"
    TROUBLE = "trouble"
    PURGE = "purge waits"
    RENAMED = "account renamed"
    FAILED = "failed"
    STALE = "stale"
    WAITS = "waits long"
    PARTIAL = "partial"
    ROTATION = "rotation due"


def concerns(
    source: Source,
    now: Doing,
    last: LastRun | None,
    at: datetime,
    key_max_age_days: int,
    *,
    troubled: bool = False,
) -> tuple[Concern, ...]:
    """Return the problems of *source* that need a person at the time *at*, worst first.

    *troubled* means that something the fleet does for the source keeps failing. A disconnected source has no concern
    but this and its purge.
    """
    if source.state is SourceState.DISCONNECTED:
        held = {Concern.TROUBLE: troubled, Concern.PURGE: _purge_waits(source, at)}
        return tuple(concern for concern, holds in held.items() if holds)
    ended = last.state if last else ""
    refused = last is not None and is_refused(source, last)
    found = {
        Concern.KEY: now.activity is Activity.SUSPENDED or refused,
        Concern.STUCK: now.activity is Activity.STUCK,
        Concern.TROUBLE: troubled,
        Concern.PURGE: _purge_waits(source, at),
        Concern.RENAMED: bool(renamed_to(source, last)),
        Concern.FAILED: ended == "failed" and not refused,
        Concern.STALE: _stale(source, last, at),
        Concern.WAITS: now.activity in WAITS and (now.seconds or 0.0) > LONG_WAIT_SECONDS,
        Concern.PARTIAL: last is not None and _lacks_something(last),
        Concern.ROTATION: at - source.keyed_at >= timedelta(days=key_max_age_days),
    }
    return tuple(concern for concern, holds in found.items() if holds)


def _purge_waits(source: Source, at: datetime) -> bool:
    """Return whether the source's purge was asked for long ago and isn't finished."""
    wish = source.purge
    return wish is not None and (at - wish.at).total_seconds() > LONG_WAIT_SECONDS


def _lacks_something(last: LastRun) -> bool:
    """Return whether a run ended partial and no run follows at once to read the rest."""
    return last.state == "partial" and not last.continues


def is_refused(source: Source, last: LastRun) -> bool:
    """Return whether PagerDuty refused the key in the last run and the source still has that key."""
    return last.ended == "refused" and source.keyed_at < last.sealed_at


def renamed_to(source: Source, last: LastRun | None) -> str:
    """Return the new subdomain that the last run's records link to; "" if they link to one that the source knows."""
    seen = last.subdomains if last else ()
    return seen[0] if seen and not source.subdomains & set(seen) else ""


def is_stale(late_seconds: float, every_seconds: float) -> bool:
    """Return whether a source is stale, if its last manifest is *late_seconds* older than its interval."""
    return late_seconds > every_seconds * STALE_SHARE + STALE_SECONDS


def _stale(source: Source, last: LastRun | None, at: datetime) -> bool:
    if source.state is not SourceState.ACTIVE or source.every_seconds is None:
        return False
    sealed_at = last.sealed_at if last else source.connected_at
    late = (at - sealed_at).total_seconds() - source.every_seconds
    return is_stale(late, source.every_seconds)


_CONCERNS, _ACTIVITIES = list(Concern), list(Activity)


def urgency(source: Source, now: Doing, found: tuple[Concern, ...]) -> tuple[Any, ...]:
    """Return the sort key of a source: its concerns, then its activity; equals by how long it lasts."""
    worst = [_CONCERNS.index(each) for each in found] or [len(_CONCERNS)]
    return worst, _ACTIVITIES.index(now.activity), -(now.seconds or 0.0), source.id
