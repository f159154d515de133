"""Fifty tenants of 20 pages each, with and without a tenant of 100,000 pages beside them.

Also with all sources of the other region hanging. Each case is a fleet of its own in the same run;
what counts is the ratio of the small tenants' completion times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from tests.bench.crowd import begin, completion_seconds, parts_of, register
from tests.bench.rig import redis_of, report, rig

SMALL, PAGES, BIG_PAGES = 50, 20, 100_000
SERVED = 5  # records a page: many pages without much work


def accounts(*, big: bool) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "days": 100,
        "log_entries_per_incident": 0.1,
        "audit_records": 0,
        "users": 5,
    }
    waits = {"latency_ms": 150, "jitter_ms": 50}
    made = [
        {
            "subdomain": "small", "incidents": PAGES * SERVED, **common,
            "keys": [{"key": key, "limit": 960} for key in small_keys().values()],
            "habits": {**waits, "served": {"/incidents": SERVED}},
        }
    ]  # fmt: skip
    if big:
        made.append(
            {
                "subdomain": "big", "incidents": BIG_PAGES, **common, "keys": [{"key": BIG["big/main"], "limit": 960}],
                "habits": {**waits, "served": {"/incidents": 1}},
            }
        )  # fmt: skip
    return made


BIG = {"big/main": "big-Key-000000000000"}


def small_keys() -> dict[str, str]:
    return {f"small{n:02}/main": f"small-Key-{n:010d}" for n in range(SMALL)}


def run(*, big: bool, workers: int) -> tuple[list[float], int]:
    """Return the small tenants' completion times, and the most messages that waited on one queue."""
    with rig(accounts(big=big), workers=workers) as (fleet, _):
        parts, client, longest = parts_of(fleet), redis_of(fleet), 0
        register(parts, small_keys())
        if big:
            register(parts, BIG)
            begin(fleet, BIG)
            time.sleep(10)  # its backlog is known and its lanes are full
        begin(fleet, small_keys())
        longest = max(
            int(client.llen(f"pagetrail:{name}")) for name in ("plan", "fetch", "backfill", "seal")
        )
        return sorted(completion_seconds(fleet, small_keys()).values()), longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found: dict[bool, list[float]] = {False: [], True: []}
    queued = 0
    for _ in range(options.rounds):
        for big in found:
            times, longest = run(big=big, workers=options.workers)
            found[big] += times
            queued = max(queued, longest)
    alone, beside = found[False], found[True]
    report(
        "fairness",
        f"{SMALL} tenants of {PAGES} pages, {options.workers} worker processes, {options.rounds} rounds each",
        [
            {
                "completion time": name,
                "alone s": of(alone),
                "beside the big one s": of(beside),
                "ratio": of(beside) / of(alone),
            }
            for name, of in (("median", statistics.median), ("95th percentile", p95), ("slowest", max))
        ],
        most_messages_on_a_queue=queued,
    )  # fmt: skip


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
