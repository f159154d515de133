"""Restore from storage what Redis lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from redis import RedisError

from tasks.evidence.erasures import Purged
from tasks.evidence.manifests import read_manifest
from tasks.reading.sealed import StoredManifest
from tasks.runs import messages
from tasks.runs.ending import await_seal, finish
from tasks.runs.erasing import wants_look
from tasks.runs.opening import newest, reopen, schedule_next
from workers.errors import RedisUnreachable, StorageUnreachable
from workers.runtime import Runtime
from workers.storage.registry import Source, SourceState, is_registered

log = logging.getLogger("pagetrail.plan")
RECOVERY_SECONDS = 120
"""Timeout of the lock on restoring. It is renewed with every source. The tick asks for one restore in this time."""


def restore(fleet: Runtime, beat: Callable[[], object] = lambda: None) -> int:
    """Put sources, schedules and open runs from storage back into Redis; return the number of open runs.

    Safe to repeat, also while the fleet works: newer data in Redis is kept. *beat* is called once for each document of
    the registry, and once for each source.
    """
    fleet.switch.restore()  # this comes first: if storage does not answer, Redis stays as it is
    token = fleet.marks.begin()
    if unreadable := fleet.sources.restore(beat).unreadable:
        log.error("source documents can't be read: %s", ", ".join(sorted(unreadable)))
    with ThreadPoolExecutor(8) as readers:
        reopened = 0
        for found in readers.map(
            lambda source: _restore_or_log(fleet, source), fleet.sources.list()
        ):
            reopened += found
            beat()
    if not fleet.marks.settle(token):
        log.warning(
            "Redis evicted keys while they were put back: the fleet will restore them again"
        )
    log.info("recovered %d open runs", reopened)
    return reopened


def _restore_or_log(fleet: Runtime, source: Source) -> bool:
    """Restore one source. If only this source fails, log it; the next due run of the source tries again."""
    try:
        with fleet.troubles.noted(source.id, "run") as note:
            reopened = restored(fleet, source)
            # A trouble that keeps an open run from being sealed may still exist.
            note.done = not reopened
        return reopened
    except (RedisUnreachable, RedisError):
        raise
    except Exception as error:
        if isinstance(error, StorageUnreachable):
            is_registered(fleet.storage, source.id)  # raises too if storage answers for no source
        log.exception("can't be restored", extra={"source": source.id})
        schedule_next(fleet, source)
        return False


def restored(fleet: Runtime, source: Source) -> bool:
    """Restore one source, again if somebody changed it in the meantime. Return whether it had an open run."""
    reopened = _restore_once(fleet, source)
    while (now := fleet.sources.get(source.id)).version != source.version:
        source = now
        reopened = _restore_once(fleet, source)
        # The change may have reached the ledger before the open run was back.
        if source.state is SourceState.ACTIVE:
            outcome = fleet.ledger.resume(source.id)
            messages.publish(fleet, source.id, fleet.ledger.progress(source.id).run, outcome)
        else:
            fleet.ledger.hold(source.id, str(source.state))
    return reopened


def _restore_once(fleet: Runtime, source: Source) -> bool:
    if source.purge:
        fleet.daily.within(source.id, 0)
    elif wants_look(source):
        fleet.daily.begin(source.id)
    else:
        fleet.daily.end(source.id)
    run, last = newest(fleet, source)
    if run and last is None:
        # Until the open run is sealed, the manifest of the run before it says how late the source is.
        if before := _manifest_before(fleet, source, run):
            finish(fleet, source.id, before)
            await_seal(fleet, before)
        reopen(fleet, source, run)
        return True
    if last:
        finish(fleet, source.id, last)
        await_seal(fleet, last)
    else:
        schedule_next(fleet, source)
    return False


def _manifest_before(fleet: Runtime, source: Source, run: str) -> StoredManifest | None:
    """Return the manifest of the run before *run*; None if there isn't one, or the run was erased."""
    before = f"{int(run) - 1:08d}"
    if Purged(fleet.storage, source.id).erased(before):
        return None
    return read_manifest(fleet.storage, source.id, before)  # None for the first run


def notice_loss(fleet: Runtime) -> None:
    """Send the task that restores what Redis lost, if it lost something; at most once in two minutes."""
    recovering = f"{fleet.settings.key_prefix}:recovering"
    if (lost := fleet.marks.lost()) and fleet.redis.set(
        recovering, b"1", nx=True, ex=RECOVERY_SECONDS
    ):
        log.warning("Redis may have lost something (%s): restoring from storage", lost)
        messages.recover(fleet)
