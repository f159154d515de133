"""Permit, call, store, decide, close: one page of one resource per task."""

from __future__ import annotations

import logging

from tasks.runs import messages
from tasks.runs.erasing import sweep
from tasks.runs.setbacks import give_back
from tasks.runs.visits import visit
from workers.app import celery
from workers.process import metrics
from workers.process.signals import log_failure
from workers.runtime import runtime

log = logging.getLogger("pagetrail.fetch")


@celery.task(name="tasks.fetch.fetch_resource")
def fetch_resource(source: str, run: str, page: str, number: int, queue: str) -> str:
    """Fetch the first page of a list. Its answer says which other pages follow."""
    return _fetch(source, run, page, number, queue)


@celery.task(name="tasks.fetch.fetch_page")
def fetch_page(source: str, run: str, page: str, number: int, queue: str) -> str:
    """Fetch one page."""
    return _fetch(source, run, page, number, queue)


def _fetch(source: str, run: str, page: str, number: int, queue: str) -> str:
    """Visit a page once. Return one word for the result, which Flower shows."""
    fleet = runtime()
    claim = fleet.ledger.claim(source, run, page, number, queue)
    if claim is None:
        metrics.pages("dropped").inc()
        return "dropped"
    try:
        outcome = visit(fleet, claim)
        if outcome.status == "stale":  # the run may be sealed and erased by now
            sweep(fleet, source, run)
    except Exception as error:  # noqa: BLE001 - any error must give the page back; it is logged
        log_failure(log, "page failed", error, {"source": source, "run": run, "page": page})
        outcome = give_back(fleet, claim)
    if outcome.became:
        metrics.pages(outcome.became).inc()
    messages.publish(fleet, source, run, outcome)
    log.debug("page %s", outcome.status, extra={"source": source, "run": run, "page": page})
    return outcome.became or outcome.status
