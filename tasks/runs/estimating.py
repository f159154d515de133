"""Estimate the requests of a run by asking PagerDuty how long a source's lists are."""

from __future__ import annotations

from itertools import islice

from tasks.accounts.examining import Ask, asker, require_answer, require_known_key
from tasks.accounts.keys import key_of
from tasks.evidence.exports import sealed
from tasks.reading import estimates
from tasks.reading.answers import Answer, members_of, read_answer, well_formed
from tasks.reading.estimates import Estimate
from tasks.reading.pages import Page, Request
from tasks.runs.opening import next_plan
from workers import exact
from workers.errors import Fault
from workers.runtime import Runtime
from workers.storage.registry import Source

_LOOK_BACK = 10
"""If a list doesn't say how long it is, an estimate searches this many of the newest manifests for its length."""


def estimate(fleet: Runtime, source: Source) -> Estimate:
    """Return how many requests a run of *source* would send if it began now.

    Sends one GET per list and window, under the limiter. Raises `Busy` if no run would be opened, and `KeyRefused`.
    """
    plan = next_plan(fleet, source)
    ask = asker(fleet, key_of(fleet.vault, source), source.reserve)
    before = islice(sealed(fleet.storage, source.id), _LOOK_BACK) if plan.previous else ()
    return estimates.estimate(
        plan, before, lambda page, request: _look(ask, source.region, page, request)
    )


def _look(ask: Ask, region: str, page: Page, request: Request) -> Answer:
    """Return PagerDuty's answer to the request for *page*; `Fault` if it can't be read."""
    reply = require_known_key(ask(region, request.path, request.params, request.endpoint_class))
    require_answer(reply, region)
    assert reply.status is not None
    unreadable = Fault(f"PagerDuty's answer to {request.path} could not be read: try again.")
    try:
        members = exact.members(reply.body, members_of(page)) if reply.status < 300 else {}
        answer = read_answer(page, reply.status, reply.date, members)
    except ValueError:
        raise unreadable from None
    if not well_formed(page, answer):
        raise unreadable
    return answer
