"""What is put on Redis: small messages that carry identity, never keys or bodies."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.pages import Page
from workers.app import celery
from workers.ledger import Opening, Outcome

_PASS_DELAYS = {2: 1.0, 3: 5.0}
"""Seconds before a window is read again: whoever is changing the list may be done by then."""


def openings(pages: Iterable[Page]) -> list[Opening]:
    """Return *pages* as the ledger takes them."""
    return [
        Opening(
            page.id,
            page.payload(),
            page.group,
            page.held,
            _PASS_DELAYS.get(page.pass_, 0.0) if page.first else 0.0,
        )
        for page in pages
    ]


def publish(source: str, run: str, outcome: Outcome) -> None:
    """Send what a step of the ledger asked for; the tick repeats what gets lost here."""
    for offer in outcome.offers:
        first = offer.page.endswith(".1/000000")
        celery.send_task(
            "tasks.fetch.fetch_resource" if first else "tasks.fetch.fetch_page",
            (source, run, offer.page, offer.number, outcome.queue),
            queue=outcome.queue,
        )
    if outcome.seal or outcome.task == "seal":
        celery.send_task("tasks.seal.seal_run", (source, run), queue="seal")
    elif outcome.task == "plan":
        celery.send_task("tasks.plan.plan_run", (source,), queue="plan")
    elif outcome.task == "probe":
        celery.send_task("tasks.plan.probe_source", (source, run), queue="plan")


def recover() -> None:
    celery.send_task("tasks.plan.recover", (), queue="plan")
