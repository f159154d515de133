"""Tend the sources that are due: open runs, offer lost pages again, restore what Redis lost."""

from __future__ import annotations

import logging
from contextlib import suppress

from redis.exceptions import LockError

from tasks.accounts.asking import is_answering
from tasks.runs import messages
from tasks.runs.opening import open_run
from tasks.runs.restoring import RECOVERY_SECONDS, notice_loss, restore, restored
from workers.app import celery
from workers.process.sentry import check_in
from workers.runtime import runtime
from workers.state.faults import is_outage
from workers.state.unsealed import RECORD
from workers.storage.registry import SourceState

log = logging.getLogger("pagetrail.plan")

BATCH = 200
"""Sources tended per tick; the others wait for the next tick."""
SEALS = 50
"""Runs without a seal, and purges without a record, that the signer is told about per tick."""
LOOKS = 20
"""Daily looks per tick."""


@celery.task(name="tasks.plan.tick")
def tick() -> None:
    """Tend the sources that are due: a few small steps for each."""
    fleet = runtime()
    notice_loss(fleet)
    # A paused fleet tends no source. It still calls `take`, which records the tick.
    most = 0 if fleet.switch.paused() else BATCH
    for source in fleet.ledger.take(most):
        try:
            outcome = fleet.ledger.tend(source)
            messages.publish(fleet, source, outcome.run, outcome)
        except Exception as error:
            if is_outage(error):
                raise
            # Its keys are damaged, or a newer version wrote them. The other sources must still be tended.
            log.exception("can't be tended", extra={"source": source})
    for source in fleet.daily.take(min(most, LOOKS)):
        messages.look_after(fleet, source)
    for source, run in fleet.unsealed.take(SEALS):
        if run == RECORD:
            messages.record(fleet, source)
        else:
            messages.sign(fleet, source, run)
    check_in(fleet.settings, fleet.redis)


@celery.task(name="tasks.plan.plan_run")
def plan_run(source: str) -> None:
    """Open the run that is due. A run that only reads more of the backlog uses the queue `backfill`."""
    fleet = runtime()
    outcome = fleet.ledger.tend(source)
    if outcome.task != "plan":  # another message of this kind came first
        messages.publish(fleet, source, outcome.run, outcome)
        return
    found = fleet.sources.get(source)
    if found.state is SourceState.ACTIVE:
        open_run(fleet, found, due=True)
    else:  # a stopped source is due only because Redis may have lost its open run
        restored(fleet, found)


@celery.task(name="tasks.plan.probe_source")
def probe_source(source: str, run: str) -> None:
    """Ask a suspended source for one record; a good answer resumes its run."""
    fleet = runtime()
    ok = is_answering(fleet, fleet.sources.get(source))
    if ok is not None:
        outcome = fleet.ledger.probed(source, run, ok=ok, resource="probes", sent=1)
        messages.publish(fleet, source, run, outcome)


@celery.task(name="tasks.plan.recover")
def recover() -> None:
    """Restore the sources, schedules and open runs that Redis lost; one worker at a time.

    The work may take longer than the visibility timeout, so another worker may get the message too. The lock stops it.
    """
    fleet = runtime()
    lease = fleet.redis.lock(f"{fleet.settings.key_prefix}:restoring", timeout=RECOVERY_SECONDS)
    if lease.acquire(blocking=False):
        try:
            restore(fleet, lease.reacquire)
        finally:
            with suppress(LockError):  # Redis was emptied again in the meantime
                lease.release()
