"""The truth about on-call coverage: how long each schedule had somebody on call in a period."""

from __future__ import annotations

from typing import Any

from simulator import schedules
from simulator.world import Account


def coverage(account: Account, since: int, until: int) -> list[dict[str, Any]]:
    """Return the seconds with and without somebody on call, for each schedule that exists now."""
    rows = [r for kind in ("schedules", "v3_schedules") for r in account.stores[kind].rows]
    found = []
    for record in rows:
        covered, edge = 0, since
        for duty in sorted(schedules.on_call(account, record, since, until)):
            covered += max(0, duty.end - max(duty.start, edge))
            edge = max(edge, duty.end)
        found.append({"id": record.id, "covered": covered, "gap": until - since - covered})
    return found
