"""Measures how many full pages per second the simulator serves: `python tests/bench/bench_simulator.py`.

Pages per second of the server's own CPU time show what one core could do, whatever else the machine
does. The wall clock figure shows what it did here. Nothing is asserted.
"""

import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.simulator_process import SimulatorProcess, running_simulator

INCIDENTS = 9_000  # below the cap, so that one window has them all
CONNECTIONS = 4
KEY = "bench-key"
ACCOUNT = {
    "subdomain": "bench", "incidents": INCIDENTS, "days": 100, "log_entries_per_incident": 2,
    "services": 100, "users": 100, "keys": [{"key": KEY, "limit": 10**9}],
}  # fmt: skip


def read_answer(sock: socket.socket, buffer: bytearray) -> int:
    """Read one answer. Return the number of bytes in its body."""
    got = sock.recv_into(buffer)
    end = buffer.find(b"\r\n\r\n", 0, got) + 4
    head = bytes(buffer[:end])
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    missing = end + length - got
    while missing > 0:
        missing -= sock.recv_into(buffer, min(missing, len(buffer)))
    return length


def reader(simulator: SimulatorProcess, path: str, offsets: list[int], sizes: list[int]) -> None:
    """Request pages over one connection, one after another."""
    where = urlsplit(simulator.url)
    with socket.create_connection((where.hostname, where.port)) as sock:
        buffer = bytearray(1 << 20)
        for offset in offsets:
            sock.sendall(
                f"GET /us{path}&limit=100&offset={offset} HTTP/1.1\r\nHost: bench\r\n"
                f"Authorization: Token token={KEY}\r\n"
                "Accept: application/vnd.pagerduty+json;version=2\r\n\r\n".encode()
            )
            sizes.append(read_answer(sock, buffer))


def measure(simulator: SimulatorProcess, name: str, path: str, offsets: list[int]) -> None:
    """Request all offsets over several connections, and print the figures."""
    process, sizes = psutil.Process(simulator.pid), list[int]()
    parts = [offsets[i::CONNECTIONS] for i in range(CONNECTIONS)]
    threads = [threading.Thread(target=reader, args=(simulator, path, p, sizes)) for p in parts]
    cpu, start = sum(process.cpu_times()[:2]), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - start, sum(process.cpu_times()[:2]) - cpu
    print(
        f"{name:32} {len(sizes):6} pages of {sum(sizes) / len(sizes) / 1000:4.0f} kB:"
        f" {len(sizes) / cpu:7.0f} pages per CPU second, {len(sizes) / wall:6.0f} per second here"
    )


def main() -> None:
    """Measure cold and warm lists, includes, log entries and the truth."""
    with running_simulator([ACCOUNT]) as simulator:
        every = list(range(0, INCIDENTS, 100))
        incidents = "/incidents?date_range=all&sort_by=incident_number&time_zone=UTC"
        measure(simulator, "incidents, first time", incidents, every)
        measure(simulator, "incidents", incidents, every * 30)
        measure(
            simulator, "incidents, include[]=services", incidents + "&include[]=services", every * 3
        )
        log = "/log_entries?since=2000-01-01&time_zone=UTC"
        measure(simulator, "log entries", log, every * 3)
        measure(
            simulator, "log entries, include[]=channels", log + "&include[]=channels", every * 3
        )
        start = time.perf_counter()
        records = sum(1 for _ in simulator.truth("bench", "incidents"))
        print(f"truth: {records} incidents in {time.perf_counter() - start:.1f} s")
        memory = psutil.Process(simulator.pid).memory_info().rss
        print(f"memory of the server: {memory / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
