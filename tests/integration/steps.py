"""A fleet of one worker that does one message at a time, for tests that do runs step by step.

Redis, the simulator process and storage are real. Only the transport of messages is replaced: messages
are in a deque instead of Celery's lists, and each step does one message. The test sets the ledger's
clock, so nothing waits.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import Secret
from redis import Redis

from tasks import fetch, plan, purge, seal, sign
from tasks.evidence.layout import manifest_key, sums_key
from tasks.runs import opening, restoring
from tests.simulator_process import SimulatorProcess, running_simulator
from workers.app import celery
from workers.pagerduty.client import PagerDuty
from workers.pagerduty.keys import fingerprint
from workers.pagerduty.replies import Reply
from workers.runtime import Runtime
from workers.settings.environment import Settings
from workers.state.ledger import Ledger
from workers.storage import Storage
from workers.storage.registry import Source

SOURCE, RUN, KEY = "acme/main", "00000001", "k" * 20
OTHER = "acme/other"
HOUR_MS = 3_600_000
ACCOUNT = {
    "subdomain": "acme",
    "incidents": 250,
    "days": 110,
    "log_entries_per_incident": 2,
    "services": 220,
    "users": 12,
    "teams": 5,
    "schedules": 3,
    "shift_schedules": 2,
    "audit_records": 150,
    "keys": [{"key": KEY, "limit": 100_000}],
}
MOST_STEPS = 40_000
Message = tuple[str, tuple[Any, ...]]


class Died(BaseException):
    """The worker died in the middle of its step."""


class Noticed:
    """A storage that reports each new object."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.stored: Callable[[str], None] = lambda _key: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put_new(self, key: str, data: bytes) -> bool:
        new = self._storage.put_new(key, data)
        if new:
            self.stored(key)
        return new

    def put_new_file(self, key: str, path: Path) -> bool:
        new = self._storage.put_new_file(key, path)
        if new:
            self.stored(key)
        return new


class Timed:
    """PagerDuty, except for answers that a test changes. Each answer takes a moment of the ledger's clock."""

    def __init__(self, pagerduty: PagerDuty, ledger: Ledger) -> None:
        self._pagerduty = pagerduty
        self._ledger = ledger
        self.answer: Callable[[str, Reply], Reply] = lambda _path, reply: reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pagerduty, name)

    def get(self, region: str, path: str, params: Any, key: str, **options: Any) -> Reply:
        assert self._ledger.now_ms is not None
        self._ledger.now_ms += 1
        return self.answer(path, self._pagerduty.get(region, path, params, key, **options))


