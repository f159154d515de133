"""The history of one source, in which processes die, Redis is emptied, answers fail, and pages come late.

The product's own code does everything, over a real Redis and a real simulator. One clock, which jumps, is everybody's
clock, so a year passes in seconds. The same dice make the same history.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from tasks import api, plan
from tasks.api import seal_keys
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, seal_key
from tasks.evidence.manifests import read_manifest
from tasks.runs.erasing import is_open
from tasks.runs.newest import newest_run
from tasks.runs.restoring import restore
from tasks.verifying.report import Report
from tests.integration.steps import SOURCE, Died, Fleet
from tests.simulator_process import SimulatorProcess
from workers.errors import Busy, Fault
from workers.state.limiter import Limiter
from workers.storage import Storage
from workers.storage.registry import SourceState

BEGIN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ACCOUNT, KEYS = "acme", ("first-key-0123456789", "other-key-0123456789")
SIGN = "tasks.sign.sign_run"
MOST_STEPS = 8_000
WRITES = ("put_new", "put_new_file", "replace_if", "delete")
FAULTS: Mapping[str, Mapping[str, Any]] = {
    **{kind: {} for kind in ("status_500", "status_502", "status_503", "status_504", "status_408")},
    **{kind: {} for kind in ("drop_before", "drop_middle", "short_body", "cut_json", "bare_429")},
    **{kind: {} for kind in ("status_429", "status_404", "cursor_expired", "duplicate")},
    **{kind: {} for kind in ("half_surrogate", "number_long", "times_garbage")},
    "smaller": {"served": 7},
    "page_too_large": {"served": 25},
    "slow": {"seconds": 0.01},
}
"""What the simulator does to some requests. It takes hardly any real time."""
CHANGES = (
    *("create_incident", "resolve_incident", "acknowledge_incident", "reopen_incident"),
    *("add_member", "remove_member", "add_audit_record", "upgrade_schedule"),
    *("create_user", "rename_user", "delete_user", "create_service", "rename_service"),
    *("create_team", "rename_team", "delete_team", "create_schedule", "delete_schedule"),
)
PATHS = ("/incidents*", "/log_entries*", "/schedules*", "/teams*", "/users*", "/services*")
FEATURES = ("audit", "teams", "schedules")


class Perilous:
    """A storage at whose writes a process may die."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.write: Callable[..., Any] = lambda _name, method, given: method(*given)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if name not in WRITES:
            return method
        return lambda *given: self.write(name, method, given)


