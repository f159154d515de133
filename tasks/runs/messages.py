"""Send the messages about tasks. They hold the ids of source, run and page, and never keys or bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from tasks.reading.pages import Page, in_words
from tasks.reading.windows import moment
from workers.runtime import Runtime
from workers.state.ledger import Effect, Opening

_FIRST = re.compile(r"\.1(s\d+)?/000000$")
"""The end of a page's id, if it is the first page that a run asks for in a window."""
_PASS_DELAYS = {2: 1.0, 3: 5.0}
"""Pass -> seconds before it begins. The list may have stopped changing by then."""


def openings(pages: Iterable[Page], ask_again_seconds: float, now: datetime) -> list[Opening]:
    """Return *pages* as the ledger takes them.

    After a 404, at least *ask_again_seconds* pass before the window is read again. *now* comes from the clock that also
    dates the stored answers.
    """
    return [
        Opening(
            page.id,
            page.payload(),
            page.group,
            page.held,
            _delay_seconds(page, ask_again_seconds, now) if page.first else 0.0,
            page.unsure,
        )
        for page in pages
    ]


def _delay_seconds(page: Page, ask_again_seconds: float, now: datetime) -> float:
    """Return how long the first page of a pass waits. Its run and its lane don't wait."""
    if page.denied_at is None:
        return _PASS_DELAYS.get(page.pass_, 0.0)
    passed = (now - moment(page.denied_at)).total_seconds()
    return ask_again_seconds - max(0.0, min(passed, ask_again_seconds))


def publish(fleet: Runtime, source: str, run: str, outcome: Effect) -> None:
    """Send the messages that a step of the ledger asked for. If a message gets lost, the tick sends it again.

    Raises `RedisUnreachable`.
    """
    for offer in outcome.offers:
        first = _FIRST.search(offer.page)
        task = "tasks.fetch.fetch_resource" if first else "tasks.fetch.fetch_page"
        _send(fleet, task, outcome.queue, source, run, offer.page, offer.number, outcome.queue)
    if outcome.seal or outcome.task == "seal":
        _send(fleet, "tasks.seal.seal_run", "seal", source, run)
    elif outcome.task == "plan":
        _send(fleet, "tasks.plan.plan_run", "plan", source)
    elif outcome.task == "probe":
        _send(fleet, "tasks.plan.probe_source", "plan", source, run)


def look_after(fleet: Runtime, source: str) -> None:
    """Send the task that gives *source* its daily look."""
    _send(fleet, "tasks.purge.look_after", "seal", source)


def sign(fleet: Runtime, source: str, run: str) -> None:
    """Send the task that seals *run*, and all runs before it that have no seal."""
    _send(fleet, "tasks.sign.sign_run", "sign", source, run)


def record(fleet: Runtime, source: str) -> None:
    """Send the task that signs the record of the purge that *source* waits for."""
    _send(fleet, "tasks.sign.record_purge", "sign", source)


def recover(fleet: Runtime) -> None:
    """Send the task that restores from storage what Redis lost."""
    _send(fleet, "tasks.plan.recover", "plan")


def _send(fleet: Runtime, task: str, queue: str, *args: str | int) -> None:
    source, run, page, *_ = map(str, (*args, "", "", ""))
    words = " ".join(filter(None, (source, page and in_words(page), run and f"run {run}")))
    fleet.sender.send(task, queue, *args, words=words, id_=page)
