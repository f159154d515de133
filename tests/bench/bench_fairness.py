"""Fifty tenants of 20 pages each: alone, beside a tenant of 100,000 pages, and while the other region hangs.

Each case uses a separate fleet in the same run. The result is the ratio of the tenants' completion times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from tests.bench.crowd import begin, completion_seconds, parts_of, register
from tests.bench.rig import USUAL, redis_of, report, rig

SMALL, PAGES, BIG_PAGES = 50, 20, 100_000
HANGING = 60  # sources of the other region, which never get an answer
CASES = ALONE, BESIDE, HANGS = "alone", "beside the big one", "other region hangs"
GOAL = 1.3
TIMEOUT_SECONDS = float(USUAL["PAGETRAIL_REQUEST_TIMEOUT_SECONDS"])
SERVED = 5  # records per page: many pages without much work


def accounts(case: str) -> list[dict[str, Any]]:
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
    if case == BESIDE:
        made.append(
            {
                "subdomain": "big", "incidents": BIG_PAGES, **common, "keys": [{"key": BIG["big/main"], "limit": 960}],
                "habits": {**waits, "served": {"/incidents": 1}},
            }
        )  # fmt: skip
    if case == HANGS:
        keys = [{"key": key} for key in far_keys().values()]
        made.append({"subdomain": "far", "region": "eu", "incidents": 100, **common, "keys": keys})
    return made


BIG = {"big/main": "big-Key-000000000000"}


def small_keys() -> dict[str, str]:
    return {f"small{n:02}/main": f"small-Key-{n:010d}" for n in range(SMALL)}


def far_keys() -> dict[str, str]:
    return {f"far{n:02}/main": f"far-Key-{n:012d}" for n in range(HANGING)}


def run(case: str, workers: int) -> tuple[list[float], int]:
    """Return the small tenants' completion times, and the largest number of messages that waited on one queue."""
    with rig(accounts(case), workers=workers) as (fleet, simulator):
        parts, client = parts_of(fleet), redis_of(fleet)
        register(parts, small_keys())
        if case == BESIDE:
            register(parts, BIG)
            begin(fleet, BIG)
            time.sleep(10)  # wait until its backlog is known and its lanes are full
        if case == HANGS:
            register(parts, far_keys(), region="eu")
            client.hset(
                "pagetrail:clocks", mapping=dict.fromkeys(far_keys(), 0)
            )  # otherwise each run would ask for the time first
            simulator.fault("hang", account="far")
            begin(fleet, far_keys())
            time.sleep(3 * TIMEOUT_SECONDS)  # by now every worker process has noticed
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
    found: dict[str, list[float]] = {case: [] for case in CASES}
    queued = 0
    for _ in range(options.rounds):
        for case in CASES:
            completed, longest = run(case, options.workers)
            found[case] += completed
            queued = max(queued, longest)
    report(
        "fairness",
        f"{SMALL} tenants of {PAGES} pages, {options.workers} worker processes, {options.rounds} rounds each",
        [
            {
                "completion time": name,
                **{f"{case} s": of(times) for case, times in found.items()},
                **{f"ratio {case}": of(found[case]) / of(found[ALONE]) for case in CASES[1:]},
            }
            for name, of in (("median", statistics.median), ("95th percentile", p95), ("slowest", max))
        ],
        goal_of_the_ratio_at_the_95th_percentile=GOAL,
        most_messages_on_a_queue=queued,
    )  # fmt: skip


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