@dataclass
class Fleet:
    """A fleet of one worker that does one step at a time."""

    runtime: Runtime
    redis: Redis
    storage: Noticed
    pagerduty: Timed
    messages: deque[Message] = field(default_factory=deque)
    steps: int = 0

    def connect(self) -> Source:
        """Register the account as a source."""
        now = datetime.now(UTC)
        source = Source(
            id=SOURCE,
            region="us",
            subdomain="acme",
            credential="account",
            fingerprint=fingerprint("us", KEY),
            sealed_key=self.runtime.vault.seal(KEY, SOURCE),
            keyed_at=now,
            connected_at=now,
            since=now - timedelta(days=120),
            every_seconds=86_400,
            reserve=0.0,
        )
        return self.runtime.sources.add(source)

    @property
    def now_ms(self) -> int:
        assert self.runtime.ledger.now_ms is not None
        return self.runtime.ledger.now_ms

    @property
    def manifest(self) -> dict[str, Any] | None:
        text = self.storage.get(manifest_key(SOURCE, RUN))
        return orjson.loads(text) if text else None

    @property
    def ended(self) -> bool:
        """Whether the run is sealed, its digests are listed, and the ledger knows that it is over."""
        listed = self.storage.get(sums_key(SOURCE, RUN)) is not None
        return listed and not self.redis.exists(f"pagetrail:run:{SOURCE}")

    def step(self, which: int = 0) -> None:
        """Do one message. If the worker dies, the message stays undone."""
        self.steps += 1
        assert self.steps < MOST_STEPS, "the run is stuck"
        self.messages.rotate(-which)
        name, arguments = self.messages.popleft()
        self.messages.rotate(which)
        with contextlib.suppress(Died):  # a test lets the worker die
            celery.tasks[name](*arguments)

    def idle(self) -> None:
        """Move the clock to the next due time, and let beat tick."""
        ledger = self.runtime.ledger
        assert ledger.now_ms is not None
        due = self.redis.zrangebyscore("pagetrail:due", 0, "(inf", 0, 1, withscores=True)
        ledger.now_ms = max(ledger.now_ms + 1, int(due[0][1]) if due else 0)
        plan.tick()

    def take_messages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all tasks of this process work for this fleet, and send their messages to it."""
        for module in (plan, fetch, purge, seal, sign):
            monkeypatch.setattr(module, "runtime", lambda: self.runtime)

        def send_task(name: str, args: tuple[Any, ...], queue: str, **shown: str) -> None:
            self.messages.append((name, args))

        monkeypatch.setattr(celery, "send_task", send_task)

    def close(self) -> None:
        self.runtime.pagerduty.close()
        self.runtime.redis.close()

    def lose_redis(self) -> None:
        """Empty Redis, and drop all messages."""
        self.redis.flushall()
        self.messages.clear()

    def live(self) -> None:
        """Do steps until the run has ended."""
        while not self.ended:
            if self.messages:
                self.step()
            else:
                self.idle()


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    with running_simulator([ACCOUNT]) as process:
        yield process


@pytest.fixture
def make(
    simulator: SimulatorProcess, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], Fleet]]:
    """Return a function that makes a fleet, with an emptied Redis and a data directory."""

    monkeypatch.setenv("PAGETRAIL_REDIS_URL", redis_url)  # Celery's settings need it
    fleets: list[Fleet] = []

    def made(data_dir: Path) -> Fleet:
        redis.flushall()
        data_dir.mkdir(exist_ok=True)
        fleet = fleet_of(settings_for(data_dir, redis_url, simulator), redis)
        fleets.append(fleet)
        fleet.take_messages(monkeypatch)
        return fleet

    yield made
    simulator.clear_faults()
    for fleet in fleets:
        fleet.close()


def settings_for(
    data_dir: Path, redis_url: str, simulator: SimulatorProcess, **more: Any
) -> Settings:
    return Settings(
        data_dir=data_dir,
        redis_url=Secret(redis_url),
        regions={"us": simulator.region("us"), "eu": simulator.region("eu")},
        request_timeout_seconds=5,
        lanes_start=3,
        lanes_max=4,
        **more,
    )


def fleet_of(settings: Settings, redis: Redis, **parts: Any) -> Fleet:
    """Return a fleet whose clock begins now; *parts* replace those that *settings* describe."""
    runtime = Runtime(settings, **parts)
    storage = Noticed(runtime.storage)
    pagerduty = Timed(runtime.pagerduty, runtime.ledger)
    runtime.ledger.now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return Fleet(runtime.replaced(storage=storage, pagerduty=pagerduty), redis, storage, pagerduty)


@pytest.fixture
def fleet(make: Callable[[Path], Fleet], tmp_path: Path) -> Fleet:
    """A fleet that has opened a run and read nothing of it yet."""
    fleet = make(tmp_path / "data")
    source = fleet.connect()
    restoring.restore(fleet.runtime)  # sets the marks in Redis
    opening.collect_now(fleet.runtime, source)
    return fleet


def other_source(fleet: Fleet) -> Source:
    """Connect another source of the same account, which sorts after the first one."""
    sources = fleet.runtime.sources
    other = replace(sources.get(SOURCE), id=OTHER, sealed_key=fleet.runtime.vault.seal(KEY, OTHER))
    return sources.add(other)


def ended_within(fleet: Fleet, hours: float) -> bool:
    """Let the run continue to its end. Return whether it ended soon enough, by the ledger's clock."""
    began = fleet.now_ms
    fleet.live()
    return fleet.now_ms - began < hours * HOUR_MS


def states(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Return the state and reason of each resource that isn't complete."""
    assert fleet.manifest
    return {
        name: (account["state"], account["reason"])
        for name, account in fleet.manifest["resources"].items()
        if account["state"] != "complete"
    }
