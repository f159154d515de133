"""Permit, call, decide, store, close: one page of one resource per task."""

from __future__ import annotations

import logging

from tasks.reading.catalog import FEEDS
from tasks.reading.pages import NewerPage
from tasks.runs import messages
from tasks.runs.erasing import sweep
from tasks.runs.visits import Visit, give_back, give_up_unknown, leave_to_newer
from workers.app import celery
from workers.process import metrics
from workers.process.signals import log_failure
from workers.runtime import Runtime, runtime
from workers.state.ledger import Claim, Effect

log = logging.getLogger("pagetrail.fetch")


@celery.task(name="tasks.fetch.fetch_resource")
def fetch_resource(source: str, run: str, page: str, number: int, queue: str) -> str:
    """Fetch the first page of a list, which tells what else there is."""
    return _fetch(source, run, page, number, queue)


@celery.task(name="tasks.fetch.fetch_page")
def fetch_page(source: str, run: str, page: str, number: int, queue: str) -> str:
    """Fetch one page."""
    return _fetch(source, run, page, number, queue)


def _fetch(source: str, run: str, page: str, number: int, queue: str) -> str:
    """Do what the message asks for, and return in a word what the page became: Flower shows it."""
    fleet = runtime()
    claim = fleet.ledger.claim(source, run, page, number, queue)
    if claim is None:
        metrics.pages("dropped").inc()
        return "dropped"
    try:
        outcome = _visited(fleet, claim)
        if outcome.status == "stale":  # the run may be sealed by now, and erased
            sweep(fleet, source, run)
    except Exception as error:  # noqa: BLE001 - logged
        # The page goes back, whatever went wrong; who looks after the fleet hears of it.
        log_failure(log, "page failed", error, {"source": source, "run": run, "page": page})
        outcome = give_back(fleet, claim)
    if outcome.became:
        metrics.pages(outcome.became).inc()
    messages.publish(fleet, source, run, outcome)
    log.debug("page %s", outcome.status, extra={"source": source, "run": run, "page": page})
    return outcome.became or outcome.status


def _visited(fleet: Runtime, claim: Claim) -> Effect:
    if claim.page.partition("/")[0] not in FEEDS:
        return give_up_unknown(fleet, claim)
    try:
        visit = Visit(fleet, claim)
    except NewerPage:
        return leave_to_newer(fleet, claim)
    return visit.make()
