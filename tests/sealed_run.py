"""A run that is stored and sealed without a fleet. Its answers come from a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import orjson

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.envelopes import decode_page, encode_page
from tasks.evidence.layout import manifest_key, page_key, plan_key
from tasks.reading.answers import Answer
from tasks.reading.pages import Page, Request, request_of
from tasks.reading.plans import Plan
from tasks.runs.ending import list_digests
from tasks.runs.sealing import seal
from tasks.verifying.report import Report
from tasks.verifying.verify import verify
from tests.lists_model import NOW, Fleet
from workers import exact
from workers.pagerduty.replies import Outcome, Reply
from workers.room import Room
from workers.state.ledger import Clock
from workers.state.progress import Progress
from workers.storage import Storage, open_storage

FINGERPRINT = "0123456789abcdef"


class InOrder(random.Random):
    """Not random: pages are requested in the order in which they were opened."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


class SealedRun:
    """One run of one source, in a new storage or in one that already has runs."""

    def __init__(
        self,
        plan: Plan,
        ask: Callable[[Page, Request], Answer | None],
        storage: Storage | None = None,
        **fleet: Any,
    ) -> None:
        self.plan = plan
        self.storage = storage or open_storage("memory://")
        self.storage.put_new(plan_key(plan.source, plan.run), documents.written(plan))
        self.fleet = Fleet(plan, ask, dice=InOrder(), **fleet).run()
        for number, (page, _) in enumerate(self.fleet.asked):
            if answer := self.fleet.read(page):
                self.store(page, answer, number)

    def store(self, page: Page, answer: Answer, number: int = 0) -> str:
        """Store an answer that was fetched this many seconds after the run's end. Return its key."""
        plan = self.plan
        source: Any = SimpleNamespace(
            id=plan.source, region=plan.region, credential=plan.credential, fingerprint=FINGERPRINT
        )
        body, words = exact.dumps(answer.data), answer.words
        reply = Reply(Outcome.OK, answer.status, body, words=words, date=answer.date)
        request, fetched_at = request_of(page, plan), NOW + timedelta(seconds=number)
        _, blob = encode_page(source, plan.run, page, request, reply, sent=1, fetched_at=fetched_at)
        key = self.key(page)
        self.storage.put_new(key, blob)
        return key

    def key(self, page: Page) -> str:
        return page_key(self.plan.source, self.plan.run, page.id)

    def fetched_at(self, page_id: str) -> str:
        """Return the time when a page was fetched, according to its envelope."""
        blob = self.storage.get(page_key(self.plan.source, self.plan.run, page_id))
        assert blob
        return decode_page(blob).fetched_at

    def seal(self, verdict: str = "", requests: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Seal the run as the seal task does. Return its manifest as a document, with the digest of its file."""
        ledger = SimpleNamespace(
            progress=lambda _source: Progress(verdict=verdict, requests=dict(requests or {})),
            time=lambda: Clock(int(NOW.timestamp() * 1000), None, None),
        )
        fleet = SimpleNamespace(room=Room(), storage=self.storage, ledger=ledger)
        lease = SimpleNamespace(beat=lambda: None)
        seal(cast(Any, fleet), self.plan.source, self.plan.run, cast(Any, lease))
        text = self.storage.get(manifest_key(self.plan.source, self.plan.run))
        assert text
        list_digests(self.storage, self.plan.source, self.plan.run)
        return {**orjson.loads(text), "sha256": sha256(text)}

    def verify(self) -> Report:
        *_, report = verify(self.storage, self.plan.source)
        return report
