"""Sign the seals of runs and the records of purges. The queue `sign` is for this alone: the signer can run apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import LockError

from tasks.runs import recording
from tasks.runs.erasing import PURGE
from tasks.runs.events import PurgeRefusal
from tasks.runs.signing import Outcome, sign, tell_refusal
from workers.app import celery
from workers.errors import PurgeRefused, RunUnsealed, SealRefused, StorageConflict
from workers.runtime import Runtime, runtime
from workers.state.events import DAY_SECONDS
from workers.state.unsealed import RECORD

log = logging.getLogger("pagetrail.sign")

ALONE_SECONDS = 60.0
"""How long a signer that died keeps others from its source. A run that takes longer to verify may be verified twice."""
LATER_SECONDS = 3600.0
"""When a run that can't be sealed is tried again, unless a later run ends before."""


@celery.task(name="tasks.sign.sign_run")
def sign_run(source: str, run: str) -> None:
    """Seal *run* and the runs before it, in order, unless another signer is at work."""
    fleet = runtime()
    with _alone(fleet, source) as beat:
        if beat is None:
            return
        try:
            with fleet.troubles.noted(source, "seal"):
                _refuse_rest(source, sign(fleet, source, beat))
        except SealRefused as fault:
            tell_refusal(fleet, source, run, str(fault))
            fleet.unsealed.later(source, run, LATER_SECONDS)
            raise
        except RunUnsealed:
            fleet.unsealed.later(source, run, LATER_SECONDS)
            raise
        fleet.unsealed.settle(source, run)


@celery.task(name="tasks.sign.record_purge")
def record_purge(source: str) -> None:
    """Sign and store the record of the purge that *source* waits for, and let a worker delete its runs."""
    fleet = runtime()
    with _alone(fleet, source) as beat:
        if beat is None:
            return
        try:
            with fleet.troubles.noted(source, PURGE):
                recording.record_purge(fleet, source, beat)
        except (PurgeRefused, SealRefused, StorageConflict) as fault:
            told = PurgeRefusal(reason=str(fault))
            fleet.events.emit(told, source, quiet_seconds=DAY_SECONDS)
            fleet.unsealed.later(source, RECORD, LATER_SECONDS)
            raise
        _let_erase(fleet, source)
        fleet.unsealed.settle(source, RECORD)


def _let_erase(fleet: Runtime, source: str) -> None:
    """Tell the fleet the public keys, with which it checks a record, and let a worker look if it waits for either."""
    keys = fleet.public_keys.read().to_json()
    waits = fleet.seal_keys.known() != keys or fleet.sources.fresh(source).purge is not None
    fleet.seal_keys.tell(keys)
    if waits:
        fleet.daily.within(source, 0)


@contextmanager
def _alone(fleet: Runtime, source: str) -> Iterator[Callable[[], None] | None]:
    """Yield a function that keeps other signers from the source for another minute; None if one is at work.

    This only saves work: what two signers do at the same time is safe.
    """
    lock = fleet.redis.lock(f"{fleet.settings.key_prefix}:signing:{source}", timeout=ALONE_SECONDS)

    def beat() -> None:
        with suppress(LockError):  # the time was over, or Redis was emptied
            lock.reacquire()

    if not lock.acquire(blocking=False):
        yield None
        return
    try:
        yield beat
    finally:
        with suppress(LockError):  # the same
            lock.release()


def _refuse_rest(source: str, outcome: Outcome) -> None:
    """Raise `RunUnsealed` if the newest runs can't be sealed."""
    if outcome.unsealed:
        last = outcome.unsealed[-1]
        raise RunUnsealed(
            f"Run {last.run} of {source} can't be sealed ({last.reason}): restore it from a copy of the storage. "
            "If you leave it, the next seal names it."
        )
