"""The daily look at a source: report an old key, erase runs that have outlived their retention."""

from __future__ import annotations

from datetime import datetime

from tasks.runs.erasing import expire, is_open, wants_look
from tasks.runs.events import KeyRotationDue
from tasks.runs.newest import newest_run
from workers.errors import Busy
from workers.runtime import Runtime
from workers.state.events import DAY_SECONDS
from workers.storage.registry import Source

STEP_SECONDS = 15.0
"""Longest time for one look. It ends well before Redis would deliver its message to another worker too."""
LATER_SECONDS = 600.0
"""Time until the next look at a source that is being changed, or that has an open run."""


def look_after(fleet: Runtime, source: str) -> None:
    """Give a source its daily look. Nothing is erased while a run of the source is open."""
    found, now = fleet.sources.fresh(source), fleet.ledger.time().now
    _remind(fleet, found, now)
    try:
        with fleet.troubles.noted(source, "retention") as note:
            if is_open(fleet, source, newest_run(fleet, source)):
                note.done = False
                fleet.daily.within(source, LATER_SECONDS)
            elif not expire(fleet, found, now, STEP_SECONDS):
                fleet.daily.within(source, 0)
            elif not wants_look(found):
                fleet.daily.end(source)
    except Busy:  # somebody changed the source at the same moment
        fleet.daily.within(source, LATER_SECONDS)


def _remind(fleet: Runtime, source: Source, now: datetime) -> None:
    days, most = (now - source.keyed_at).days, fleet.settings.key_max_age_days
    if source.sealed_key is not None and days >= most:
        fleet.events.emit(
            KeyRotationDue(
                fingerprint=source.fingerprint, key_age_days=days, key_max_age_days=most
            ),
            source.id,
            about=f"{now:%Y-%m-%d}",
            quiet_seconds=DAY_SECONDS,
        )
