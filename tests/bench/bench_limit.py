"""Measures how much of PagerDuty's limit a source uses, and how many refusals this causes, in real time.

Four sources, each with its own key, are read at the same time: with the usual reserve, without one,
and both again while somebody else uses the same key for 30 % of its limit.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from itertools import chain

import httpx

from tests.bench.rig import connect, report, rig, start, wait_for
from tests.simulator_process import SimulatorProcess

LIMIT = 960
FOREIGN = 0.30
TOOLS = 4
LATENCY_SECONDS = 0.15
PAUSE_SECONDS = TOOLS * 60 / (LIMIT * FOREIGN) - LATENCY_SECONDS
SERVED = 2  # records per page: many small pages, so that the machine isn't the limit
CASES = {  # source -> reserve, and whether somebody else uses the key
    "reserve10/main": ("10%", False),
    "reserve0/main": ("0%", False),
    "shared0/main": ("0%", True),
    "shared10/main": ("10%", True),
}


class Somebody(threading.Thread):
    """One of the customer's own tools, which sends requests at random moments, whatever happens."""

    def __init__(self, simulator: SimulatorProcess, key: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url = f"{simulator.region('us')}/users?limit=1"
        self._headers = {
            "Authorization": f"Token token={key}",
            "Accept": "application/vnd.pagerduty+json;version=2",
        }
        self._stop = stop
        self.answers: list[tuple[float, int]] = []

    def run(self) -> None:
        dice = random.Random(self.name)
        with httpx.Client(trust_env=False) as client:
            while not self._stop.wait(dice.expovariate(1 / PAUSE_SECONDS)):
                status = client.get(self._url, headers=self._headers).status_code
                self.answers.append((time.monotonic(), status))


def key_of(source: str) -> str:
    return f"{source.partition('/')[0]}-Key-".ljust(20, "0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=3)
    options = parser.parse_args()
    accounts = [
        {
            "subdomain": source.partition("/")[0], "incidents": 9_500, "days": 100, "users": 5,
            "log_entries_per_incident": 0.1, "audit_records": 0, "services": 5,
            "keys": [{"key": key_of(source), "limit": LIMIT}],
            "habits": {"latency_ms": 150, "jitter_ms": 50, "served": {"/incidents": SERVED}},
        }
        for source in CASES
    ]  # fmt: skip
    with rig(accounts, workers=1) as (fleet, simulator):
        stop = threading.Event()
        others = {
            source: [Somebody(simulator, key_of(source), stop) for _ in range(TOOLS)]
            for source, (_, shared) in CASES.items()
            if shared
        }
        for source, (reserve, _) in CASES.items():
            connect(
                fleet, {source: key_of(source)}, "--resources", "incidents", "--reserve", reserve
            )
        for somebody in chain(*others.values()):
            somebody.start()
        start(fleet, list(CASES))
        wait_for(lambda: all(requests(simulator, s) > 50 for s in CASES), "all sources are read")
        time.sleep(60)  # until every budget has lasted a whole minute
        began, before = time.monotonic(), {s: counts(simulator, s) for s in CASES}
        time.sleep(60 * options.minutes)
        minutes, after = (time.monotonic() - began) / 60, {s: counts(simulator, s) for s in CASES}
        stop.set()
        rows = []
        for source, (reserve, shared) in CASES.items():
            admitted, refused = (b - a for a, b in zip(before[source], after[source], strict=True))
            theirs = [
                status
                for somebody in others.get(source, ())
                for at, status in somebody.answers
                if at >= began
            ]
            usable = 1.0 if shared or reserve == "0%" else 0.9
            rows.append(
                {
                    "case": source.partition("/")[0],
                    "requests/min, all": admitted / minutes,
                    "theirs/min": theirs.count(200) / minutes,
                    "use": admitted / minutes / LIMIT / usable,
                    "429 ours": refused - theirs.count(429),
                    "429 theirs": theirs.count(429),
                    "429 per 1,000": 1e3 * refused / max(1, admitted + refused),
                }
            )
        report("limit", f"Use of {LIMIT} requests a minute over {options.minutes} minutes", rows)


def requests(simulator: SimulatorProcess, source: str) -> int:
    return int(simulator.stats()["keys"].get(key_of(source), {}).get("requests", 0))


def counts(simulator: SimulatorProcess, source: str) -> tuple[int, int]:
    """Return the numbers of admitted and refused requests of a source's key so far."""
    found = simulator.stats()["keys"][key_of(source)]
    refused = int(found.get("statuses", {}).get("429", 0))
    return int(found["requests"]) - refused, refused


if __name__ == "__main__":
    main()
