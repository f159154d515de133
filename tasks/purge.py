"""Erase evidence: all of a source because somebody asked, or the runs that have outlived its retention."""

from __future__ import annotations

import logging
from datetime import datetime

from tasks.evidence.erasures import newest_run
from tasks.runs.erasing import expire, is_open, wants_look
from workers.app import celery
from workers.errors import Busy
from workers.runtime import Runtime, runtime
from workers.state.events import DAY_SECONDS
from workers.storage.registry import Source

log = logging.getLogger("pagetrail.purge")

STEP_SECONDS = 15.0
"""A look ends well before its message would be delivered to another worker too."""
LATER_SECONDS = 600.0
"""When to look again at a source that is being changed, or whose run is open."""


@celery.task(name="tasks.purge.look_after")
def look_after(source: str) -> None:
    """Give a source its daily look: tell of an old key, erase what has outlived its retention unless a run is open."""
    fleet = runtime()
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
    except Busy:  # it was changed at this very moment
        fleet.daily.within(source, LATER_SECONDS)


def _remind(fleet: Runtime, source: Source, now: datetime) -> None:
    days, most = (now - source.keyed_at).days, fleet.settings.key_max_age_days
    if source.sealed_key is not None and days >= most:
        fleet.events.emit(
            "key.rotation_due",
            source.id,
            None,
            {
                "fingerprint": source.fingerprint,
                "key_age_days": days,
                "key_max_age_days": most,
            },
            about=f"{now:%Y-%m-%d}",
            quiet_seconds=DAY_SECONDS,
        )
