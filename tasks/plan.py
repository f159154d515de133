"""Who is due; open a run; offer its pages, again where they were lost; bring runs back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis import ConnectionError, RedisError, TimeoutError  # noqa: A004 - Redis's own
from redis.exceptions import LockError

from tasks import messages
from tasks.artifacts import plan_key
from tasks.asking import PROBE_PARAMS, PROBE_PATH, ask, budget, probe
from tasks.manifests import read_manifest, read_plan
from tasks.paging import first_pages
from tasks.probe import refuse_paused
from tasks.purges import Purged, newest_run, wants_look
from tasks.runs import Plan, make_plan
from tasks.seal import due_ms, finish
from tasks.windows import moment, rfc3339
from workers.app import celery
from workers.errors import (
    Busy,
    ClockFault,
    RedisUnreachable,
    StorageConflict,
    StorageUnreachable,
)
from workers.runtime import Runtime, runtime
from workers.sentry import check_in
from workers.sources import Source, State

log = logging.getLogger("pagetrail.plan")

BATCH = 200
"""Sources tended per tick: the rest is due at the next one."""
LOOKS = 20
"""Daily looks per tick."""
RECOVERY_SECONDS = 120
_ROUNDS = 10
"""Runs that others may open and end while one is opened; a store may not keep an opener for longer."""
LOOK_AGAIN_MS = 30_000
"""When the tick looks whether a run that was about to be opened is open."""
CLOCKS_APART = timedelta(days=1)
"""Further apart, one of two clocks is wrong beyond drift, and nobody can say which."""


@dataclass(frozen=True, slots=True)
class Opened:
    run: str
    joined: bool


@celery.task(name="tasks.plan.tick")
def tick() -> None:
    """Do what is due: for every source in the batch, a few small things."""
    fleet = runtime()
    _notice_loss(fleet)
    most = 0 if fleet.switch.paused() else BATCH  # to take none still says that the fleet works
    for source in fleet.ledger.take(most):
        try:
            outcome = fleet.ledger.tend(source)
            messages.publish(source, outcome.run, outcome)
        except (RedisUnreachable, ConnectionError, TimeoutError):
            raise
        except Exception:
            # Its keys are damaged, or a newer version wrote them: no reason to leave the others untended.
            log.exception("can't be tended", extra={"source": source})
    for source in fleet.daily.take(min(most, LOOKS)):
        messages.look_after(source)
    check_in(fleet.settings, fleet.redis)


@celery.task(name="tasks.plan.plan_run")
def plan_run(source: str) -> None:
    """Open the run that is due, in the backfill class where only history is left to read."""
    fleet = runtime()
    outcome = fleet.ledger.tend(source)
    if outcome.task != "plan":  # another message of its kind was first
        messages.publish(source, outcome.run, outcome)
        return
    found = fleet.sources.get(source)
    if found.state is State.ACTIVE:
        open_run(fleet, found, due=True)
    else:  # its open run may have been lost; else nothing of it is due
        _restored(fleet, found)


@celery.task(name="tasks.plan.probe_source")
def probe_source(source: str, run: str) -> None:
    """Ask a suspended source for one record; a good answer wakes it."""
    fleet = runtime()
    ok = probe(fleet, fleet.sources.get(source))
    if ok is not None:
        outcome = fleet.ledger.probed(source, run, ok=ok, resource="probes", sent=1)
        messages.publish(source, run, outcome)


@celery.task(name="tasks.plan.recover")
def recover() -> None:
    """Put back into Redis what it lost: sources, schedules and open runs; one worker at a time.

    It may take longer than the age at which its message is delivered again.
    """
    fleet = runtime()
    lease = fleet.redis.lock(f"{fleet.settings.key_prefix}:restoring", timeout=RECOVERY_SECONDS)
    if lease.acquire(blocking=False):
        try:
            restore(fleet, lease.reacquire)
        finally:
            with suppress(LockError):  # Redis was emptied again meanwhile
                lease.release()


def open_run(fleet: Runtime, source: Source, *, due: bool = False) -> Opened:
    """Open the next run of *source*, or join the one that is open."""
    with fleet.troubles.noted(source.id, "run") as note:
        opened = _open_or_join(fleet, source, due=due)
        note.done = not opened.joined  # what keeps an open run from being sealed may last
    return opened


def _open_or_join(fleet: Runtime, source: Source, *, due: bool) -> Opened:
    key = ""
    for _ in range(_ROUNDS):
        run, last = _newest(fleet, source)
        if run and last is None:
            if fleet.ledger.progress(source.id).get("run") != run:
                reopen(fleet, source, run)
            return Opened(run, joined=True)
        if last:
            finish(fleet, source.id, last)
        plan = _planned(fleet, source, last, due=due)
        # Whoever dies behind the next lines leaves a run only storage knows of: let the tick look.
        fleet.ledger.schedule(source.id, fleet.ledger.time().now_ms + LOOK_AGAIN_MS)
        # Only one opener gets this key; the others find the run open in their next round.
        key = plan_key(source.id, plan.run)
        if fleet.storage.put_new(key, plan.to_json()):
            log.info("opened", extra={"source": source.id, "run": plan.run})
            _enter(fleet, source, plan, reopened=False)
            schedule(fleet, source, plan.scheduled_at)
            return Opened(plan.run, joined=False)
    raise StorageConflict(
        f"{key} is taken, but the list of runs does not show it: look at the health of {fleet.storage}, "
        "and try again."
    )


def next_plan(fleet: Runtime, source: Source) -> Plan:
    """Return the plan that `collect_now` would open a run with; raises `Busy` where it wouldn't."""
    _refuse_stopped(fleet, source)
    run, last = _newest(fleet, source)
    if run and last is None:
        raise Busy(
            f"Run {run} of {source.id} is open: `pagetrail run show {source.id}` says how long "
            "it will take."
        )
    return _planned(fleet, source, last, due=False)


