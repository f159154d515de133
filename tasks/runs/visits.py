"""One worker's visit to one claimed page: permit, call, store, decide, close."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from time import monotonic

from redis import RedisError

from tasks.accounts.asking import CROWDED_SECONDS, ask
from tasks.evidence.envelopes import (
    decode_page,
    encode_page,
    read_start,
    same_recipe,
    unpacked_room,
)
from tasks.evidence.layout import page_key
from tasks.evidence.manifests import read_plan
from tasks.reading.answers import Answer, members_of, room_for
from tasks.reading.beginnings import children_ahead
from tasks.reading.catalog import CATALOG_VERSION, FEEDS, Paging
from tasks.reading.pages import NewerPage, Page, Request, request_of
from tasks.reading.paging import Step, decide, too_slow
from tasks.reading.plans import Plan
from tasks.reading.proofs import Read, read_pass
from tasks.runs import messages
from tasks.runs.setbacks import MAX_ATTEMPTS, OWN_FAULT_SECONDS, Setbacks
from workers.errors import Fault, StorageConflict
from workers.pagerduty.replies import Outcome as Came
from workers.pagerduty.replies import Reply
from workers.process import metrics
from workers.process.signals import log_failure
from workers.room import NoRoom, Share
from workers.runtime import Runtime
from workers.state.ledger import Claim, Effect
from workers.storage import Storage, deleted_meanwhile
from workers.storage.registry import Source, SourceState

log = logging.getLogger("pagetrail.fetch")

_READ_BACK_SECONDS = 20.0
"""How long a stored page waits for memory; its lease is longer."""
CLAIM_RENEW_SECONDS = 10.0


def visit(fleet: Runtime, claim: Claim) -> Effect:
    """Close a claimed page, or give it back; return the ledger's answer.

    A failure of this page alone, such as a stored object that can't be read, counts like a failure of PagerDuty: in the
    end the page is given up, and the run goes on without it. If storage, the vault or Redis is away, or memory is
    short, the page loses no attempt: the run waits.
    """
    if claim.page.partition("/")[0] not in FEEDS:
        return _give_up_unknown(fleet, claim)
    try:
        found = Visit(fleet, claim)
    except NewerPage:
        return _leave_to_newer(fleet, claim)
    return found.make()


def _give_up_unknown(fleet: Runtime, claim: Claim) -> Effect:
    """Give up a page of a resource that was retired. Leave a page of a newer resource to a newer worker."""
    if plan_of(fleet.storage, claim.source, claim.run).catalog > CATALOG_VERSION:
        return _leave_to_newer(fleet, claim)
    return fleet.ledger.close(claim, (), resource="", settle=True, failed=True)


def _leave_to_newer(fleet: Runtime, claim: Claim) -> Effect:
    return fleet.ledger.give_back(
        claim, why="worker", delay_seconds=OWN_FAULT_SECONDS, resource="", alone=True
    )


class Visit:
    """One worker's visit to one claimed page."""

    def __init__(self, fleet: Runtime, claim: Claim) -> None:
        self.fleet = fleet
        self.claim = claim
        self.page = Page.parse(claim.page, claim.payload)
        self.plan = plan_of(fleet.storage, claim.source, claim.run)
        self.resource = self.page.segment.partition(".")[0]
        self.setbacks = Setbacks(fleet, claim, self.resource)
        self.key = page_key(claim.source, claim.run, claim.page)
        self.sent = 0
        self.said = ""  # a summary of PagerDuty's answer, for the log
        self.begun_at = self.renewed_at = monotonic()
        self.share: Share

    @property
    def _now(self) -> datetime:
        """The time of Redis's clock, which all workers share. It is computed from the time of the claim."""
        return datetime.fromtimestamp(self.claim.at_ms / 1000 + (monotonic() - self.begun_at), UTC)

    @cached_property
    def request(self) -> Request:
        """The request for the page; ValueError if the page can't be asked for."""
        return request_of(self.page, self.plan)

    def make(self) -> Effect:
        """Close the page, or give it back; return the ledger's answer."""
        with self.fleet.room.share() as self.share:
            try:
                return self._made()
            except NoRoom:
                return self._back("worker", CROWDED_SECONDS)

    def _made(self) -> Effect:
        try:
            with metrics.FailuresOf("tasks.fetch.fetch_page"):
                return self._visit()
        except NoRoom:
            raise
        except StorageConflict as conflict:
            log_failure(log, "page in conflict", conflict, self._details())
        except (Fault, RedisError) as error:
            log_failure(log, "page given back", error, self._details())
            return self._back("error", OWN_FAULT_SECONDS)
        except Exception as error:  # noqa: BLE001 - any error costs an attempt; it is logged
            log_failure(log, "page failed", error, self._details())
        return self._failed(why="error")

    def _visit(self) -> Effect:
        if not self.page.askable:
            self.said = "the id of its record can't be part of a request"
            return self._give_up()
        if self.claim.stored and (answer := self._stored()):
            return self._close(answer)
        if self.claim.attempts >= MAX_ATTEMPTS:
            return self._give_up()
        source = self.fleet.sources.recent(self.claim.source)
        if source.state is not SourceState.ACTIVE:
            return self.setbacks.stopped(source)
        came = self._fetched(source)
        return came if isinstance(came, Effect) else self._close(came, date=came.date)

    def _fetched(self, source: Source) -> Effect | Answer:
        """Ask PagerDuty and store its answer; return the answer, or the ledger's answer if the page went back."""
        wanted, members = self.request, members_of(self.page)
        asked = ask(
            self.fleet,
            source,
            wanted.path,
            wanted.params,
            wanted.endpoint_class,
            members,
            self.share,
        )
        if asked.reply is None:
            return self._back(asked.why, asked.wait_seconds)
        self.sent = 1
        self.said = asked.reply.gist
        return self._judge(source, asked.reply)

    def _judge(self, source: Source, reply: Reply) -> Effect | Answer:
        match reply.outcome:
            case Came.STOP:
                return self.setbacks.refused(source, sent=self.sent)
            case Came.WAIT:
                return self._back("budget", max(1.0, float(reply.reset_seconds or 0)))
            case Came.CROWDED:
                raise NoRoom
            case Came.RETRY:
                return self._failed(slow=reply.timed_out or (reply.status or 0) >= 500)
        self.share.take(room_for(self.page, reply.body), CROWDED_SECONDS)
        read = self._read(source, reply, self._now)
        if read is None:
            self.said = f"{reply.gist}: the body isn't an answer to this page, or it is too large"
            return self._failed()
        return self._store(*read).slim

    def _read(
        self, source: Source, reply: Reply, fetched_at: datetime
    ) -> tuple[Answer, bytes] | None:
        """Return the answer and the object that holds it; None if the body can't be a page."""
        try:
            return encode_page(
                source,
                self.claim.run,
                self.page,
                self.request,
                reply,
                sent=self.claim.requests + 1,
                fetched_at=fetched_at,
            )
        except ValueError:
            return None

    def _back(self, why: str, delay_seconds: float) -> Effect:
        """Give the page back. If it waits for memory or for the limit of an endpoint class, it waits alone."""
        alone = why == "worker" or (why == "budget" and bool(self.request.endpoint_class))
        return self.setbacks.wait(why, delay_seconds, sent=self.sent, alone=alone)

    def _failed(self, *, slow: bool = False, why: str = "pagerduty") -> Effect:
        """Give the page back. After its last attempt, ask a slow list for less, or give the page up."""
        slow = slow and self.page.call.paging is not Paging.SINGLE
        outcome = self.setbacks.failed(why, self._now, sent=self.sent, slow=slow)
        if outcome is not None:
            return outcome
        self.sent = 0  # the ledger has counted these requests already
        instead = too_slow(self.page, self.plan) if slow else None
        return self._finish(instead) if instead else self._give_up()

    def _stored(self) -> Answer | None:
        blob = self.fleet.storage.get(self.key)
        if blob is None:
            return None
        try:
            self._take(unpacked_room(blob))
            answer = decode_page(blob)
        except ValueError as error:
            raise StorageConflict(f"{self.key} can't be read: {error}.") from None
        if not same_recipe(answer, self.claim.run, self.page, self.request):
            raise StorageConflict(f"{self.key} holds the answer to another request.")
        return answer.slim

    def _take(self, size: int) -> None:
        """Take memory to read a stored page back, in place of what the visit has; `NoRoom` without it."""
        self.share.give_back()
        self.share.take(size, _READ_BACK_SECONDS)

    def _store(self, answer: Answer, blob: bytes) -> Answer:
        """Store *blob*, which holds our *answer*; return the stored answer, which may be an earlier one."""
        if self.fleet.storage.put_new(self.key, blob):
            return answer
        first = self._stored()
        if first is None:
            raise deleted_meanwhile(self.key)
        return first

    def _give_up(self) -> Effect:
        log.error("page given up: %s", self.said or "it failed too often", extra=self._details())
        return self._finish(decide(self.page, None, self.plan))

    def _close(self, answer: Answer, *, date: datetime | None = None) -> Effect:
        return self._finish(decide(self.page, answer, self.plan), answer, date=date)

    def _finish(
        self, step: Step, answer: Answer | None = None, *, date: datetime | None = None
    ) -> Effect:
        """Close the page, as failed if it has no answer. If it is the last page of its pass, settle the pass."""

        def close(pages: tuple[Page, ...], *, settle: bool) -> Effect:
            return self.fleet.ledger.close(
                self.claim,
                messages.openings(step.onward + pages, self.plan.ask_again_seconds, self._now),
                resource=self.resource,
                sent=self.sent,
                settle=settle,
                supersede=bool(step.ended),
                failed=answer is None,
                date_ms=int(date.timestamp() * 1000) if date else None,
                ahead=children_ahead(self.page, answer, self.plan, opened=settle),
            )

        alone = self.page.first and not step.followers
        if step.followers or not (step.ended or alone):
            outcome = close(step.followers, settle=False)
            if outcome.status != "last":
                return outcome
        self.share.give_back()
        reading = read_pass(self.page.opener, self.plan, self._reader(answer))
        return close(tuple(reading.followers), settle=True)

    def _reader(self, answer: Answer | None) -> Read:
        """Return a function that reads the pages of this pass: this page from memory, the others from storage.

        A page that can't be read counts as missing, as it does when the run is sealed.
        """

        def read(page: Page) -> Answer | None:
            if page.id == self.page.id:
                return answer
            self._renew_claim()
            key = page_key(self.claim.source, self.claim.run, page.id)
            try:
                return read_start(self.fleet.storage, key, self._take)
            except ValueError as error:
                log.error("%s can't be read: %s", key, error, extra=self._details())
                return None

        return read

    def _renew_claim(self) -> None:
        """Renew the claim if it is time to. Reading back a long pass may take longer than the lease."""
        if monotonic() - self.renewed_at > CLAIM_RENEW_SECONDS:
            self.renewed_at = monotonic()
            self.fleet.ledger.renew(self.claim)

    def _details(self) -> dict[str, object]:
        """Return the details of this page that belong in a report of a failure."""
        details: dict[str, object] = {
            "source": self.claim.source,
            "run": self.claim.run,
            "page": self.claim.page,
            "resource": self.resource,
        }
        if not self.page.askable:
            return details
        return {
            **details,
            "request": {
                "method": "GET",
                "path": self.request.path,
                "parameters": [
                    # A cursor comes from a body, so it is not shown.
                    f"{name}={f'[{len(value)} characters]' if name == 'cursor' else value}"
                    for name, value in self.request.params
                ],
            },
        }


@lru_cache(maxsize=512)
def plan_of(storage: Storage, source: str, run: str) -> Plan:
    """Return the plan of a run. It is remembered, because a stored plan never changes."""
    return read_plan(storage, source, run)
