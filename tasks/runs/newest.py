"""Find the newest run of a source."""

from __future__ import annotations

from tasks.evidence.erasures import Purged
from tasks.watching.last_runs import read_last
from workers.runtime import Runtime


def newest_run(fleet: Runtime, source: str) -> str:
    """Return the newest run of *source* in storage that was not erased; "" if none is left.

    Redis only says where the search begins: at the last run that it knows.
    """
    [kept] = fleet.ledger.lasts([source])
    last = read_last(kept)
    return Purged(fleet.storage, source).newest(last.run if last else "")
