"""Erase runs that have outlived their source's retention."""

from __future__ import annotations

from tasks.runs import upkeep
from workers.app import celery
from workers.runtime import runtime


@celery.task(name="tasks.purge.look_after")
def look_after(source: str) -> None:
    """Give a source its daily look: report an old key, and erase runs that have outlived their retention."""
    upkeep.look_after(runtime(), source)
