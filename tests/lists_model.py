"""A model of PagerDuty's lists and of a fleet that reads them, without time, network or storage.

The lists follow PagerDuty's documentation of its pagination, not our code. The fleet does the work of the
ledger and the fetch task: it requests pages in any order, the held one last, and closing the last page
of a pass settles the pass.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.evidence.envelopes import stamp
from tasks.reading.answers import Answer
from tasks.reading.beginnings import first_pages
from tasks.reading.pages import Page, Request, gave_way, request_of
from tasks.reading.paging import decide, too_slow
from tasks.reading.plans import Plan, make_plan
from tasks.reading.proofs import ProofState, Reading, read_pass, walk
from tasks.reading.windows import rfc3339
from tests.manifests import as_manifest, manifest_document

Record = dict[str, Any]
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CAP = 10_000


def make(*resources: str, days: float = 100, budget: int = 10_000, **more: Any) -> Plan:
    """Return the plan of a run over the last *days* days."""
    values: dict[str, Any] = {
        "source": "acme/main",
        "resources": resources or None,
        "since": NOW - timedelta(days=days),
        "until": NOW,
        "opened_at": NOW + timedelta(seconds=3),
        "page_budget": budget,
        "region": "us",
        "subdomain": "acme",
        "credential": "account",
        "backfill": False,
        "last": None,
        "newest": None,
        **more,
    }
    if isinstance(values["last"], dict):
        values["last"] = as_manifest(manifest_document(**values["last"]))
    return make_plan(**values)


def answer_to(page: Page, status: int = 200, **data: Any) -> Answer:
    """Return an answer of PagerDuty, with a `Date` just after the run's end."""
    return Answer(status, NOW + timedelta(seconds=5), data, f"said {status}", stamp(NOW))


def record(number: int, **more: Any) -> Record:
    """Return a record with a name that sorts like its number. It is a minute older than the record before it."""
    made = NOW - timedelta(minutes=1 + number)
    return named({"id": f"P{number}", "type": "thing", "made": made, **more}, number)


def named(record: Record, number: int) -> Record:
    """Give *record* a name that sorts like *number*, or a summary if PagerDuty shows no name."""
    name = f"n{number:06d}"
    record |= {"name": name, "summary": name}
    return record


@dataclass
class Lists:
    """The lists of an account by path. Windowed lists are sorted by `made`, others by `name`."""

    records: dict[str, list[Record]]
    served: int = 100  # most records per page, whatever is requested
    totals: bool = True  # whether `total` is given if it is asked for
    requests: Counter[str] = field(default_factory=Counter)
    _by_time: dict[str, tuple[list[Record], list[datetime], list[int]]] = field(
        default_factory=dict, repr=False
    )

    def answer(self, page: Page, request: Request) -> Answer:
        """Return the answer that PagerDuty would give now."""
        self.requests[request.path] += 1
        params = dict(request.params)
        found = self.records.get(request.path)
        if found is None:
            return self._one(page, request.path)
        if "since" in params:
            since, until = (datetime.fromisoformat(params[name]) for name in ("since", "until"))
            found = self._made(request.path, since, until)
        else:
            found = sorted(found, key=lambda r: (r["name"], r["id"]))
        if "offset" not in params:
            return self._behind_cursor(page, found, params)
        return self._at_offset(page, found, params)

    def _made(self, path: str, since: datetime, until: datetime) -> list[Record]:
        """Return the records of a period, in the order of the list. A record may come and go, but keeps its time."""
        found = self.records[path]
        known, times, places = self._by_time.get(path, ([], [], []))
        if known != found:
            places = sorted(range(len(found)), key=lambda place: found[place]["made"])
            times = [found[place]["made"] for place in places]
            self._by_time[path] = [*found], times, places
        within = places[bisect_left(times, since) : bisect_left(times, until)]
        return [found[place] for place in sorted(within)]

    def _one(self, page: Page, path: str) -> Answer:
        above, _, record_id = path.rpartition("/")
        for each in self.records.get(above, ()):
            if each["id"] == record_id:
                return answer_to(page, **{page.call.wrapper: dict(each)})
        return answer_to(page, 404)

    def _at_offset(self, page: Page, found: list[Record], params: dict[str, str]) -> Answer:
        limit, offset = int(params["limit"]), int(params["offset"])
        if not (0 < limit <= 100 and offset >= 0 and offset + limit <= CAP):
            return answer_to(page, 400)
        end = offset + min(limit, self.served)
        total = len(found) if self.totals and params.get("total") == "true" else None
        records = {page.call.wrapper: _now(found[offset:end])}
        return answer_to(page, **records, more=end < len(found), total=total)

    def _behind_cursor(self, page: Page, found: list[Record], params: dict[str, str]) -> Answer:
        start = int(params.get("cursor", "0"))
        end = start + min(int(params["limit"]), self.served)
        following = str(end) if end < len(found) else None
        return answer_to(page, **{page.call.wrapper: _now(found[start:end])}, next_cursor=following)


