"""A permit to send one request under a budget that all processes share, or the time to wait for it.

Every method calls the script `limiter.lua`, whose head states the law. Redis keeps about 3 KB per budget in use, and
forgets an idle one within an hour.

A budget belongs to one credential, named by region and fingerprint, or to one endpoint class of the credential, because
PagerDuty gives some operations a limit of their own. A request of such a class needs a permit from both budgets. It
first looks whether the main budget has a slot soon, so that it doesn't use up the class in vain. Then it gets the
class's permit, and last that of the main budget, so that it holds no slot of the main budget while it waits for the
class. The answer has the headers of only one of the two budgets, and only that one learns from it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from redis import Redis

from workers.pagerduty.replies import Reply

LIMIT = 960  # requests a minute, PagerDuty's documented limit; answers correct it
PATIENCE_SECONDS = 2.0  # a longer wait is not worth a worker's slot
SEED_POLL_SECONDS = 0.04
JITTER_MS = 1000  # so that tasks that waited for the same pause don't all start at its end

QUIET_SECONDS = 0.25
"""In this time, a process reports at most one answer that can teach little."""
QUIET_BUDGETS = 4096


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to send one request now or, if it isn't granted, the time after which to ask again."""

    budget: str
    granted: bool
    wait_seconds: float  # until the slot; if not granted, until asking again is worth it
    slot_ms: int
    ticket: int  # the budget's requests are numbered in the order of their slots
    reason: str  # the law that set the wait: "paced", "window", "pause", "seed"; "" without one
    waited_seconds: float = 0.0
    further: Permit | None = None  # that of the endpoint's class, if it has a limit of its own

    @property
    def retry_after_seconds(self) -> float:
        """Return the seconds after which asking again is worth it; 0 for a granted permit."""
        return 0.0 if self.granted else self.wait_seconds


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget as it was a moment ago, in requests."""

    limit: int  # per window, as the server last said
    ceiling: int  # the part of the limit that we may use
    used: int  # ours in the last window
    foreign: int  # at least so many by other programs, in the server's present window
    paused_seconds: float
    waits: int
    longest_wait_seconds: float


def budget_name(region: str, fingerprint: str) -> str:
    """Return the name of a credential's budget."""
    return f"{region}-{fingerprint}"


