"""Honest histories, made at random: whatever goes wrong in them, nobody tampers with the evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from redis import Redis

from tasks import api, purge, sign
from tasks.api import seal_keys
from tasks.evidence.layout import seal_key
from tasks.evidence.manifests import runs_of
from tasks.reading.catalog import CATALOG
from tasks.runs.restoring import restore
from tests.integration.history import ACCOUNT, KEYS, History, Perilous
from tests.integration.steps import SOURCE, fleet_of, settings_for
from tests.signer import copied, drop
from tests.simulator_process import simulator_thread
from workers.errors import Busy, Fault
from workers.storage import open_storage
from workers.storage.registry import SourceState

BEGIN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DAY = 86_400
WISHES = ("teams", "incidents", "schedules", "team_members", "audit_records", "log_entries")


def cancel(history: History) -> None:
    with suppress(Fault):  # it ended at this moment
        api.cancel(history.fleet.runtime, SOURCE)
        history.note("a run was cancelled")


def pause(history: History) -> None:
    """Pause the source, and resume it a while later."""
    api.pause(history.fleet.runtime, SOURCE)
    for _ in range(10):
        history.step()
    history.wait(history.dice.choice((60, 7_200)))
    api.resume(history.fleet.runtime, SOURCE)
    history.note("a source was paused and resumed")


def pause_all(history: History) -> None:
    api.pause_all(history.fleet.runtime)
    for _ in range(10):
        history.step()
    api.resume_all(history.fleet.runtime)
    history.note("all requests were paused and resumed")


def rotate(history: History) -> None:
    """Put another key of the same account in the place of the source's key."""
    with history.calm():
        api.rotate(history.fleet.runtime, SOURCE, history.dice.choice(KEYS))
        history.note("a source got a new key")


def reopen(history: History) -> None:
    """Empty Redis and bring everything back from storage."""
    was_open = history.is_open
    history.fleet.lose_redis()
    restore(history.fleet.runtime)
    history.note("a run was reopened from storage" if was_open else "Redis was emptied")


def hold(history: History) -> None:
    api.hold(history.fleet.runtime, SOURCE)
    history.note("a source was held")


def release(history: History) -> None:
    _, held_since = api.release(history.fleet.runtime, SOURCE)
    history.happened["a source was released"] += held_since is not None


def purge_all(history: History) -> None:
    """Erase every run on behalf of a person, who tries again if the process dies."""
    runtime = history.fleet.runtime
    runs = set(runs_of(history.fleet.storage, SOURCE))
    unsealed = [r for r in runs if history.fleet.storage.get(seal_key(SOURCE, r)) is None]
    api.pause(runtime, SOURCE)
    with history.mortal(), suppress(Busy):  # it waits for the signer
        api.purge(runtime, SOURCE, "somebody", wait_seconds=0)
    history.step()
    with history.calm():
        sign.record_purge(SOURCE)
        with suppress(Busy):  # the first one died before it asked
            api.purge(runtime, SOURCE, "somebody", wait_seconds=0)
        sign.record_purge(SOURCE)
    try:
        api.purge(runtime, SOURCE, "somebody", wait_seconds=0)
        history.happened["a person purged all runs"] += bool(runs)
        history.happened["a person purged runs that had no seal yet"] += bool(runs and unsealed)
    except Fault as fault:
        assert "legal hold" in str(fault)  # noqa: PT017 - any other refusal is a bug
        history.note("a hold kept a purge from erasing")
    api.resume(runtime, SOURCE)


def outlive(history: History) -> None:
    """Let months pass, until the retention of the source erases old runs."""
    runtime, storage = history.fleet.runtime, history.fleet.storage
    api.change(runtime, SOURCE, retention_months=1, every_seconds=None)
    before = runs_of(storage, SOURCE)
    history.wait(history.dice.choice((20, 45)) * DAY)
    with history.calm():
        sign.record_purge(SOURCE)  # every run that ended gets its seal
    with history.mortal():
        purge.look_after(SOURCE)
    for _ in range(3):
        with history.calm():
            sign.record_purge(SOURCE)
        purge.look_after(SOURCE)
    gone = set(before) - set(runs_of(storage, SOURCE))
    history.happened["a retention erased runs"] += bool(gone)
    held = api.get(runtime, SOURCE).held_since
    history.happened["a hold kept a retention from erasing"] += bool(held and before)


def change(history: History) -> None:
    """Change what is read, and how often."""
    dice = history.dice
    resources = tuple(sorted(dice.sample(sorted(CATALOG), dice.randrange(2, len(CATALOG)))))
    api.change(
        history.fleet.runtime,
        SOURCE,
        resources=dice.choice((None, resources)),
        every_seconds=dice.choice((None, 3_600, DAY)),
    )
    history.note("settings were changed")


