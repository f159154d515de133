"""Who is due; open a run; offer its pages, again where they were lost; bring runs back."""

from __future__ import annotations

import logging
from contextlib import suppress

from redis import ConnectionError, TimeoutError  # noqa: A004 - Redis's own
from redis.exceptions import LockError

from tasks.runs import messages
from tasks.runs.asking import is_answering
from tasks.runs.opening import open_run
from tasks.runs.restoring import RECOVERY_SECONDS, notice_loss, restore, restored
from workers.app import celery
from workers.errors import (
    RedisUnreachable,
)
from workers.process.sentry import check_in
from workers.runtime import runtime
from workers.storage.registry import SourceState

log = logging.getLogger("pagetrail.plan")

BATCH = 200
"""Sources tended per tick: the rest is due at the next one."""
LOOKS = 20
"""Daily looks per tick."""


@celery.task(name="tasks.plan.tick")
def tick() -> None:
    """Do what is due: for every source in the batch, a few small things."""
    fleet = runtime()
    notice_loss(fleet)
    most = 0 if fleet.switch.paused() else BATCH  # to take none still says that the fleet works
    for source in fleet.ledger.take(most):
        try:
            outcome = fleet.ledger.tend(source)
            messages.publish(fleet, source, outcome.run, outcome)
        except (RedisUnreachable, ConnectionError, TimeoutError):
            raise
        except Exception:
            # Its keys are damaged, or a newer version wrote them: no reason to leave the others untended.
            log.exception("can't be tended", extra={"source": source})
    for source in fleet.daily.take(min(most, LOOKS)):
        messages.look_after(fleet, source)
    check_in(fleet.settings, fleet.redis)


@celery.task(name="tasks.plan.plan_run")
def plan_run(source: str) -> None:
    """Open the run that is due, in the backfill class where only history is left to read."""
    fleet = runtime()
    outcome = fleet.ledger.tend(source)
    if outcome.task != "plan":  # another message of its kind was first
        messages.publish(fleet, source, outcome.run, outcome)
        return
    found = fleet.sources.get(source)
    if found.state is SourceState.ACTIVE:
        open_run(fleet, found, due=True)
    else:  # its open run may have been lost; else nothing of it is due
        restored(fleet, found)


@celery.task(name="tasks.plan.probe_source")
def probe_source(source: str, run: str) -> None:
    """Ask a suspended source for one record; a good answer wakes it."""
    fleet = runtime()
    ok = is_answering(fleet, fleet.sources.get(source))
    if ok is not None:
        outcome = fleet.ledger.probed(source, run, ok=ok, resource="probes", sent=1)
        messages.publish(fleet, source, run, outcome)


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
