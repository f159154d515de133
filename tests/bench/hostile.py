"""Reads one healthy account beside every kind of hostile answer, each from another account."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from tests.acceptance.evidence import Evidence, assert_all_true
from tests.acceptance.fleet import Fleet, account, fleet_of
from tests.simulator_process import SimulatorProcess, running_simulator

MEGABYTE = 2**20
MOST_BYTES = 600 * MEGABYTE
MOST_SECONDS = 300.0
MOST_TIMES_SLOWER = 1.5
RESOURCES = "incidents,audit_records,teams,team_members,schedules,users"
TOGETHER, ROUNDS = 3, 3
"""Three healthy sources are read at the same time: first alone, then beside the hostile ones."""
LIMIT = 160  # per minute: it sets the pace of a healthy run, whatever else the machine does
HEALTHY = {"incidents": 4_500, "days": 20, "users": 120, "teams": 8, "audit_records": 1_500}
# Two pages with an offset, two with a cursor, and a record of each kind of parent.
HOSTILE = {"incidents": 120, "days": 20, "users": 8, "services": 4, "audit_records": 1_500,
           "teams": 2, "schedules": 1, "shift_schedules": 1}  # fmt: skip
SETTINGS = {
    "PAGETRAIL_DEFAULT_SINCE_DAYS": "30",
    "PAGETRAIL_REQUEST_TIMEOUT_SECONDS": "5",
    "PAGETRAIL_PAGE_LEASE_SECONDS": "15",
    "PAGETRAIL_SUSPEND_HOURS": "0.03",
}

EVERYTHING, ALL_BUT_USERS, ONE_LIST = "*", "/[!u]*", "/incidents*"
"""An account that still answers at /users counts as available, so its pages are given up one by one."""
AWAY = ("status_503", "hang", "drop_before", "unauthorized", "bare_429", "not_http", "drip_head")
# A kind that costs a time-out, 64 MB or five hundred pages would only do the same again on five lists.
DEAR = ("slow", "trickle", "drip", "drip_late", "length_huge", "interim_forever", "body_endless", "body_60_mb",
        "record_50_mb", "records_tiny", "gzip_bomb", "gzip_bomb_twice", "body_brackets", "more_forever",
        "more_invented", "page_oversized", "page_again")  # fmt: skip
RULES: Mapping[str, Mapping[str, Any]] = {
    **{kind: {"seconds": 8} for kind in ("slow", "trickle")},  # later than the time-out
    **{kind: {"seconds": 0.5} for kind in ("drip", "drip_late", "drip_head")},
    "page_too_large": {"served": 25},
}
# An account that claims a limit of one request per minute is asked once a minute, so its run takes long.
FEW = dict.fromkeys(("limit_is_1", "limit_reset_huge"), "teams")
HARMLESS = frozenset(
    (
        # Strange answers, but each record is correct.
        *("smaller", "duplicate", "drip", "status_299", "answer_twice"),
        # Read in smaller pages, or one at a time.
        *("page_too_large", "body_60_mb", "record_50_mb"),
        "page_again",  # read in periods of one page
        *("limit_zero", "offset_elsewhere", "number_long", "half_surrogate", "times_garbage"),
        *("date_past", "date_future", "limit_remaining_negative", "limit_reset_huge"),
        *("limit_is_0", "limit_is_1", "limit_huge", "limit_digits", "limit_garbage"),
    )
)
"""Kinds whose runs may be complete."""


@dataclass(slots=True)
class Memory:
    """The peak memory of each process of the fleet."""

    peaks: dict[int, int] = field(default_factory=dict)

    def look(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.Error):  # the process has ended
                held = process.memory_info().rss
                self.peaks[process.pid] = max(self.peaks.get(process.pid, 0), held)

    @property
    def most(self) -> int:
        return max(self.peaks.values(), default=0)


@contextmanager
def watched(fleet: Fleet) -> Iterator[Memory]:
    """Watch the fleet's memory, and end the fleet before it uses up the machine's memory."""
    memory, ended = Memory(), threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            with suppress(psutil.Error):  # the fleet has ended
                memory.look(fleet.children())
            if memory.most > 2 * MOST_BYTES:
                fleet.kill_all()
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield memory
    finally:
        ended.set()
        watcher.join()


def seconds_of(manifest: Mapping[str, Any]) -> float:
    """Return how long a run took."""
    opened, sealed = (datetime.fromisoformat(manifest[at]) for at in ("opened_at", "sealed_at"))
    return (sealed - opened).total_seconds()


def tenant_of(kind: str) -> str:
    return kind.replace("_", "-")


def key_of(tenant: str) -> str:
    return f"key-of-{tenant}".ljust(20, "0")


@dataclass(slots=True)
class Bed:
    """A fleet, the accounts that it reads, and the results."""

    fleet: Fleet
    simulator: SimulatorProcess
    kinds: Sequence[str]
    healthy: Sequence[str]

    def connect(self) -> None:
        """Connect every account while it still answers honestly."""
        for kind in self.kinds:
            tenant = tenant_of(kind)
            spec = account(tenant, [{"key": key_of(tenant)}], **HOSTILE)
            self.simulator.control("POST", "accounts", **spec)
        paced = [{"key": key_of(tenant), "limit": LIMIT} for tenant in self.healthy]
        self.simulator.control("POST", "accounts", **account("healthy", paced, **HEALTHY))
        few = {tenant_of(kind) for kind in FEW}
        self._do("connect", [t for t in map(tenant_of, self.kinds) if t not in few])
        self._do("connect", self.healthy)
        for kind in FEW:
            tenant = tenant_of(kind)
            self.fleet.connect(f"{tenant}/main", key_of(tenant), "--resources", FEW[kind])

    def turn(self) -> None:
        """Make every account hostile, each in its own way, and open its run."""
        for kind in self.kinds:
            path = EVERYTHING if kind in AWAY else ONE_LIST if kind in DEAR else ALL_BUT_USERS
            rule = {"path": path, **RULES.get(kind, {})}
            self.simulator.fault(kind, key=key_of(tenant_of(kind)), **rule)
        self._do("collect", [tenant_of(kind) for kind in self.kinds])

    def _do(self, step: str, tenants: Sequence[str]) -> None:
        """Connect or collect, as two backends at the same time."""
        halves = [tenants[::2], tenants[1::2]]
        keys = [{f"{tenant}/main": key_of(tenant) for tenant in half} for half in halves if half]
        with ThreadPoolExecutor(2) as backends:
            list(
                backends.map(
                    lambda some: self.fleet.backend(step, keys=some, resources=RESOURCES), keys
                )
            )

    def collect(self, tenants: Sequence[str]) -> list[float]:
        """Read healthy sources at the same time. Return how long each took."""
        sources = [f"{tenant}/main" for tenant in tenants]
        with ThreadPoolExecutor(len(sources)) as several:
            for summary in several.map(self.fleet.collect, sources):
                assert summary["state"] == "complete", summary
        return [seconds_of(Evidence(self.fleet.runs, source).manifest()) for source in sources]

    def sealed(self, kind: str) -> bool:
        return bool(self._evidence(kind).sealed)

    def complaint(self, kind: str) -> str:
        """Return the complaint about the end of the run of *kind*; "" if all is well."""
        if not self.sealed(kind):
            return "has not ended"
        manifest = self._evidence(kind).manifest()
        if (seconds := seconds_of(manifest)) > MOST_SECONDS:
            return f"ended after {seconds:.0f} s"
        silent = [
            name
            for name, resource in manifest["resources"].items()
            if resource["state"] != "complete" and not (resource["reason"] and resource["words"])
        ]
        if silent:
            return f"doesn't say why {silent} are not complete"
        if manifest["state"] == "complete" and kind not in HARMLESS:
            return "is complete"
        return ""

    def portrait(self, kind: str) -> str:
        """Return one line about the run of *kind*."""
        if not self.sealed(kind):
            return f"{kind:25} open"
        manifest = self._evidence(kind).manifest()
        resources = manifest["resources"].values()
        sent = sum(resource["requests"] for resource in resources)
        whys = {resource["words"] for resource in resources if resource["state"] != "complete"}
        said = f"{kind:25} {seconds_of(manifest):4.0f} s {sent:5} requests {manifest['state']:8}"
        return f"{said} {'; '.join(sorted(whys))[:120]}"

    def _evidence(self, kind: str) -> Evidence:
        return Evidence(self.fleet.runs, f"{tenant_of(kind)}/main")


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Two workers, and an account for each kind that the simulator has."""
    with running_simulator([account("nobody", ["nobodys-key-00000000"], incidents=0)]) as simulator:
        kinds = list(simulator.control("GET", "kinds"))
        healthy = [f"healthy{number:02}" for number in range(TOGETHER * (1 + ROUNDS))]
        options = ("--workers", "2", "--no-flower")
        with fleet_of(tmp_path / "data", simulator, *options, **SETTINGS) as fleet:
            yield Bed(fleet, simulator, kinds, healthy)
        assert simulator.stats()["bugs"] == 0


