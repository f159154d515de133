"""One worker's visit to one claimed page: permit, call, store, decide, close."""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from time import monotonic, sleep

from redis import RedisError

from tasks.evidence.envelopes import decode_page, encode_page, same_recipe, stamp, unpacked_room
from tasks.evidence.layout import page_key
from tasks.evidence.manifests import read_plan
from tasks.reading.answers import Answer, members_of, read_answer, room_for, well_formed
from tasks.reading.catalog import CATALOG_VERSION, Paging
from tasks.reading.pages import Page, Request, request_of
from tasks.reading.paging import Step, children_ahead, decide, too_slow
from tasks.reading.plans import Plan
from tasks.reading.proofs import Read, read_pass
from tasks.runs import messages
from tasks.runs.asking import CROWDED_SECONDS, ask, is_answering
from workers.errors import Fault, RedisUnreachable, StorageConflict
from workers.pagerduty.client import Outcome as Came
from workers.pagerduty.client import Reply
from workers.process import metrics
from workers.process.signals import log_failure
from workers.room import NoRoom, Share
from workers.runtime import Runtime
from workers.state.events import DAY_SECONDS
from workers.state.faults import as_fault
from workers.state.ledger import Claim, Effect
from workers.storage import Storage, deleted_meanwhile
from workers.storage.registry import Source, SourceState

log = logging.getLogger("pagetrail.fetch")

MAX_ATTEMPTS = 8
SLOW_ATTEMPTS = 3
"""After so many time-outs, or errors of PagerDuty's, a list is asked for less at once."""
_BACKOFF_SECONDS, _BACKOFF_MOST = 0.5, 30.0
_OWN_FAULT_SECONDS = 5.0
_AWAY_SECONDS = 0.5
"""When to try again whether Redis is back."""
_READ_BACK_SECONDS = 20.0
"""How long a stored page waits for memory; its lease is longer."""
CLAIM_RENEW_SECONDS = 10.0
_FAILING_SECONDS = 3_600
"""A source that goes on failing is told of once in each hour of the clock."""
_STOPPED_SECONDS = 30.0
"""When to look again whether a source may send."""


def give_back(fleet: Runtime, claim: Claim) -> Effect:
    """Give a page back; wait for a Redis that is away for as long as the page is ours.

    Else a page that a failover caught in a worker's hands would stay there, and seem to wait for PagerDuty, until its
    lease ends. An answer that was stored is found again.
    """
    until = monotonic() + fleet.settings.page_lease_seconds
    while True:
        try:
            return fleet.ledger.give_back(
                claim, why="error", delay_seconds=_OWN_FAULT_SECONDS, resource=""
            )
        except RedisError as error:
            if monotonic() > until or not isinstance(as_fault(error), RedisUnreachable):
                raise
            sleep(_AWAY_SECONDS)


def give_up_unknown(fleet: Runtime, claim: Claim) -> Effect:
    """Give up the page of a resource that the catalog no longer has; leave to a newer worker
    what it does not have yet.
    """
    if plan_of(fleet.storage, claim.source, claim.run).catalog > CATALOG_VERSION:
        return leave_to_newer(fleet, claim)
    return fleet.ledger.close(claim, (), resource="", settle=True, failed=True)


def leave_to_newer(fleet: Runtime, claim: Claim) -> Effect:
    """Leave a page to a newer worker."""
    return fleet.ledger.give_back(
        claim, why="worker", delay_seconds=_OWN_FAULT_SECONDS, resource="", alone=True
    )