class Heard:
    """The events of a fleet, and every kind that was sent, also if Redis is emptied later."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.kinds: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)

    def emit(self, data: Any, *about: Any, **more: Any) -> None:
        self.kinds[data.kind] += 1
        self._events.emit(data, *about, **more)


@dataclass
class Dangers:
    """How likely each mishap is, at a step or at a write."""

    death: float = 0.0
    frozen: float = 0.0  # a page is stored later, when nobody waits for it
    lost: float = 0.0
    doubled: float = 0.0
    emptied: float = 0.0


@dataclass
class History:
    """One source from its connection to the auditor's visit."""

    fleet: Fleet
    simulator: SimulatorProcess
    clock: time_machine.Traveller
    dice: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    dangers: Dangers = field(default_factory=Dangers)
    away: bool = False  # the signer
    frozen: list[tuple[str, bytes]] = field(default_factory=list)
    known: list[tuple[str, str]] = field(default_factory=list)  # heads that an auditor wrote down
    backup: Storage | None = None  # an older copy of the signer's store
    rotated: int = 0  # keys that the signer got since
    heard: Heard = field(init=False)

    # The clock

    def tell_time(self) -> None:
        """Let all clocks show the latest of their times."""
        ledger, now = self.fleet.runtime.ledger, datetime.now(UTC).timestamp()
        if self.fleet.now_ms > now * 1000:
            self.clock.move_to(self.fleet.now_ms / 1000)
        ledger.now_ms = max(self.fleet.now_ms, int(now * 1000))

    def wait(self, seconds: float) -> None:
        self.fleet.runtime.ledger.now_ms = self.fleet.now_ms + round(seconds * 1000)
        self.tell_time()

    # The mishaps

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the fleet work on this clock, among these dangers."""
        runtime = self.fleet.runtime
        for storage in (self.fleet.storage._storage, runtime.heads_storage):
            assert isinstance(storage, Perilous)
            storage.write = self.write
        limiter = Limiter(
            self.fleet.redis,
            runtime.settings.key_prefix,
            sleep=self.wait,
            now_ms=lambda: self.fleet.now_ms,
        )
        self.heard = Heard(runtime.events)
        self.fleet.runtime = runtime.replaced(limiter=limiter, events=self.heard)
        self.fleet.take_messages(monkeypatch)
        restore(self.fleet.runtime)  # sets the marks in Redis

    def write(self, name: str, method: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """Do one write of a process, or let the process die before it or after it."""
        if self.dice.random() < self.dangers.death:
            self.note("a process died before it wrote", given[0])
            raise Died
        page = name == "put_new" and "/pages/" in given[0]
        if page and self.dice.random() < self.dangers.frozen:
            self.frozen.append(given)
            raise Died
        done = method(*given)
        if self.dice.random() < self.dangers.death:
            self.note("a process died after it wrote", given[0])
            raise Died
        return done

    def note(self, what: str, key: str = "") -> None:
        self.happened[what] += 1
        if key.endswith("seal.dsse.json") or key.startswith("heads/"):
            self.happened["the signer died while it sealed"] += 1

    def thaw(self) -> None:
        """Let the frozen workers store their pages, however late it is."""
        self.dangers = Dangers()
        for key, data in self.frozen:
            run = key.split("/")[3]
            if self.fleet.storage.get(key) is not None:
                continue
            late = self.fleet.storage.get(manifest_key(SOURCE, run)) is not None
            sealed = self.fleet.storage.get(seal_key(SOURCE, run)) is not None
            gone = Purged(self.fleet.storage, SOURCE).erased(run)
            self.fleet.storage.put_new(key, data)
            if gone:
                self.note("a page was stored after its run was purged")
            elif sealed:
                self.note("a page was stored after the seal")
            elif late:
                self.note("a page was stored after the manifest")
        self.frozen.clear()

    @contextmanager
    def mortal(self) -> Iterator[None]:
        """Let the process of a person or of a daily look die at some write."""
        before, self.dangers = self.dangers, Dangers(death=0.1)
        with suppress(Died, Busy, Fault):
            yield
        self.dangers = before

    @contextmanager
    def immortal(self) -> Iterator[None]:
        before, self.dangers = self.dangers, Dangers()
        yield
        self.dangers = before

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Let a person's command reach PagerDuty at once. It may still be refused."""
        before, self.dangers = self.dangers, Dangers()
        self.simulator.clear_faults()
        self.limit(900)
        for key in self.fleet.redis.keys("pagetrail:limiter:*"):
            self.fleet.redis.delete(key)
        with suppress(Fault):
            yield
        self.dangers = before

    # Steps

    @property
    def is_open(self) -> bool:
        runtime = self.fleet.runtime
        return is_open(runtime, SOURCE, newest_run(runtime, SOURCE))

    def step(self) -> None:
        """Do one message, or let something happen instead."""
        fleet, dangers, what = self.fleet, self.dangers, self.dice.random()
        assert fleet.steps < MOST_STEPS, "the history does not end"
        fleet.steps += 1
        if what < dangers.emptied:
            self.note("Redis was emptied")
            fleet.lose_redis()
        elif not fleet.messages:
            fleet.idle()
        elif what < dangers.emptied + dangers.lost:
            self.note("a message was lost")
            fleet.messages.popleft()
        elif what < dangers.emptied + dangers.lost + dangers.doubled:
            self.note("a message came twice")
            fleet.messages.append(self.dice.choice(fleet.messages))
        else:
            self._deliver(self.dice.randrange(len(fleet.messages)))
        self.tell_time()

    def _deliver(self, which: int) -> None:
        if self.away and self.fleet.messages[which][0] == SIGN:
            del self.fleet.messages[which]
            return
        with suppress(Busy):
            self.fleet.step(which)

    def settle(self) -> None:
        """Let a person put everything right, and go on without mishaps until nothing is left to do."""
        runtime = self.fleet.runtime
        self.dangers = Dangers()
        self.simulator.control("DELETE", "churn")
        api.resume_all(runtime)
        with self.calm():
            if api.get(runtime, SOURCE).state is SourceState.PAUSED:
                api.resume(runtime, SOURCE)
        if self.heard.kinds["key.refused"] > self.happened["a refused key was replaced"]:
            self.happened["a refused key was replaced"] = self.heard.kinds["key.refused"]
            self.replace_key()
        for _ in range(MOST_STEPS):
            waiting = self.fleet.redis.zrange("pagetrail:unsealed", 0, -1)
            seals = [each for each in waiting if each != b"."]
            if self.fleet.messages or self.is_open:
                self.step()
            elif self.fleet.runtime.marks.lost() or (seals and not self.away):
                # As if the time had passed after which the signer is told again.
                for each in seals:
                    self.fleet.redis.zadd("pagetrail:unsealed", {each: 1}, xx=True)
                self.fleet.redis.delete("pagetrail:recovering")
                plan.tick()
            else:
                break
        else:
            raise AssertionError("the history does not settle")
        self.fleet.steps = 0

    def replace_key(self) -> None:
        """Give the source another key, or end its run if PagerDuty's account can't be recognised."""
        runtime = self.fleet.runtime
        with self.calm():
            api.rotate(runtime, SOURCE, self.dice.choice(KEYS), renamed_by="somebody")
            return
        with suppress(Fault):
            api.cancel(runtime, SOURCE)

    # Episodes

    def run(self, during: Sequence[Callable[[History], None]]) -> None:
        """Collect the source once. Some of *during* happens in the middle of it."""
        dice, api_of = self.dice, self.fleet.runtime
        self.disturb()
        source = api.get(api_of, SOURCE)
        if source.every_seconds and dice.random() < 0.5:
            self.wait(source.every_seconds * dice.choice((1, 1, 3)))
            self.note("a run was due")
        else:
            with suppress(Died, Busy):
                api.collect(api_of, SOURCE)
            if not self.is_open:  # the person's process died
                with self.immortal():
                    api.collect(api_of, SOURCE)
            self.note("a person asked for a run")
        before = newest_run(api_of, SOURCE)
        while not self.is_open and newest_run(api_of, SOURCE) == before:
            self.step()
        moments = {dice.randrange(5, 60): dice.choice(during) for _ in range(dice.randrange(3))}
        number = 0
        while self.is_open and number < MOST_STEPS // 4:  # it may wait for a person
            number += 1
            if act := moments.pop(number, None):
                with suppress(Died, Busy):
                    act(self)
            self.step()
        self.end()

    def disturb(self) -> None:
        """Choose what may go wrong in the next run."""
        dice = self.dice
        for _ in range(dice.choice((0, 1, 1, 2))):
            kind = dice.choice(list(FAULTS))
            rule = {"probability": dice.choice((0.05, 0.2, 0.6)), "seed": dice.randrange(2**20)}
            if dice.random() < 0.5:
                rule["path"] = dice.choice(PATHS)
            self.simulator.fault(kind, **rule, **FAULTS[kind])
            self.note(f"fault {kind}")
        if dice.random() < 0.15:
            skip = dice.randrange(40)
            self.simulator.fault("unauthorized", skip=skip, next=dice.choice((3, 12, 10_000)))
            self.note("fault unauthorized")
        off = dice.sample(FEATURES, dice.choice((0, 0, 0, 1)))
        self.simulator.control("POST", "habits", account=ACCOUNT, abilities_off=off)
        self.happened["a plan lacked a feature"] += bool(off)
        forbidden = dice.sample(PATHS, dice.choice((0, 0, 0, 1)))
        self.limit(dice.choice((12, 200, 900)), forbidden)
        self.happened["a key lacked a right"] += bool(forbidden)
        if dice.random() < 0.6:
            pace = {"every_requests": dice.choice((2, 5, 9)), "seed": dice.randrange(2**20)}
            self.simulator.churn(ACCOUNT, CHANGES, 40, **pace)
            self.note("lists moved")
        self.dangers = Dangers(
            death=dice.choice((0, 0, 0.02, 0.1)),
            frozen=dice.choice((0, 0.05)),
            lost=dice.choice((0, 0.02)),
            doubled=dice.choice((0, 0.1)),
            emptied=dice.choice((0, 0, 0.01)),
        )

    def limit(self, requests: int, forbidden: Sequence[str] = ()) -> None:
        """Give the keys another limit and other rights."""
        for key in KEYS:
            self.simulator.control(
                "POST", "keys", account=ACCOUNT, key=key, limit=requests, forbidden=forbidden
            )

    def end(self) -> None:
        """Let the run come to rest, and note how it ended."""
        if self.dice.random() < 0.5:  # the signer works among the mishaps too
            for _ in range(20):
                self.step()
        if self.dice.random() < 0.5:
            self.thaw()
        self.settle()
        self.write_down_head()
        if self.dice.random() < 0.5:
            self.thaw()
        manifest = read_manifest(self.fleet.storage, SOURCE, newest_run(self.fleet.runtime, SOURCE))
        if manifest:
            self.note(f"a run ended {manifest.state}")
            self.note(f"a run ended because it was {manifest.ended}")
            self.happened["a run left a backlog"] += manifest.continues

    def finish(self) -> None:
        """Let everything come to rest, also what comes late and the signer, and let an auditor look."""
        self.away = False
        self.settle()
        self.write_down_head()
        self.thaw()
        self.audit()

    def write_down_head(self) -> None:
        found = self.fleet.runtime.heads.find(SOURCE)
        if found and found.head.sealed:
            self.known.append((found.head.sealed.run, found.head.sealed.sha256))

    def audit(self) -> None:
        """Verify everything as an auditor does who has the keys and wrote down a head. Nothing may differ."""
        runtime, storage = self.fleet.runtime, self.fleet.storage
        purged = Purged(storage, SOURCE)
        heads = [sha256 for run, sha256 in self.known if not purged.erased(run)]
        report = Report()
        if purged.kept:
            keys, head = seal_keys.public_keys(runtime), self.dice.choice(heads or [None])
            report = api.verify(storage, SOURCE, keys=keys, head=head, as_at=datetime.now(UTC))
        wrong = [each for each in report.differences if each.counts]
        assert not wrong, wrong
        assert not report.open + report.unsealed, report
        assert len(report.seals) == len(report.runs), report
        assert self.heard.kinds["seal.refused"] == 0
        self.happened.update({f"late: {each.kind}": 1 for each in report.differences})
