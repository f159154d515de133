"""Compares a small run on an idle credential with two clients: 111 pages, including dispatch, sealing and verification.

The official client requests one page after the other. The gather requests 20 at a time and stores nothing.
Each is measured three times, in turn, by wall time. The table shows the medians.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import httpx

from tests.bench.rig import UNLIMITED, connect, report, rig, timed
from tests.simulator_process import SimulatorProcess

PAGES = 99  # below the cap; 111 pages with the lists of services and users
TIMES = 3
OFFICIAL = "official-Key-0000000"
GATHER = "gather-Key-000000000"


async def gather(base: str, key: str) -> None:
    """Request every page, 20 at a time."""
    headers = {
        "Authorization": f"Token token={key}",
        "Accept": "application/vnd.pagerduty+json;version=2",
    }
    gate = asyncio.Semaphore(20)
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as client:

        async def ask(path: str, offset: int) -> None:
            async with gate:
                where = f"{base}{path}limit=100&offset={offset}"
                (await client.get(where)).raise_for_status()

        lists = [("/incidents?date_range=all&", PAGES), ("/services?", 6), ("/users?", 6)]
        await asyncio.gather(*(ask(path, 100 * n) for path, pages in lists for n in range(pages)))


def main() -> None:
    if sys.argv[1:]:
        asyncio.run(gather(*sys.argv[1:]))
        return
    keys = {f"small{n}/main": f"small-Key-{n:010d}" for n in range(TIMES)}
    account = {
        "subdomain": "small", "incidents": PAGES * 100, "days": 100, "log_entries_per_incident": 0.1,
        "services": 560, "users": 560, "audit_records": 0,
        "keys": [{"key": key, "limit": UNLIMITED} for key in (OFFICIAL, GATHER)]
        + [{"key": key, "limit": 960} for key in keys.values()],
        "habits": {"latency_ms": 150, "jitter_ms": 50},
    }  # fmt: skip
    walls: dict[str, list[float]] = {
        "pagetrail, sealed": [],
        "official client": [],
        "httpx gather of 20": [],
    }
    sent: list[int] = []
    with rig([account], workers=1) as (fleet, simulator):
        connect(fleet, keys, "--resources", "incidents,services,users")
        base = simulator.region("us")
        for source in keys:
            began = time.perf_counter()
            summary = fleet.collect(source)
            walls["pagetrail, sealed"].append(time.perf_counter() - began)
            sent.append(sum(each["requests"] for each in summary["resources"].values()))
            walls["official client"].append(
                timed(["-m", "tests.bench.official_client", base, OFFICIAL, "1"])[0]
            )
            walls["httpx gather of 20"].append(
                timed(["-m", "tests.bench.bench_small", base, GATHER])[0]
            )
        refused = refusals(simulator, list(keys.values()))
    official = statistics.median(walls["official client"])
    report(
        "small",
        f"A run of {statistics.median(sent):.0f} requests at 150 ms each, start of the command to its end",
        [
            {
                "who": who,
                "seconds": statistics.median(found),
                "of the official client": statistics.median(found) / official,
            }
            for who, found in walls.items()
        ],
        refused_requests=refused,
    )


def refusals(simulator: SimulatorProcess, keys: list[str]) -> int:
    """Return how many of our requests were refused."""
    return sum(int(simulator.stats()["keys"][key]["refused"]) for key in keys)


if __name__ == "__main__":
    main()