def _now(records: list[Record]) -> list[Record]:
    """Return copies of *records* as they are now, with the times that PagerDuty shows."""
    return [
        {**each, "created_at": (at := rfc3339(each["made"])), "execution_time": at}
        for each in records
    ]


@dataclass
class Fleet:
    """Reads a run, with pages in any order. The first answer for a page is kept."""

    plan: Plan
    ask: Callable[[Page, Request], Answer | None]  # None: the page kept failing
    slow: Callable[[Page], bool] = lambda _page: False  # whether it timed out repeatedly
    dice: random.Random = field(default_factory=random.Random)
    stored: dict[str, Answer] = field(default_factory=dict)
    open: list[Page] = field(default_factory=list)
    asked: list[tuple[Page, Request]] = field(default_factory=list)

    def run(self, most: int = 5_000) -> Fleet:
        """Read until no page is open."""
        self.open = first_pages(self.plan)
        while self.open:
            self._visit(self._any())
            assert len(self.asked) < most, "this doesn't end"
        return self

    def read(self, page: Page) -> Answer | None:
        return self.stored.get(page.id)

    def parts(self, page: Page) -> bool:
        groups = (page_id.split("/") for page_id in self.stored)
        return gave_way(page, (group for segment, group, _ in groups if segment == page.segment))

    @property
    def readings(self) -> list[Reading]:
        """The readings of the stored answers, as the sealer sees them."""
        return list(walk(self.plan, self.read, lambda _page, _answer: None, self.parts))

    @property
    def settled(self) -> list[Reading]:
        return [r for r in self.readings if r.verdict.state is not ProofState.SUPERSEDED]

    def records(self, reading: Reading) -> list[str]:
        """The ids of all records in a reading, as often as they were served."""
        return [key for _, seen in reading.pages if seen for key in seen.keys]

    def _any(self) -> Page:
        groups = Counter(page.group for page in self.open)
        ready = [page for page in self.open if not page.held or groups[page.group] == 1]
        page = self.dice.choice(ready)
        self.open.remove(page)
        return Page.parse(page.id, page.payload())

    def _visit(self, page: Page) -> None:
        request = request_of(page, self.plan)
        self.asked.append((page, request))
        halves = too_slow(page, self.plan) if self.slow(page) else None
        answer = None if halves else self.ask(page, request)
        assert page.id not in self.stored, "nothing is asked twice"
        if answer is not None:
            self.stored[page.id] = answer
        step = halves or decide(page, answer, self.plan)
        if step.ended:
            self.open = [each for each in self.open if each.group != page.group]
        self.open += [*step.onward, *step.followers]
        superseded = step.ended and step.followers
        if not superseded and all(each.group != page.group for each in self.open):
            self.open += read_pass(page.opener, self.plan, self.read).followers
