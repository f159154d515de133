"""Counts of requests and answers per key, path and status, and the latest requests."""

from collections import Counter, deque
from typing import Any, NamedTuple

from simulator.limits import Limits

KEPT_REQUESTS = 50_000


class Seen(NamedTuple):
    """One request as it was answered."""

    at: float
    account: str
    key: str
    method: str
    pattern: str
    path: str
    query: str
    status: int
    fault: str | None
    request_id: str


class Stats:
    """Counters since the start or the last reset."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str, int]] = Counter()  # account, key, pattern, status
        self.writes = 0  # requests with another method than GET
        self.without_accept = 0
        self.bugs = 0  # requests on which the simulator itself failed; tests expect 0
        self.latest: deque[Seen] = deque(maxlen=KEPT_REQUESTS)

    def note(self, seen: Seen) -> None:
        """Count one request."""
        self.counts[seen.account, seen.key, seen.pattern, seen.status] += 1
        self.writes += seen.method != "GET"
        self.latest.append(seen)

    def summary(self, limits: Limits, faults: Counter[str]) -> dict[str, Any]:
        """Return all counts as one JSON object. `refused` includes the 429s of the limit and of faults."""
        keys: dict[str, Any] = {}
        for (account, key, pattern, status), count in self.counts.items():
            entry = keys.setdefault(
                key, {"account": account, "requests": 0, "refused": 0, "paths": {}, "statuses": {}}
            )
            entry["requests"] += count
            entry["refused"] += count if status == 429 else 0
            for field, name in (("paths", pattern), ("statuses", str(status))):
                entry[field][name] = entry[field].get(name, 0) + count
        windows = {
            name: {"limit": w.limit, "worst_minute": w.worst, "refused": w.refused}
            for name, w in limits.windows.items()
        }
        return {
            "requests": sum(self.counts.values()),
            "writes": self.writes,
            "without_accept": self.without_accept,
            "bugs": self.bugs,
            "keys": keys,
            "buckets": windows,
            "faults": dict(faults),
        }

    def reset(self) -> None:
        """Reset the counts, except `bugs`."""
        self.counts.clear()
        self.latest.clear()
        self.writes = self.without_accept = 0
