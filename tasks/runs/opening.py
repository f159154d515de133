"""Open a run from its plan, or join the open run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.accounts.asking import PROBE_PARAMS, PROBE_PATH, ask, budget
from tasks.accounts.examining import refuse_paused
from tasks.evidence import documents
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import plan_key
from tasks.evidence.manifests import read_manifest, read_plan
from tasks.reading.beginnings import first_pages
from tasks.reading.plans import Plan, make_plan
from tasks.reading.sealed import StoredManifest
from tasks.runs import messages
from tasks.runs.ending import due_ms, finish
from tasks.runs.events import RunOpened
from tasks.runs.newest import newest_run
from workers.errors import Busy, ClockFault, StorageConflict
from workers.runtime import Runtime
from workers.storage.registry import Source, SourceState

log = logging.getLogger("pagetrail.plan")
_ROUNDS = 10
"""How often an opener tries. A try fails if others open and end runs meanwhile, or if the store answers wrongly."""
LOOK_AGAIN_MS = 30_000
"""If a process dies while it opens a run, the tick finds that run after this time."""
CLOCKS_APART = timedelta(days=1)
"""Clocks that differ by more than this have not just drifted. One of them is wrong, and we can't tell which."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The open run of a source."""

    run: str
    joined: bool  # whether it was open already


def open_run(fleet: Runtime, source: Source, *, due: bool = False) -> Opened:
    """Open the next run of *source*, or join the open run."""
    with fleet.troubles.noted(source.id, "run") as note:
        opened = _open_or_join(fleet, source, due=due)
        # A trouble that keeps a joined run from being sealed may still exist.
        note.done = not opened.joined
    return opened


def _open_or_join(fleet: Runtime, source: Source, *, due: bool) -> Opened:
    key = ""
    for _ in range(_ROUNDS):
        run, last = newest(fleet, source)
        if run and last is None:
            if fleet.ledger.progress(source.id).run != run:
                reopen(fleet, source, run)
            return Opened(run, joined=True)
        if last:
            finish(fleet, source.id, last)
        plan = _planned(fleet, source, last, due=due)
        # If this process dies after it stored the plan, only storage knows of the run. Then the tick finds it.
        fleet.ledger.schedule(source.id, fleet.ledger.time().now_ms + LOOK_AGAIN_MS)
        # Only one opener can store this key. The others find the open run in their next round.
        key = plan_key(source.id, plan.run)
        if fleet.storage.put_new(key, documents.written(plan)):
            log.info("opened", extra={"source": source.id, "run": plan.run})
            _enter(fleet, source, plan, reopened=False)
            schedule_next(fleet, source, plan.scheduled_at)
            return Opened(plan.run, joined=False)
    raise StorageConflict(
        f"{key} is taken, but the list of runs does not show it: look at the health of {fleet.storage}, "
        "and try again."
    )


def next_plan(fleet: Runtime, source: Source) -> Plan:
    """Return the plan of the run that `collect_now` would open now; `Busy` if it would not open one."""
    _refuse_stopped(fleet, source)
    run, last = newest(fleet, source)
    if run and last is None:
        raise Busy(
            f"Run {run} of {source.id} is open: `pagetrail run show {source.id}` says how long "
            "it will take."
        )
    return _planned(fleet, source, last, due=False)


def newest(fleet: Runtime, source: Source) -> tuple[str, StoredManifest | None]:
    """Return the newest run of *source* ("" if it has no run) and its manifest (None if the run is open)."""
    run = newest_run(fleet, source.id)
    return run, read_manifest(fleet.storage, source.id, run) if run else None


def _planned(fleet: Runtime, source: Source, last: StoredManifest | None, *, due: bool) -> Plan:
    backfill = bool(due and last and last.continues and not _regular_due(fleet, source, last))
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
        newest=last.run if last else Purged(fleet.storage, source.id).through or None,
        ask_again_seconds=fleet.settings.ask_again_seconds,
        every_seconds=source.every_seconds,
    )


def collect_now(fleet: Runtime, source: Source) -> Opened:
    """Open a run because somebody asked, or join the open run; `Busy` if the source or the fleet is stopped."""
    _refuse_stopped(fleet, source)
    return open_run(fleet, source)


def _refuse_stopped(fleet: Runtime, source: Source) -> None:
    if source.state is not SourceState.ACTIVE:
        remedy = "resume" if source.state is SourceState.PAUSED else "connect"
        raise Busy(f"{source.id} is {source.state}: `pagetrail source {remedy} {source.id}` first.")
    refuse_paused(fleet)


def reopen(fleet: Runtime, source: Source, run: str) -> None:
    """Bring an open run back into the ledger under its id. Only pages that aren't stored are asked for again.

    The run of a disconnected source ends with the pages that it has.
    """
    plan = read_plan(fleet.storage, source.id, run)
    _enter(fleet, source, plan, reopened=True)
    schedule_next(fleet, source, plan.scheduled_at)
    # Another worker may have sealed it in the meantime.
    if sealed := read_manifest(fleet.storage, source.id, run):
        finish(fleet, source.id, sealed)
    if source.state is SourceState.DISCONNECTED:
        messages.publish(fleet, source.id, run, fleet.ledger.cancel(source.id, run))


def _enter(fleet: Runtime, source: Source, plan: Plan, *, reopened: bool) -> None:
    """Put a run into the ledger.

    The ledger may still hold an older run that is sealed, if Redis was restored from a copy. That run is ended first.
    """
    settings = fleet.settings
    fleet.events.emit(
        RunOpened(
            opened_at=plan.opened_at,
            period=(plan.period.since, plan.period.until),
            resources=plan.resources,
            backfill=plan.backfill,
        ),
        source.id,
        plan.run,
    )
    outcome = fleet.ledger.open(
        source.id,
        plan.run,
        messages.openings(first_pages(plan), plan.ask_again_seconds, fleet.ledger.time().now),
        queue="backfill" if plan.backfill else "fetch",
        region=plan.region,
        lanes=(min(settings.lanes_start, settings.lanes_max), settings.lanes_max),
        reopened=reopened,
        hold=None if source.state is SourceState.ACTIVE else str(source.state),
    )
    if outcome.run not in ("", plan.run):
        if sealed := read_manifest(fleet.storage, source.id, outcome.run):
            finish(fleet, source.id, sealed)
            _enter(fleet, source, plan, reopened=reopened)
        return
    messages.publish(fleet, source.id, plan.run, outcome)


def schedule_next(fleet: Runtime, source: Source, after: datetime | None = None) -> None:
    """Set when *source* is due next, counted from *after* (default: its connection)."""
    fleet.ledger.schedule(source.id, due_ms(source, after or source.connected_at))


def _regular_due(fleet: Runtime, source: Source, last: StoredManifest) -> bool:
    due = due_ms(source, last.scheduled_at)
    return due is not None and due <= fleet.ledger.time().now_ms


def _until(fleet: Runtime, source: Source) -> datetime:
    """Return the present time by PagerDuty's clock. The period of a run ends at it.

    Raises `ClockFault` if the clocks of PagerDuty and Redis differ by more than a day: the period would be wrong.
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
            f"Redis says {ours:%Y-%m-%d %H:%M}: correct the clock of its machine, or the proxy between "
            "the workers and PagerDuty."
        )
    return (ours + ahead).replace(microsecond=0)


def _page_budget(fleet: Runtime, source: Source) -> int:
    return max(1, int(budget(fleet, source).ceiling * fleet.settings.page_budget_minutes))