def _newest(fleet: Runtime, source: Source) -> tuple[str, dict[str, Any] | None]:
    """Return the newest run of *source* ("": none) and its manifest (None: it is open)."""
    run = newest_run(fleet, source.id)
    return run, read_manifest(fleet.storage, source.id, run) if run else None


def _planned(fleet: Runtime, source: Source, last: dict[str, Any] | None, *, due: bool) -> Plan:
    backfill = bool(due and last and last["continues"] and not _regular_due(fleet, source, last))
    return make_plan(
        source=source.id,
        resources=source.resources,
        since=source.since,
        until=_until(fleet, source),
        opened_at=fleet.ledger.time().now,
        page_budget=_page_budget(fleet, source),
        region=source.region,
        subdomain=source.subdomain,
        credential=source.credential,
        renamings=source.renamings,
        backfill=backfill,
        last=last,
        newest=last["run"] if last else Purged(fleet.storage, source.id).through or None,
        ask_again_seconds=fleet.settings.ask_again_seconds,
    )


def collect_now(fleet: Runtime, source: Source) -> Opened:
    """Open a run because somebody asked, or join the open one; raises `Busy` where none may run."""
    _refuse_stopped(fleet, source)
    return open_run(fleet, source)


def _refuse_stopped(fleet: Runtime, source: Source) -> None:
    if source.state is not State.ACTIVE:
        remedy = "resume" if source.state is State.PAUSED else "connect"
        raise Busy(f"{source.id} is {source.state}: `pagetrail source {remedy} {source.id}` first.")
    refuse_paused(fleet)


def reopen(fleet: Runtime, source: Source, run: str) -> None:
    """Bring an open run back under its id: pages are found in storage, the rest is asked for.

    That of a disconnected source ends with what it has.
    """
    plan = read_plan(fleet.storage, source.id, run)
    _enter(fleet, source, plan, reopened=True)
    schedule(fleet, source, plan.scheduled_at)
    if sealed := read_manifest(fleet.storage, source.id, run):  # while we were at it
        finish(fleet, source.id, sealed)
    if source.state is State.DISCONNECTED:
        messages.publish(source.id, run, fleet.ledger.cancel(source.id, run))


def _enter(fleet: Runtime, source: Source, plan: Plan, *, reopened: bool) -> None:
    """Put a run into the ledger; a sealed one found there is from before Redis lost something."""
    settings = fleet.settings
    fleet.events.emit(
        "run.opened",
        source.id,
        plan.run,
        {
            "opened_at": rfc3339(plan.opened_at),
            "period": plan.period.to_json(),
            "resources": plan.resources,
            "backfill": plan.backfill,
        },
    )
    outcome = fleet.ledger.open(
        source.id,
        plan.run,
        messages.openings(first_pages(plan), plan.ask_again_seconds, fleet.ledger.time().now),
        queue="backfill" if plan.backfill else "fetch",
        region=plan.region,
        lanes=(min(settings.lanes_start, settings.lanes_max), settings.lanes_max),
        reopened=reopened,
        hold=None if source.state is State.ACTIVE else str(source.state),
    )
    if outcome.run not in ("", plan.run):
        if sealed := read_manifest(fleet.storage, source.id, outcome.run):
            finish(fleet, source.id, sealed)
            _enter(fleet, source, plan, reopened=reopened)
        return
    messages.publish(source.id, plan.run, outcome)


def schedule(fleet: Runtime, source: Source, after: datetime | None = None) -> None:
    """Set when *source* is due next, counted after *after* (default: its connection)."""
    fleet.ledger.schedule(source.id, due_ms(source, after or source.connected_at))


