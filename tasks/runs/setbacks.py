"""Give pages back after setbacks. A page only waits, or loses an attempt, or its run is suspended."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic, sleep

from tasks.accounts.asking import is_answering
from tasks.runs import messages
from tasks.runs.events import KeyRefusal, SourceFailing
from workers.errors import RedisUnreachable
from workers.runtime import Runtime
from workers.state.events import DAY_SECONDS
from workers.state.ledger import Claim, Effect
from workers.storage.registry import Source, SourceState

log = logging.getLogger("pagetrail.fetch")

MAX_ATTEMPTS = 8
"""After this many failures a page is given up."""
SLOW_ATTEMPTS = 3
"""After this many time-outs or server errors, a list is asked for in smaller pages or windows."""
OWN_FAULT_SECONDS = 5.0
"""How long a page waits after a fault that isn't PagerDuty's."""
_BACKOFF_SECONDS, _BACKOFF_MOST = 0.5, 30.0
_AWAY_SECONDS = 0.5
"""Time between two attempts to reach Redis."""
_FAILING_SECONDS = 3_600
"""A source that keeps failing is reported once in this time."""
_STOPPED_SECONDS = 30.0
"""Time until the page of a stopped source is tried again."""


@dataclass(frozen=True, slots=True)
class Setbacks:
    """The ways to give back one claimed page. *sent* is how many requests were sent for it since the claim."""

    fleet: Runtime
    claim: Claim
    resource: str

    def wait(self, why: str, delay_seconds: float, *, sent: int, alone: bool = False) -> Effect:
        """Give the page back because it must wait. This costs no attempt.

        The rest of the source waits too, unless the page waits *alone*.
        """
        return self.fleet.ledger.give_back(
            self.claim,
            why=why,
            delay_seconds=delay_seconds,
            resource=self.resource,
            sent=sent,
            alone=alone,
        )

    def stopped(self, source: Source) -> Effect:
        """Give the page of a stopped source back, or cancel its run if the source is disconnected.

        The ledger usually stops such a run. It doesn't know if the process that stopped the source died too early.
        """
        if source.state is SourceState.DISCONNECTED:
            return self.fleet.ledger.cancel(source.id, self.claim.run)
        return self.wait(str(source.state), _STOPPED_SECONDS, sent=0)

    def refused(self, source: Source, *, sent: int) -> Effect:
        """Suspend the run after a 401, unless the source has another key by now."""
        now = self.fleet.sources.get(source.id)
        if now.fingerprint != source.fingerprint:
            return self.wait("key", 0.0, sent=sent)
        log.warning("key refused", extra={"source": source.id, "run": self.claim.run})
        self.fleet.events.emit(
            KeyRefusal(region=source.region, fingerprint=source.fingerprint),
            source.id,
            self.claim.run,
            about=source.fingerprint,
            quiet_seconds=DAY_SECONDS,
        )
        return self.fleet.ledger.refuse(self.claim, resource=self.resource, sent=sent)

    def failed(self, why: str, now: datetime, *, sent: int, slow: bool) -> Effect | None:
        """Give the page back for another attempt; None after the last attempt. Either way, its requests are counted.

        A page of a *slow* list has fewer attempts.
        """
        give_back = partial(
            self.fleet.ledger.give_back,
            self.claim,
            why=why,
            delay_seconds=backoff_seconds(self.claim.requests),
            resource=self.resource,
            sent=sent,
            failed=True,
            slow=slow,
            most=SLOW_ATTEMPTS if slow else MAX_ATTEMPTS,
        )
        outcome = give_back()
        if outcome.status == "lonely":
            messages.publish(self.fleet, self.claim.source, self.claim.run, self._probe(now))
            outcome = give_back(probed=True)
        return None if outcome.status == "exhausted" else outcome

    def _probe(self, now: datetime) -> Effect:
        """Find out whether the source answers at all. Only if it does is the page at fault, and loses an attempt."""
        source = self.fleet.sources.get(self.claim.source)
        ok = is_answering(self.fleet, source)
        sent = 0 if ok is None else 1
        if ok is False:
            self.fleet.events.emit(
                SourceFailing(region=source.region),
                source.id,
                self.claim.run,
                about=f"{now:%Y-%m-%dT%H}",
                quiet_seconds=_FAILING_SECONDS,
            )
        return self.fleet.ledger.probed(
            self.claim.source, self.claim.run, ok=bool(ok), resource=self.resource, sent=sent
        )


def give_back(fleet: Runtime, claim: Claim) -> Effect:
    """Give a page back after a fault of our own. If Redis is away, wait for it as long as the lease lasts.

    Otherwise, a page that a worker held during a failover would stay claimed until its lease ends, and the source
    would seem to wait for PagerDuty. If the answer was stored, the next worker finds it.
    """
    until = monotonic() + fleet.settings.page_lease_seconds
    while True:
        try:
            return fleet.ledger.give_back(
                claim, why="error", delay_seconds=OWN_FAULT_SECONDS, resource=""
            )
        except RedisUnreachable:
            if monotonic() > until:
                raise
            sleep(_AWAY_SECONDS)


def backoff_seconds(sent: int) -> float:
    """Return how long a page waits after a failure, if *sent* requests were sent for it before."""
    longest = min(_BACKOFF_MOST, _BACKOFF_SECONDS * 2 ** min(sent, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads the load; it is not a secret
