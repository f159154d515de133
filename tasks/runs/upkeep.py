"""The daily look at a source: report an old key, erase runs that have outlived their retention."""

from __future__ import annotations

from datetime import datetime

from tasks.runs.erasing import LATER_SECONDS, Progress, expire, is_open, wants_look
from tasks.runs.events import KeyRotationDue
from tasks.runs.newest import newest_run
from workers.errors import Busy
from workers.runtime import Runtime
from workers.state.events import DAY_SECONDS
from workers.storage.registry import Source

STEP_SECONDS = 15.0
"""Longest time for one look. It ends well before Redis would deliver its message to another worker too."""


def look_after(fleet: Runtime, source: str) -> None:
    """Give a source its daily look. Nothing is erased while a run of the source is open."""
    found, now = fleet.sources.fresh(source), fleet.ledger.time().now
    _remind(fleet, found, now)
    try:
        with fleet.troubles.noted(source, "retention") as note:
            if is_open(fleet, source, newest_run(fleet, source)):
                note.done = False
                fleet.daily.within(source, LATER_SECONDS)
            else:
                note.done = _erase(fleet, found, now)
    except Busy:  # somebody changed the source at the same moment
        fleet.daily.within(source, LATER_SECONDS)


def _erase(fleet: Runtime, source: Source, now: datetime) -> bool:
    """Erase what may be erased now, and say when to look again. Return whether nothing waits for the signer."""
    progress = expire(fleet, source, now, STEP_SECONDS)
    if progress is Progress.MORE:
        fleet.daily.within(source.id, 0)
    elif progress is Progress.DONE and not wants_look(fleet.sources.fresh(source.id)):
        fleet.daily.end(source.id)
    return progress is not Progress.WAITS


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