@pytest.mark.timeout(900)
def test_no_answer_to_one_account_reaches_another(bed: Bed) -> None:
    """The healthy account is complete and hardly slower, hostile ones end with a reason, and no worker suffers."""
    bed.connect()
    workers = [worker.pid for worker in bed.fleet.workers()]
    with watched(bed.fleet) as memory:
        alone = bed.collect(bed.healthy[:TOGETHER])
        bed.turn()
        beside: list[float] = []
        for start in range(TOGETHER, len(bed.healthy), TOGETHER):
            beside += bed.collect(bed.healthy[start : start + TOGETHER])
        with suppress(AssertionError):  # the complaints say which
            bed.fleet.until(lambda: all(map(bed.sealed, bed.kinds)), MOST_SECONDS, "seal every run")
        alive = [worker.pid for worker in bed.fleet.workers()]
    for kind in bed.kinds:
        print(bed.portrait(kind))
    print(f"healthy: alone {alone} s, beside {beside} s; {memory.most // MEGABYTE} MB at most")

    assert {kind: words for kind in bed.kinds if (words := bed.complaint(kind))} == {}
    assert alive == workers
    assert memory.most <= MOST_BYTES
    assert median(beside) <= MOST_TIMES_SLOWER * median(alone)
    assert bed.simulator.stats()["faults"].keys() == set(bed.kinds), "every kind was met"
    last = f"{bed.healthy[-1]}/main"
    names = RESOURCES.split(",")
    assert_all_true(bed.fleet, bed.simulator, bed.fleet.runs, last, "healthy", resources=names)
    assert bed.fleet.verify(last)["differences"] == []