def rename(history: History) -> None:
    """Give the account another subdomain, which a person confirms, perhaps after another run."""
    name = f"{ACCOUNT}-{history.happened['an account was renamed'] + 2}"
    history.simulator.control("POST", "rename", account=ACCOUNT, subdomain=name)
    if history.dice.random() < 0.5:
        history.run((cancel,))
    with history.calm():
        api.check(history.fleet.runtime, SOURCE, renamed_by="somebody")
        history.note("an account was renamed")


def reconnect(history: History) -> None:
    """Disconnect the source, and connect it again with the same name."""
    runtime = history.fleet.runtime
    api.disconnect(runtime, SOURCE)
    history.settle()
    history.wait(DAY)
    with history.calm():
        connect(history)
        history.note("a source was disconnected and connected again")
    if api.get(runtime, SOURCE).state is SourceState.DISCONNECTED:
        connect(history)


def new_signing_key(history: History) -> None:
    """Give the signer a new key. A copy of its store may lack one key, the one in use, but not two."""
    if history.backup is None or history.rotated == 0:
        seal_keys.rotate(history.fleet.runtime)
        history.rotated += 1
        history.note("the signer got a new key")


def back_up_heads(history: History) -> None:
    history.backup, history.rotated = copied(history.fleet.runtime.heads_storage), 0


def restore_heads(history: History) -> None:
    """Put an older copy in the place of the signer's store."""
    if history.backup is None:
        return
    heads = history.fleet.runtime.heads_storage
    drop(heads, "")
    for each in list(history.backup.list("")):
        heads.put_new(each.key, history.backup.get(each.key) or b"")
    history.note("the signer's store was restored from an older copy")


def lose_head(history: History) -> None:
    """Lose what the signer remembers of the source. Its keys stay."""
    heads = history.fleet.runtime.heads_storage
    if heads.get(f"heads/{SOURCE}.json") is not None:
        heads.delete(f"heads/{SOURCE}.json")
        history.note("the signer lost its head")


def leave(history: History) -> None:
    history.away = True


def come_back(history: History) -> None:
    if history.away:
        history.away = False
        history.settle()
        history.note("the signer was away for a while")


def look(history: History) -> None:
    """Let an auditor verify in the middle of the history."""
    if history.away:
        return
    history.settle()
    history.audit()
    history.note("an auditor looked in between")


DURING: tuple[Callable[[History], None], ...] = (
    *(cancel, pause, pause_all, rotate, reopen, hold, release, new_signing_key, change),
)
BETWEEN: tuple[Callable[[History], None], ...] = (
    *(rotate, reopen, hold, release, release, purge_all, outlive, change, rename, reconnect),
    *(new_signing_key, back_up_heads, restore_heads, restore_heads, lose_head, leave, come_back),
    *(pause_all, look),
)


def connect(history: History) -> None:
    dice = history.dice
    resources = tuple(sorted(dice.sample(WISHES, 3)))
    api.connect(
        history.fleet.runtime,
        SOURCE,
        history.dice.choice(KEYS),
        api.Wishes(
            since=datetime.now(UTC) - timedelta(days=dice.choice((20, 100))),
            every_seconds=dice.choice((None, DAY)),
            resources=dice.choice((None, resources)),
            retention_months=dice.choice((None, 2)),
            reserve=0.0,
        ),
    )


@contextmanager
def new_history(
    seed: int, directory: Path, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[History]:
    """Yield a history that has just begun: a connected source, without a run."""
    dice = random.Random(seed)
    random.seed(seed)  # for the jitter between attempts
    redis.flushall()
    monkeypatch.setenv("PAGETRAIL_REDIS_URL", redis_url)  # Celery's settings need it
    with time_machine.travel(BEGIN) as clock, simulator_thread() as simulator:
        small = {"incidents": dice.choice((3, 40, 130)), "days": 90, "ids_from": 0}
        keys = [{"key": key} for key in KEYS]
        simulator.control(
            "POST", "accounts", subdomain=ACCOUNT, seed=seed, keys=keys, services=5, users=6,
            teams=3, audit_records=dice.choice((0, 130)), log_entries_per_incident=2, **small,
        )  # fmt: skip
        settings = settings_for(
            directory, redis_url, simulator, suspend_hours=0.5, page_budget_minutes=1
        )
        fleet = fleet_of(
            settings,
            redis,
            storage=Perilous(open_storage("memory://")),
            heads_storage=Perilous(open_storage("memory://")),
        )
        history = History(fleet, simulator, clock, dice)
        history.begin(monkeypatch)
        try:
            connect(history)
            yield history
        finally:
            fleet.close()


def live(history: History) -> None:
    """Let a few runs pass, and some of everything else between them."""
    for _ in range(history.dice.randrange(2, 6)):
        history.run(DURING)
        for act in history.dice.sample(BETWEEN, history.dice.choice((0, 1, 2, 3))):
            with suppress(
                Busy
            ):  # a process died in the middle of the same change: the person would try again
                act(history)
