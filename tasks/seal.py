"""Seal finished runs."""

from __future__ import annotations

import logging
from contextlib import suppress

from tasks.evidence.manifests import read_manifest
from tasks.reading.sealed import Manifest
from tasks.runs.ending import finish
from tasks.runs.erasing import sweep
from tasks.runs.sealing import Lease, LostLease, seal
from tasks.watching import vitals
from workers.app import celery
from workers.runtime import runtime

log = logging.getLogger("pagetrail.seal")


@celery.task(name="tasks.seal.seal_run")
def seal_run(source: str, run: str) -> None:
    """Seal *run*, unless it isn't ready or another worker is sealing it."""
    fleet = runtime()
    lease = Lease(fleet, source, run)
    if not lease.renew():
        return
    manifest = None
    with suppress(LostLease), fleet.troubles.noted(source, "run"):  # another worker seals it now
        manifest = read_manifest(fleet.storage, source, run) or seal(fleet, source, run, lease)
    # While this worker was frozen, the run may have been sealed and erased. Then the objects it stored aren't evidence.
    if sweep(fleet, source, run) or manifest is None:
        return
    finish(fleet, source, manifest)
    vitals.count_run(manifest)
    _log(source, run, manifest)


def _log(source: str, run: str, manifest: Manifest) -> None:
    """Log how the run ended: one line for each resource, and one for the run."""
    ids = {"source": source, "run": run}
    for name, each in manifest.resources.items():
        state = f"{each.state} ({each.reason})" if each.reason else each.state
        counts = each.records, each.requests
        log.info("%s records=%d requests=%d", state, *counts, extra={**ids, "resource": name})
    log.info("sealed %s", manifest.state, extra=ids)