class Limiter:
    """The budgets in one Redis; safe to share between threads."""

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        *,
        limit: int = LIMIT,
        window_seconds: float = 60.0,
        sleep: Callable[[float], object] = time.sleep,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """Only tests set *window_seconds* and the clock *now_ms*."""
        self._script = redis.register_script(files(__package__).joinpath("limiter.lua").read_text())
        self._redis = redis
        self._prefix = prefix
        self._law = (round(window_seconds * 1000), limit)
        self._sleep = sleep
        self._now_ms = now_ms
        self._reported: dict[str, float] = {}

    def acquire(
        self,
        budget: str,
        *,
        reserve_share: float,
        patience_seconds: float = PATIENCE_SECONDS,
        endpoint_class: str = "",
    ) -> Permit:
        """Return a permit to use at once, or the time after which to ask again; sleeps until the permit's slot.

        The permit is *budget*'s; `further` is the permit of its *endpoint_class*. A permit that isn't granted belongs
        to the budget that refused. Sleeps at most *patience_seconds* in all.
        """
        if not endpoint_class:
            return self._acquire(budget, reserve_share, patience_seconds)
        # Asked first, so that a refusal here doesn't use up the class. With a negative patience no slot is taken.
        ahead = self.reserve(budget, reserve_share=reserve_share, patience_seconds=-1.0)
        if ahead.reason != "seed" and ahead.wait_seconds > patience_seconds:
            return ahead
        further = self._acquire(f"{budget}-{endpoint_class}", reserve_share, patience_seconds)
        if not further.granted:
            return further
        left = max(0.0, patience_seconds - further.waited_seconds)
        permit = self._acquire(budget, reserve_share, left)
        waited = further.waited_seconds + permit.waited_seconds
        return replace(permit, waited_seconds=waited, further=further)

    def _acquire(self, budget: str, reserve_share: float, patience_seconds: float) -> Permit:
        waited = 0.0
        while True:
            left = max(0.0, patience_seconds - waited)
            permit = self.reserve(budget, reserve_share=reserve_share, patience_seconds=left)
            nap = permit.wait_seconds
            if permit.reason == "seed" and not permit.granted:
                nap = min(nap, SEED_POLL_SECONDS)  # the seed's answer may come at any moment
            if not permit.granted and (permit.reason != "seed" or nap > left):
                return replace(permit, waited_seconds=waited)
            if nap > 0:
                self._sleep(nap)
                waited += nap
            if permit.granted and (nap == 0 or self.confirm(permit)):
                return replace(permit, waited_seconds=waited)

    def reserve(
        self, budget: str, *, reserve_share: float, patience_seconds: float = PATIENCE_SECONDS
    ) -> Permit:
        """Reserve the budget's next slot if it is at most *patience_seconds* away; atomic.

        The caller sleeps `wait_seconds` before it sends. An unused slot is lost.
        """
        granted, wait_ms, slot_ms, ticket, reason = self._run(
            "reserve", budget, reserve_share, round(patience_seconds * 1000)
        )
        return Permit(budget, granted == 1, wait_ms / 1000, slot_ms, ticket, reason.decode())

    def confirm(self, permit: Permit) -> bool:
        """Return whether *permit* is still good after its wait: no pause began, and its slot is not long past."""
        sendable, _ = self._run("confirm", permit.budget, permit.slot_ms)
        return bool(sendable == 1)

    def observe(self, permit: Permit, answer: Reply) -> None:
        """Teach the budget from the answer to *permit*'s request; safe to repeat, atomic.

        If the permit has a `further` one, the limit in the headers tells which of the two budgets they belong to. A
        refusal without headers is counted as the class's: if it were the main budget's, requests to other endpoints
        would be refused as well.
        """
        if permit.further is None:
            self._observe(permit, answer)
            return
        known = self.state(permit.budget, reserve_share=0.0).limit
        shown, other = permit.further, permit
        if answer.limit == known:
            shown, other = other, shown
        self._observe(shown, answer)
        self._tell(other, 0)

    def _observe(self, permit: Permit, answer: Reply) -> None:
        if not self._teaches_little(permit, answer):
            reset_ms = None if answer.reset_seconds is None else answer.reset_seconds * 1000
            self._tell(permit, answer.status or 0, answer.limit, answer.remaining, reset_ms)

    def _tell(
        self,
        permit: Permit,
        status: int,
        limit: int | None = None,
        remaining: int | None = None,
        reset_ms: int | None = None,
    ) -> None:
        headers = (limit, remaining, reset_ms)
        known = [-1 if value is None or value < 0 else value for value in headers]
        jitter = random.randrange(JITTER_MS)  # noqa: S311 - spreads load, hides nothing
        self._run("observe", permit.budget, permit.ticket, status, *known, jitter)

    def state(self, budget: str, *, reserve_share: float) -> BudgetState:
        """Return the present state of the budget; changes nothing."""
        return _state(self._run("state", budget, reserve_share))

    def states(self, budgets: Iterable[tuple[str, float]]) -> list[BudgetState]:
        """Return the states of many budgets, each given with its reserve share, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for budget, reserve_share in budgets:
                self._run("state", budget, reserve_share, client=pipe)
            return [_state(reply) for reply in pipe.execute()]

    def _run(self, verb: str, budget: str, *args: float, client: Redis | None = None) -> Any:
        base = f"{self._prefix}:limiter:{{{budget}}}"  # the braces keep both keys on one node
        now = "" if self._now_ms is None else self._now_ms()
        keys, given = [base, f"{base}:log"], [verb, now, *self._law, *args]
        return self._script(keys=keys, args=given, client=client)

    def _teaches_little(self, permit: Permit, answer: Reply) -> bool:
        """Return whether *answer* is a plain success, and this process reported another one a moment ago."""
        plenty = answer.remaining is not None and answer.remaining * 5 > (answer.limit or 0)
        if answer.status != 200 or permit.reason == "seed" or not plenty:
            return False
        moment = time.monotonic() if self._now_ms is None else self._now_ms() / 1000
        if moment - self._reported.get(permit.budget, -QUIET_SECONDS) < QUIET_SECONDS:
            return True
        if len(self._reported) >= QUIET_BUDGETS:
            self._reported.clear()
        self._reported[permit.budget] = moment
        return False


def _state(reply: list[int]) -> BudgetState:
    limit, ceiling, used, foreign, pause_ms, waits, longest_ms = reply
    return BudgetState(limit, ceiling, used, foreign, pause_ms / 1000, waits, longest_ms / 1000)
