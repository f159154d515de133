"""A real simulator for a test, on a free loopback port, as a process or as a thread. It ends with the test."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from simulator.server import Simulator

ROOT = Path(__file__).resolve().parent.parent


class ControlRefused(AssertionError):
    """The control API refused a request. Its sentence says why."""


@dataclass(slots=True)
class SimulatorProcess:
    """A running simulator and its control API."""

    url: str
    pid: int
    http: httpx.Client = field(repr=False)

    def region(self, name: str) -> str:
        """Return a region's base URL, to be used like https://api.pagerduty.com."""
        return f"{self.url}/{name}"

    def control(self, method: str, name: str, **data: Any) -> Any:
        """Send one control request and return its JSON."""
        where = f"{self.url}/_control/{name}"
        answer = self.http.request(method, where, json=data if method != "GET" else None,
                                   params=data if method == "GET" else None)  # fmt: skip
        if answer.status_code != 200:
            raise ControlRefused(answer.text)
        return answer.json()

    def fault(self, kind: str, **rule: Any) -> dict[str, Any]:
        """Activate a fault rule: account, key, path (fnmatch), probability, next, skip, ..."""
        return dict(self.control("POST", "faults", kind=kind, **rule))

    def clear_faults(self) -> None:
        """Deactivate all fault rules."""
        self.control("DELETE", "faults")

    def mutate(self, account: str, do: str, **args: Any) -> dict[str, Any]:
        """Make one change now. Return kind, id and number of the record."""
        return dict(self.control("POST", "mutate", account=account, do=do, **args))

    def churn(self, account: str, operations: Sequence[str], count: int, **pace: Any) -> None:
        """Start churn with this many changes (every_requests=N or every_ms=N, seed=N)."""
        self.control(
            "POST", "churn", account=account, operations=list(operations), count=count, **pace
        )

    def ahead(self, days: float) -> None:
        """Set PagerDuty's clock ahead by a number of days."""
        self.control("POST", "clock", days=days)

    def stats(self) -> dict[str, Any]:
        """Return the counts per key, path, status, bucket and fault."""
        return dict(self.control("GET", "stats"))

    def reset_stats(self) -> None:
        """Reset the counts."""
        self.control("POST", "reset-stats")

    def requests(self) -> list[dict[str, Any]]:
        """Return the latest requests, oldest first."""
        lines = self.http.get(f"{self.url}/_control/requests").text.splitlines()
        return [json.loads(line) for line in lines]

    def truth(
        self,
        account: str,
        resource: str,
        params: Sequence[tuple[str, str]] = (),
        *,
        history: bool = False,
        at: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the account's records, as they were *at* a moment, or with *history* the history of each record."""
        query = httpx.QueryParams([("account", account), ("resource", resource), *params])
        query = query.add("history", "1") if history else query
        query = query.add("at", at) if at else query
        with self.http.stream("GET", f"{self.url}/_control/truth", params=query) as answer:
            if answer.status_code != 200:
                raise ControlRefused(answer.read().decode())
            for line in answer.iter_lines():
                yield json.loads(line)


@contextmanager
def running_simulator(
    accounts: Sequence[Mapping[str, Any]], *options: str
) -> Iterator[SimulatorProcess]:
    """Run `python -m simulator` with *accounts* (their JSON form) until the block ends."""
    with tempfile.TemporaryDirectory(prefix="simulator-") as directory:
        file = Path(directory) / "accounts.json"
        file.write_text(json.dumps(list(accounts)), "utf-8")
        command = [sys.executable, "-m", "simulator", "--leash", "--accounts", str(file), *options]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                line = process.stdout.readline()
                assert line, "the simulator ended before it was ready; its stderr says why"
                with httpx.Client(timeout=60, trust_env=False) as http:
                    yield SimulatorProcess(json.loads(line)["url"], process.pid, http)
            finally:
                process.stdin.close()  # the leash: the simulator ends by itself
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def simulator_thread() -> Iterator[SimulatorProcess]:
    """Run a simulator without accounts in a thread, so that it has the clock of the test."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    simulator = Simulator((), 60)

    async def serve() -> None:
        async with await simulator.serve("127.0.0.1", 0) as server:
            ready.set()
            with suppress(asyncio.CancelledError):
                await server.serve_forever()

    serving = loop.create_task(serve())
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
    thread.start()
    try:
        assert ready.wait(10), "the simulator did not start"
        with httpx.Client(timeout=60, trust_env=False) as http:
            yield SimulatorProcess(simulator.url, os.getpid(), http)
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
        loop.close()
