"""Common parts of the benchmarks: a fleet of real processes, their CPU, a table and a JSON file.

Compare only figures of the same run, because the speed and load of the machine are unknown.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import redis

from tests.acceptance.fleet import Fleet, fleet_of
from tests.simulator_process import SimulatorProcess, running_simulator

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(os.environ.get("BENCH_RESULTS", ROOT / "build" / "bench"))
# Nothing here waits for a repair, so the short times of the acceptance tests aren't needed.
USUAL = {
    "PAGETRAIL_REQUEST_TIMEOUT_SECONDS": "15",
    "PAGETRAIL_PAGE_LEASE_SECONDS": "40",
    "PAGETRAIL_SEAL_LEASE_SECONDS": "60",
    "PAGETRAIL_OFFER_LOST_SECONDS": "30",
    "PAGETRAIL_LOG_LEVEL": "WARNING",
}
UNLIMITED = 10**6
"""A limit per minute that no benchmark reaches."""


@contextmanager
def rig(
    accounts: Sequence[Mapping[str, Any]],
    *simulator_options: str,
    workers: int = 1,
    **settings: str,
) -> Iterator[tuple[Fleet, SimulatorProcess]]:
    """Run a simulator with *accounts* and a fleet that reads from it."""
    with (
        TemporaryDirectory(prefix="bench-") as directory,
        running_simulator(accounts, *simulator_options) as simulator,
        fleet_of(
            Path(directory) / "data",
            simulator,
            "--workers",
            str(workers),
            "--no-flower",
            **USUAL,
            **settings,
        ) as fleet,
    ):
        yield fleet, simulator


def connect(fleet: Fleet, sources: Mapping[str, str], *options: str) -> None:
    """Connect sources (name to key), several at once."""
    with ThreadPoolExecutor(4) as several:
        list(several.map(lambda each: fleet.connect(each[0], each[1], *options), sources.items()))


def start(fleet: Fleet, sources: Sequence[str]) -> None:
    """Open a run of every source, several at once."""
    with ThreadPoolExecutor(4) as several:
        list(several.map(lambda source: fleet.ask("collect", source), sources))


def redis_of(fleet: Fleet) -> redis.Redis:
    """Return a client of the fleet's own Redis."""
    return redis.Redis.from_url((fleet.data / "redis.url").read_text().strip())


def cpu_seconds(*processes: psutil.Process) -> float:
    """Return the CPU that living processes have used so far, user and system."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def wait_for(true: Callable[[], object], what: str, seconds: float = 900) -> None:
    """Wait until *true* holds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.05)


def timed(argv: Sequence[str]) -> tuple[float, float, str]:
    """Run a program. Return wall seconds, CPU seconds and its output."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *argv], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return time.perf_counter() - began, cpu, done.stdout


def report(name: str, title: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Print *rows* as one table, and write them, with *more*, to a JSON file."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    print(f"\n{title}")
    for line in cells:
        print("  ".join(text.rjust(width) if n else text.ljust(width)
                        for n, (text, width) in enumerate(zip(line, widths, strict=True))))  # fmt: skip
    for label, value in more.items():
        print(f"{label.replace('_', ' ')}: {_text(value)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    document = {"title": title, "rows": rows, **more, "python": platform.python_version(),
                "cores": os.cpu_count(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}  # fmt: skip
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    return "" if value is None else str(value)
