"""Finds the newest run of a source."""

from __future__ import annotations

import orjson

from tasks.evidence.erasures import Purged
from workers.runtime import Runtime


def newest_run(fleet: Runtime, source: str) -> str:
    """Return the newest run of *source* in storage that was not erased; "" if none is left.

    The last run that Redis knows only tells where the search begins.
    """
    [last] = fleet.ledger.lasts([source])
    return Purged(fleet.storage, source).newest(orjson.loads(last)["run"] if last else "")
