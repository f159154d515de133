"""Send one request to PagerDuty for a source: get a permit, call, and tell the limiter about the reply."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter

from tasks.accounts.keys import key_of
from workers.pagerduty.replies import Outcome, Reply
from workers.process import metrics
from workers.room import NoRoom, Share
from workers.runtime import Runtime
from workers.state.limiter import BudgetState, budget_name
from workers.storage.registry import Source

CROWDED_SECONDS = 5.0
"""Time until the next try if all slots of the region, or all memory for pages, are in use in this process."""
_ROOM_BYTES = 2**16
"""Memory that must be free before a request is sent."""
_ROOM_SECONDS = 2.0
PAUSED_SECONDS = 2.0
"""Time until the next try while all requests are paused."""
PROBE_PATH = "/users"
PROBE_PARAMS = (("limit", "1"),)
_ALIVE = {Outcome.OK, Outcome.UNAVAILABLE, Outcome.BAD_REQUEST}


@dataclass(frozen=True, slots=True)
class Asked:
    """A reply. Or, if nothing was sent, None, how long to wait before the next try, and why."""

    reply: Reply | None
    wait_seconds: float = 0.0
    why: str = ""  # "budget" | "pagerduty" | "paused" | "worker"


def budget(fleet: Runtime, source: Source) -> BudgetState:
    """Return the request budget of a source's key, with the requests that other programs send with that key."""
    reserve = fleet.sources.reserve_for(source.fingerprint)
    name = budget_name(source.region, source.fingerprint)
    return fleet.limiter.state(name, reserve_share=reserve)


def ask(
    fleet: Runtime,
    source: Source,
    path: str,
    params: Sequence[tuple[str, str]],
    endpoint_class: str = "",
    members: Sequence[str] = (),
    share: Share | None = None,
) -> Asked:
    """Send one GET with the source's key if its budget allows it within the limiter's patience.

    The reply has the *members* of the body. Their memory is taken from *share*; if none is free, nothing is sent. If
    the request has an *endpoint_class*, the budget of that class must allow it too. The key is opened before the permit
    is taken. Otherwise a key that can't be opened (`VaultFault`) would use up the budget of the source's other pages.
    """
    if fleet.switch.paused():
        return Asked(None, PAUSED_SECONDS, "paused")
    key = key_of(fleet.vault, source)
    with fleet.regions.slot(source.region) as allowed, ExitStack() as room:
        if not allowed:
            return Asked(None, CROWDED_SECONDS, "pagerduty")
        share = share or room.enter_context(fleet.room.share())
        try:
            share.take(_ROOM_BYTES, _ROOM_SECONDS)
        except NoRoom:
            return Asked(None, CROWDED_SECONDS, "worker")
        permit = fleet.limiter.acquire(
            budget_name(source.region, source.fingerprint),
            reserve_share=fleet.sources.reserve_for(source.fingerprint),
            endpoint_class=endpoint_class,
        )
        metrics.count_permit(permit)
        if not permit.granted:
            return Asked(None, permit.retry_after_seconds, "budget")
        begun = perf_counter()
        reply = fleet.pagerduty.get(
            source.region,
            path,
            params,
            key,
            deadline_seconds=fleet.settings.request_timeout_seconds,
            members=members,
            share=share,
        )
        metrics.count_reply(source.region, reply, perf_counter() - begun)
        fleet.limiter.observe(permit, reply)
        fleet.regions.answered(source.region, timed_out=reply.timed_out)
        return Asked(reply)


def is_answering(fleet: Runtime, source: Source) -> bool | None:
    """Return whether *source* answers at all; None if it could not be asked now."""
    reply = ask(fleet, source, PROBE_PATH, PROBE_PARAMS).reply
    return None if reply is None else reply.outcome in _ALIVE
