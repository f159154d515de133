"""Measures pages per second and the cost per page, for 1 and 2 worker processes and 1 to 1,000 active sources.

The pages are full (100 incidents) and the same for all, without a limit on requests. It also measures the
memory in Redis for an idle source and for an active run.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import psutil

from tests.bench.crowd import begin, completion_seconds, parts_of, register
from tests.bench.rig import UNLIMITED, cpu_seconds, redis_of, report, rig

PAGES = 900
IDLE = 2_000
OUTER = {"evalsha", "brpop", "multi", "hget", "hmget", "get", "lpush", "publish", "llen"}


def keys(count: int) -> dict[str, str]:
    return {f"t{n:04}/main": f"scale-Key-{n:010d}" for n in range(count)}


def measure(workers: int, sources: int) -> dict[str, Any]:
    pages = max(1, PAGES // sources) if sources <= PAGES else 1
    pages = min(pages, 90)
    account = {
        "subdomain": "scale", "incidents": pages * 100, "days": 100, "log_entries_per_incident": 0.1, "users": 5,
        "audit_records": 0, "keys": [{"key": key, "limit": UNLIMITED} for key in keys(sources).values()],
    }  # fmt: skip
    with rig([account], workers=workers) as (fleet, _):
        parts, client = parts_of(fleet), redis_of(fleet)
        server = psutil.Process(client.info("server")["process_id"])
        register(parts, keys(sources))
        processes = fleet.workers()
        before = cpu_seconds(*processes), cpu_seconds(server), commands(client)
        sent = (
            client.info("stats")["total_net_input_bytes"]
            + client.info("stats")["total_net_output_bytes"]
        )
        began = time.monotonic()
        begin(fleet, keys(sources))
        completion_seconds(fleet, keys(sources))
        wall = time.monotonic() - began
        after = cpu_seconds(*processes), cpu_seconds(server), commands(client)
        moved = (
            client.info("stats")["total_net_input_bytes"]
            + client.info("stats")["total_net_output_bytes"]
            - sent
        )
        total = pages * sources
        return {
            "workers": workers,
            "sources": sources,
            "pages": total,
            "pages/s": total / wall,
            "worker ms/page": 1e3 * (after[0] - before[0]) / total,
            "redis ms/page": 1e3 * (after[1] - before[1]) / total,
            "redis calls/page": (after[2] - before[2]) / total,
            "redis bytes/page": moved / total,
            "redis MB": client.info("memory")["used_memory"] / 1e6,
        }


def commands(client: Any) -> int:
    """Return how many commands clients sent. Calls within scripts don't count."""
    return sum(
        int(found["calls"])
        for name, found in client.info("commandstats").items()
        if name.removeprefix("cmdstat_")
        in ("evalsha", "brpop", "multi", "hget", "hmget", "get", "lpush", "publish", "llen")
    )


def memory() -> dict[str, float]:
    """Return the bytes that Redis holds per idle source and per active run with open pages."""
    account = {
        "subdomain": "memory", "incidents": 9_000, "days": 100, "log_entries_per_incident": 0.1, "users": 5,
        "audit_records": 0, "keys": [{"key": key, "limit": UNLIMITED} for key in keys(50).values()],
        "habits": {"latency_ms": 5_000},
    }  # fmt: skip
    with rig([account], workers=1) as (fleet, _):
        parts, client = parts_of(fleet), redis_of(fleet)
        start = used(client)
        register(parts, {f"idle{n:05}/main": f"idle-Key-{n:011d}" for n in range(IDLE)})
        idle = (used(client) - start) / IDLE
        register(parts, keys(50))
        start = used(client)
        begin(fleet, keys(50))
        active = (used(client) - start) / 50
        return {"bytes per idle source": idle, "bytes per open run": active}


def used(client: Any) -> int:
    return int(client.info("memory")["used_memory_dataset"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    rows = [measure(workers, sources) for workers in options.workers for sources in options.sources]
    report("scale", "Full pages, no limit in the way", rows, **memory())


if __name__ == "__main__":
    main()
