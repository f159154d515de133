"""Measures a worker's peak memory while three accounts, with eight pages in flight each, send the heaviest answers.

Each row is one kind of heavy answer (see heavy_server.py). The peak comes from the kernel (VmHWM), so none is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.acceptance.fleet import Fleet, until
from tests.bench.rig import ROOT, USUAL, report

KINDS = ("wide", "one", "tiny", "nested", "secret", "emoji")
KEYS = {f"hurt{n}/main": f"memory-Key-{n:09d}" for n in range(3)}
SECONDS = 90.0
RESOURCES = "incidents,services,users,oncalls"
SETTINGS = USUAL | {"PAGETRAIL_LANES_START": "8", "PAGETRAIL_LANES_MAX": "8"}


def peak_bytes(process: psutil.Process) -> int:
    """Return the most memory that *process* has taken so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [found] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(found) * 1024


@contextmanager
def heavy(kind: str) -> Iterator[str]:
    """Run a server of heavy answers. Yield its URL."""
    command = [sys.executable, "-m", "tests.bench.heavy_server", kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def measure(kind: str) -> dict[str, Any]:
    """Let the accounts send answers of a *kind* for a while. Return the worker's memory."""
    with TemporaryDirectory(prefix="bench-") as directory, heavy(kind) as url:
        data = Path(directory) / "data"
        regions = json.dumps({"us": url})
        fleet = Fleet(
            {"PAGETRAIL_DATA_DIR": str(data), "PAGETRAIL_REGIONS": regions, **SETTINGS}, data=data
        )
        try:
            fleet.start("--workers", "1", "--no-flower")
            fleet.backend("connect", keys=KEYS, resources=RESOURCES)
            [worker] = fleet.workers()
            idle = peak_bytes(worker)
            began = time.monotonic()
            fleet.backend("collect", keys=KEYS, resources=RESOURCES)
            while time.monotonic() - began < SECONDS and open_runs(fleet):
                time.sleep(0.5)
            reading = peak_bytes(worker)
            seal(fleet)
            return {
                "kind": kind,
                "idle MB": idle / 2**20,
                "reading MB": reading / 2**20,
                "sealing too MB": peak_bytes(worker) / 2**20,
                "now MB": worker.memory_info().rss / 2**20,
                "pages stored": sum(1 for _ in fleet.runs.glob("*/*/runs/*/pages/*/*/*.zst")),
                "seconds": time.monotonic() - began,
                "runs still open": open_runs(fleet),
            }
        finally:
            fleet.close()


def seal(fleet: Fleet) -> None:
    """End the runs as they are, and wait until they are sealed."""
    for source in KEYS:
        fleet.run("run", "cancel", source)  # a run that is sealed meanwhile can't be cancelled
    until(lambda: not open_runs(fleet), 300, "seal the runs", fleet.tail)


def open_runs(fleet: Fleet) -> int:
    """Return how many of the runs are not sealed yet."""
    return sum(not any(fleet.runs.glob(f"{source}/runs/*/manifest.json")) for source in KEYS)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kinds", default=",".join(KINDS))
    chosen = options.parse_args().kinds.split(",")
    report("memory", "Memory of a worker under heavy answers", [measure(kind) for kind in chosen])