class Visit:
    """One worker's visit to one claimed page."""

    def __init__(self, fleet: Runtime, claim: Claim) -> None:
        self.fleet = fleet
        self.claim = claim
        self.page = Page.parse(claim.page, claim.payload)
        self.plan = plan_of(fleet.storage, claim.source, claim.run)
        self.resource = self.page.segment.partition(".")[0]
        self.key = page_key(claim.source, claim.run, claim.page)
        self.sent = 0
        self.said = ""  # what PagerDuty answered now
        self.begun_at = self.kept_at = monotonic()
        self.share: Share

    @property
    def _now(self) -> datetime:
        """The time by Redis's clock, which every worker shares, without asking for it."""
        return datetime.fromtimestamp(self.claim.at_ms / 1000 + (monotonic() - self.begun_at), UTC)

    @cached_property
    def request(self) -> Request:
        """The request for the page; ValueError if it isn't askable."""
        return request_of(self.page, self.plan)

    def make(self) -> Effect:
        """Bring the page to its end, or back to the ledger; return what follows.

        What is wrong with the page itself, like an object under its key that can't be read, counts
        as a failure of PagerDuty's does: in the end the page is given up and holds up no run. That
        storage, vault or Redis are away costs no page an attempt: the run waits for them. Nor does waiting for memory.
        """
        with self.fleet.room.share() as self.share:
            try:
                return self._made()
            except NoRoom:
                return self._back("worker", CROWDED_SECONDS)

    def _made(self) -> Effect:
        try:
            with metrics.Faults("tasks.fetch.fetch_page"):
                return self._visit()
        except NoRoom:
            raise
        except StorageConflict as conflict:
            log_failure(log, "page in conflict", conflict, self._known())
        except (Fault, RedisError) as error:
            log_failure(log, "page given back", error, self._known())
            return self._back("error", _OWN_FAULT_SECONDS)
        except Exception as error:  # noqa: BLE001 - logged
            log_failure(log, "page failed", error, self._known())
        return self._failed(why="error")

    def _visit(self) -> Effect:
        if not self.page.askable:
            self.said = "the id of its record can't stand in a request"
            return self._give_up()
        if self.claim.stored and (answer := self._stored()):
            return self._close(answer)
        if self.claim.attempts >= MAX_ATTEMPTS:
            return self._give_up()
        source = self.fleet.sources.recent(self.claim.source)
        if source.state is not SourceState.ACTIVE:
            return self._stopped(source)
        came = self._fetched(source)
        return came if isinstance(came, Effect) else self._close(came, date=came.date)

    def _fetched(self, source: Source) -> Effect | Answer:
        """Ask PagerDuty and store what it answers; return the heads of the answer, or what became of the page."""
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
                return self._refused(source)
            case Came.WAIT:
                return self._back("budget", max(1.0, float(reply.reset_seconds or 0)))
            case Came.CROWDED:
                raise NoRoom
            case Came.RETRY:
                return self._failed(slow=reply.timed_out or (reply.status or 0) >= 500)
        self.share.take(room_for(self.page, reply.body), CROWDED_SECONDS)
        read = self._read(source, reply, self._now)
        if read is None:
            self.said = f"{reply.gist}: the body isn't what this page asks for, or too large"
            return self._failed()
        return self._store(*read).slim

    def _read(
        self, source: Source, reply: Reply, fetched_at: datetime
    ) -> tuple[Answer, bytes] | None:
        """Return the answer and the object that holds it; None where the body can't be a page."""
        assert reply.status is not None
        envelope = {"words": reply.words, "fetched_at": stamp(fetched_at)}
        try:
            answer = read_answer(self.page, reply.status, reply.date, reply.members or {}, envelope)
            if not well_formed(self.page, answer):
                return None
            return answer, self._encoded(source, reply, fetched_at)
        except ValueError:
            return None

    def _stopped(self, source: Source) -> Effect:
        """Send nothing: the ledger was not told, for whoever stopped the source died before."""
        if source.state is SourceState.DISCONNECTED:
            return self.fleet.ledger.cancel(source.id, self.claim.run)
        return self._back(str(source.state), _STOPPED_SECONDS)

    def _back(self, why: str, delay_seconds: float) -> Effect:
        """Give the page back; what waits for the limit of a class, or for memory, waits alone."""
        return self.fleet.ledger.give_back(
            self.claim,
            why=why,
            delay_seconds=delay_seconds,
            resource=self.resource,
            sent=self.sent,
            alone=why == "worker" or (why == "budget" and bool(self.request.endpoint_class)),
        )

    def _refused(self, source: Source) -> Effect:
        """A 401 counts only against the key that the source still has."""
        now = self.fleet.sources.get(source.id)
        if now.fingerprint != source.fingerprint:
            return self._back("key", 0.0)
        log.warning("key refused", extra={"source": source.id, "run": self.claim.run})
        self.fleet.events.emit(
            "key.refused",
            source.id,
            self.claim.run,
            {"region": source.region, "fingerprint": source.fingerprint},
            about=source.fingerprint,
            quiet_seconds=DAY_SECONDS,
        )
        return self.fleet.ledger.refuse(self.claim, resource=self.resource, sent=self.sent)

    def _failed(self, *, slow: bool = False, why: str = "pagerduty") -> Effect:
        """Give the page back, or, after its last attempt, up: of a list that is slow less is asked for at once."""
        slow = slow and self.page.call.paging is not Paging.SINGLE
        give_back = partial(
            self.fleet.ledger.give_back,
            self.claim,
            why=why,
            delay_seconds=backoff_seconds(self.claim.requests),
            resource=self.resource,
            sent=self.sent,
            failed=True,
            slow=slow,
            most=SLOW_ATTEMPTS if slow else MAX_ATTEMPTS,
        )
        outcome = give_back()
        if outcome.status == "lonely":
            messages.publish(self.fleet, self.claim.source, self.claim.run, self._probe())
            outcome = give_back(probed=True)
        if outcome.status != "exhausted":
            return outcome
        self.sent = 0  # counted by now
        instead = too_slow(self.page, self.plan) if slow else None
        return self._finish(instead) if instead else self._give_up()

    def _probe(self) -> Effect:
        """Tell a dead page from a dead source: only the former costs the page an attempt."""
        source = self.fleet.sources.get(self.claim.source)
        ok = is_answering(self.fleet, source)
        sent = 0 if ok is None else 1
        if ok is False:
            self.fleet.events.emit(
                "source.failing",
                source.id,
                self.claim.run,
                {"region": source.region},
                about=f"{self._now:%Y-%m-%dT%H}",
                quiet_seconds=_FAILING_SECONDS,
            )
        return self.fleet.ledger.probed(
            self.claim.source, self.claim.run, ok=bool(ok), resource=self.resource, sent=sent
        )

    def _stored(self) -> Answer | None:
        self.share.give_back()
        blob = self.fleet.storage.get(self.key)
        if blob is None:
            return None
        try:
            answer = self._decoded(blob)
        except ValueError as error:
            raise StorageConflict(f"{self.key} can't be read: {error}.") from None
        if not same_recipe(answer, self.claim.run, self.page, self.request):
            raise StorageConflict(f"{self.key} holds the answer to another request.")
        return answer.slim

    def _decoded(self, blob: bytes) -> Answer:
        """Return the answer in *blob*, in what memory there is for it; raises ValueError and `NoRoom`."""
        self.share.take(unpacked_room(blob), _READ_BACK_SECONDS)
        return decode_page(blob)

    def _encoded(self, source: Source, reply: Reply, fetched_at: datetime) -> bytes:
        return encode_page(
            source,
            self.claim.run,
            self.page,
            self.request,
            reply,
            sent=self.claim.requests + 1,
            fetched_at=fetched_at,
        )

    def _store(self, answer: Answer, blob: bytes) -> Answer:
        """Store *blob*, whose *answer* is ours, or adopt the one that was stored first."""
        if self.fleet.storage.put_new(self.key, blob):
            return answer
        first = self._stored()
        if first is None:
            raise deleted_meanwhile(self.key)
        return first

    def _give_up(self) -> Effect:
        log.error("page given up: %s", self.said or "it failed too often", extra=self._known())
        return self._finish(decide(self.page, None, self.plan))

    def _close(self, answer: Answer, *, date: datetime | None = None) -> Effect:
        return self._finish(decide(self.page, answer, self.plan), answer, date=date)

    def _finish(
        self, step: Step, answer: Answer | None = None, *, date: datetime | None = None
    ) -> Effect:
        """Close the page, failed where it has no answer; whoever closes the last of a pass says what that proves."""

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
        """Return how to read the pages of this pass: this one from memory.

        One that can't be read counts as none, as it does when the run is sealed.
        """

        def read(page: Page) -> Answer | None:
            if page.id == self.page.id:
                return answer
            self._keep()
            self.share.give_back()
            key = page_key(self.claim.source, self.claim.run, page.id)
            blob = self.fleet.storage.get(key)
            try:
                return self._decoded(blob) if blob is not None else None
            except ValueError as error:
                log.error("%s can't be read: %s", key, error, extra=self._known())
                return None

        return read

    def _keep(self) -> None:
        """Renew the lease when it is time to: a pass behind cursors has as many pages as it has."""
        if monotonic() - self.kept_at > CLAIM_RENEW_SECONDS:
            self.kept_at = monotonic()
            self.fleet.ledger.renew(self.claim)

    def _known(self) -> dict[str, object]:
        """Return what whoever reads of a failure should know of this page."""
        known: dict[str, object] = {
            "source": self.claim.source,
            "run": self.claim.run,
            "page": self.claim.page,
            "resource": self.resource,
        }
        if not self.page.askable:
            return known
        return {
            **known,
            "request": {
                "method": "GET",
                "path": self.request.path,
                "parameters": [
                    # A cursor comes from a body: it isn't repeated.
                    f"{name}={f'[{len(value)} characters]' if name == 'cursor' else value}"
                    for name, value in self.request.params
                ],
            },
        }


@lru_cache(maxsize=512)
def plan_of(storage: Storage, source: str, run: str) -> Plan:
    """Return a run's plan, which never changes once it is stored."""
    return read_plan(storage, source, run)


def backoff_seconds(sent: int) -> float:
    """Return how long a page waits after a failure, *sent* requests having been sent for it."""
    longest = min(_BACKOFF_MOST, _BACKOFF_SECONDS * 2 ** min(sent, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, hides nothing