def restore(fleet: Runtime, beat: Callable[[], object] = lambda: None) -> int:
    """Put sources, schedules and open runs from storage back into Redis; return how many runs.

    Repeatable, and harmless while the fleet works: what Redis knows better stays. *beat* is called
    once per document of the registry and once per source.
    """
    fleet.switch.restore()  # first: a storage that does not answer leaves Redis as it is
    token = fleet.marks.begin()
    if unreadable := fleet.sources.restore(beat).unreadable:
        log.error("source documents can't be read: %s", ", ".join(sorted(unreadable)))
    with ThreadPoolExecutor(8) as readers:
        reopened = 0
        for found in readers.map(lambda source: _tried(fleet, source), fleet.sources.list()):
            reopened += found
            beat()
    if not fleet.marks.settle(token):
        log.warning("Redis evicted keys while they were put back: the fleet begins again")
    log.info("recovered %d open runs", reopened)
    return reopened


def _tried(fleet: Runtime, source: Source) -> bool:
    """Restore one source; what is wrong with it alone is logged, tried again when a run is due, and stops no other."""
    try:
        with fleet.troubles.noted(source.id, "run") as note:
            reopened = _restored(fleet, source)
            note.done = not reopened  # the same
        return reopened
    except (StorageUnreachable, RedisUnreachable, RedisError):
        raise
    except Exception:
        log.exception("can't be restored", extra={"source": source.id})
        schedule(fleet, source)
        return False


def _restored(fleet: Runtime, source: Source) -> bool:
    """Restore one source, again for as long as somebody changes it meanwhile; return whether its run was open."""
    reopened = _restore(fleet, source)
    while (now := fleet.sources.get(source.id)).version != source.version:
        source = now
        reopened = _restore(fleet, source)
        # What they told an open run may have come before it was there again.
        if source.state is State.ACTIVE:
            outcome = fleet.ledger.resume(source.id)
            messages.publish(source.id, fleet.ledger.progress(source.id).get("run", ""), outcome)
        else:
            fleet.ledger.hold(source.id, str(source.state))
    return reopened


def _restore(fleet: Runtime, source: Source) -> bool:
    if wants_look(source):
        fleet.daily.begin(source.id)
    else:
        fleet.daily.end(source.id)
    run, last = _newest(fleet, source)
    if run and last is None:
        # A source is as late as the run before, while the next one is open.
        if before := _manifest_before(fleet, source, run):
            finish(fleet, source.id, before)
        reopen(fleet, source, run)
        return True
    if last:
        finish(fleet, source.id, last)
    else:
        schedule(fleet, source)
    return False


def _manifest_before(fleet: Runtime, source: Source, run: str) -> dict[str, Any] | None:
    """Return the manifest of the run before *run*; None if it isn't there, or was erased."""
    before = f"{int(run) - 1:08d}"
    if Purged(fleet.storage, source.id).erased(before):
        return None
    return read_manifest(fleet.storage, source.id, before)  # the first run has none before


def _notice_loss(fleet: Runtime) -> None:
    """Have what Redis lost put back; a second message for that is sent after two minutes."""
    recovering = f"{fleet.settings.key_prefix}:recovering"
    if (lost := fleet.marks.lost()) and fleet.redis.set(
        recovering, b"1", nx=True, ex=RECOVERY_SECONDS
    ):
        log.warning("Redis may have lost something (%s): restoring from storage", lost)
        messages.recover()


def _regular_due(fleet: Runtime, source: Source, last: dict[str, Any]) -> bool:
    due = due_ms(source, moment(last["scheduled_at"]))
    return due is not None and due <= fleet.ledger.time().now_ms


def _until(fleet: Runtime, source: Source) -> datetime:
    """Return PagerDuty's present: until when a run can prove anything.

    Raises `ClockFault` where PagerDuty and Redis name days that differ: a period would be wrong either way.
    """
    clock = fleet.ledger.time(source.id)
    ours, ahead = clock.now, timedelta(milliseconds=clock.ahead_ms or 0)
    if clock.ahead_ms is None or abs(ahead) > CLOCKS_APART:
        reply = ask(fleet, source, PROBE_PATH, PROBE_PARAMS).reply
        if reply is None or reply.date is None:
            return ours
        ahead = reply.date - ours
    if abs(ahead) > CLOCKS_APART:
        raise ClockFault(
            f"PagerDuty's answers to {source.id} are dated {ours + ahead:%Y-%m-%d %H:%M} UTC, and the clock of "
            f"Redis says {ours:%Y-%m-%d %H:%M}: correct the clock of its machine, or what stands between "
            "the workers and PagerDuty."
        )
    return (ours + ahead).replace(microsecond=0)


def _page_budget(fleet: Runtime, source: Source) -> int:
    return max(1, int(budget(fleet, source).ceiling * fleet.settings.page_budget_minutes))
