"""Compares the workers' CPU per page with the official client's, including ledger, limiter and storage.

Both read the same pages of 100 incidents from the same simulator in the same run. The client stores
nothing, and the workers seal the run. `--pages N` makes it shorter.
"""

from __future__ import annotations

import argparse
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil

from tests.acceptance.evidence import Evidence
from tests.acceptance.fleet import Fleet
from tests.bench.rig import (
    UNLIMITED,
    connect,
    cpu_seconds,
    redis_of,
    report,
    rig,
    start,
    timed,
    wait_for,
)
from tests.simulator_process import SimulatorProcess

PAGES_PER_SOURCE = 90  # below the cap, so that one window has only full pages
DAYS = 120
OFFICIAL = "official-Key-0000000"


class Sink(BaseHTTPRequestHandler):
    """Accepts and counts what the Sentry SDK sends."""

    taken = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Sink.taken += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-sentry", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    count = max(1, round(options.pages / PAGES_PER_SOURCE))
    keys = {f"bench{n}/main": f"bench-Key-{n:010d}" for n in range(count)}
    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    dsn = f"http://key@127.0.0.1:{sink.server_port}/1"
    account = {
        "subdomain": "bench", "incidents": PAGES_PER_SOURCE * 100, "days": DAYS,
        "log_entries_per_incident": 0.1, "services": 40, "users": 40, "audit_records": 0,
        "keys": [{"key": key, "limit": UNLIMITED} for key in [OFFICIAL, *keys.values()]],
    }  # fmt: skip
    settings = dict(each.split("=") for each in options.set)
    settings |= {} if options.no_sentry else {"PAGETRAIL_SENTRY_DSN": dsn}
    with rig([account], workers=options.workers, **settings) as (fleet, simulator):
        connect(fleet, keys, "--resources", "incidents")
        start(fleet, ["bench0/main"])  # warms the simulator
        wait_for(lambda: sealed(fleet, ["bench0/main"]), "the first run is sealed")
        clients = [official(simulator)]
        workers = fleet.workers()
        server = psutil.Process(redis_of(fleet).info("server")["process_id"])
        operations = redis_of(fleet).info("stats")["total_commands_processed"]
        rest = [source for source in keys if source != "bench0/main"]
        before, redis_before = cpu_seconds(*workers), cpu_seconds(server)
        system = system_seconds(*workers)
        start(fleet, rest)
        wait_for(lambda: sealed(fleet, rest), "every run is sealed")
        ours, redis_cpu = cpu_seconds(*workers) - before, cpu_seconds(server) - redis_before
        system = system_seconds(*workers) - system
        operations = redis_of(fleet).info("stats")["total_commands_processed"] - operations
        pages = sum(stored_pages(fleet, source) for source in rest)
        # Before and after, because the speed of a shared machine changes within minutes.
        clients.append(official(simulator))
        client = sum(clients) / len(clients)
        report(
            "cpu",
            f"CPU per full page of 100 incidents: {pages} pages, {options.workers} worker process(es)",
            [
                row("official client (stores nothing)", client, client),
                row("pagetrail's workers", ours / pages, client),
                row("pagetrail's Redis", redis_cpu / pages, client),
            ],
            redis_commands_a_page=operations / pages,
            client_ms_before=clients[0] * 1e3,
            client_ms_after=clients[1] * 1e3,
            workers_system_ms_a_page=system / pages * 1e3,
            taken_from_sentry_sdk=Sink.taken,
        )


def official(simulator: SimulatorProcess) -> float:
    """Return the CPU seconds per page of the official client, without its start."""
    argv = ["-m", "tests.bench.official_client", simulator.region("us"), OFFICIAL]
    _, idle, _ = timed([*argv, "0"])
    _, cpu, printed = timed([*argv, "5"])
    return (cpu - idle) / (int(printed) / 100)


def system_seconds(*processes: psutil.Process) -> float:
    """Return the part of `cpu_seconds` that the kernel used."""
    return sum(process.cpu_times().system for process in processes)


def row(who: str, seconds: float, client: float) -> dict[str, object]:
    """Return one line of the table: CPU seconds per page, and relative to the client."""
    return {
        "who": who,
        "ms a page": seconds * 1e3,
        "of the client": seconds / client,
        "pages/s/core": 1 / seconds,
    }


def sealed(fleet: Fleet, sources: list[str]) -> bool:
    return all(Evidence(fleet.runs, source).sealed for source in sources)


def stored_pages(fleet: Fleet, source: str) -> int:
    return sum(1 for _ in Evidence(fleet.runs, source).directory.glob("*/pages/incidents/*/*.zst"))


if __name__ == "__main__":
    main()
