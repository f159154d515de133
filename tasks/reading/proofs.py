"""Decide whether a reading covers its whole window: pure functions of its stored answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice, pairwise
from typing import Any

from tasks.reading.answers import Answer, served
from tasks.reading.beginnings import child_pages, first_pages
from tasks.reading.catalog import OFFSET_CAP, Paging, children_of
from tasks.reading.heads import key_of
from tasks.reading.pages import Page
from tasks.reading.paging import Step, again, decide, too_slow
from tasks.reading.plans import Plan
from tasks.reading.sealed import Proof, ProofState, ProvedBy, Reason
from tasks.reading.windows import period_in

Read = Callable[[Page], Answer | None]
"""Returns the stored answer to a page; None if there isn't one."""
Parts = Callable[[Page], bool]
"""Says whether the pass of a page was replaced because it was too slow, as stored answers show: see `gave_way`."""
Use = Callable[[Page, Answer], None]
"""Is called with each answer while it is in memory."""

MOST_PARENTS = OFFSET_CAP
"""Most records of a list whose children are read. One script opens all their pages, and blocks Redis meanwhile."""
_GOES_ON = "the list goes on past record "
_NO_END = "the last page doesn't say whether more records follow"
_UNASKABLE = (
    "PagerDuty gave a record an id that can't be part of a request, so it was not asked for"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one pass of a window, with the reason if it isn't proved."""

    state: ProofState
    reason: Reason = ""
    words: str = ""  # PagerDuty's words, or our own with the numbers
    total: int | None = None  # PagerDuty's
    unique: int | None = None
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """The parts of an answer that a proof needs. They are a few strings per record, not the records."""

    status: int
    words: str
    date: datetime | None
    total: int | None
    more: bool
    ends: bool  # it says that nothing follows; silence about that proves nothing
    keys: tuple[str, ...]
    edges: tuple[object, object] | None  # key and sort field of the first and of the last record
    records: tuple[Mapping[str, Any], ...]  # heads of the records, if children are read for them

    @property
    def ok(self) -> bool:
        return self.status < 300


def glance(page: Page, answer: Answer, *, parents: bool) -> Glance:
    """Return the parts of *answer* that proofs need. With *parents*, they include the records, for their children."""
    records = served(page, answer)
    data = answer.data if answer.ok else {}
    keys = tuple(key_of(page.segment, record) for record in records)
    sort_field = page.feed.sort_field
    return Glance(
        status=answer.status,
        words=answer.words or _unsaid(answer),
        date=answer.date,
        total=data.get("total"),
        more=bool(data.get("more")),
        ends=data.get("more") is False or data.get("next_cursor", "") is None,
        keys=keys,
        edges=((keys[0], records[0].get(sort_field)), (keys[-1], records[-1].get(sort_field)))
        if records
        else None,
        records=tuple(records) if parents else (),
    )


def _unsaid(answer: Answer) -> str:
    return "" if answer.ok else f"PagerDuty answered {answer.status} and did not say why"


@dataclass(slots=True)
class Reading:
    """One pass of a window: its pages with their answers, its verdict, and the pages that follow."""

    first: Page
    pages: list[tuple[Page, Glance | None]] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict(ProofState.FAILED, "error"))
    # The first pages of the passes that replace this one, or of the children of its records.
    followers: list[Page] = field(default_factory=list)
    onward: list[Page] = field(default_factory=list)  # the plan's next window

    @property
    def keys(self) -> set[str]:
        return {key for _, seen in self.pages if seen for key in seen.keys}


def read_pass(
    first: Page,
    plan: Plan,
    read: Read,
    use: Use = lambda _page, _answer: None,
    parts: Parts = lambda _page: False,
) -> Reading:
    """Return the reading that begins with *first*, from its stored answers.

    *use* is called once with each answer of the pass, in order.
    """
    reading, queue = Reading(first), deque([first])
    parents = bool(children_of(first.segment, plan.feeds))
    while queue:
        page = queue.popleft()
        answer = read(page)
        seen = None
        if answer is not None:
            use(page, answer)
            seen = glance(page, answer, parents=parents)
        reading.pages.append((page, seen))
        step = _step(page, answer, plan, parts)
        reading.onward += step.onward
        if step.ended:
            _end(reading, step, plan)
            return reading
        queue += step.followers
    _settle(reading, plan)
    return reading


def _step(page: Page, answer: Answer | None, plan: Plan, parts: Parts) -> Step:
    """Return the pages that follow *answer*.

    Slowness isn't stored. So a pass that was too slow is recognised by the stored answers of its replacement.
    """
    halves = too_slow(page, plan) if answer is None and parts(page) else None
    return halves or decide(page, answer, plan)


def _end(reading: Reading, step: Step, plan: Plan) -> None:
    reading.followers += step.followers
    if step.followers:
        reading.verdict = Verdict(ProofState.SUPERSEDED, words=step.ended)
    else:
        words = step.words or f"read {reading.first.pass_} times, different each time"
        unique = len(reading.keys)
        reading.verdict = Verdict(ProofState.PARTIAL, "unproved", words, unique=unique)
        _open_children(reading, plan)


def _settle(reading: Reading, plan: Plan) -> None:
    """Set the verdict of a pass whose pages are all closed, and add the pages that follow."""
    reading.verdict = verdict = prove(reading)
    if verdict.state is ProofState.PARTIAL and _worth_another(reading):
        reading.followers += again(reading.first).followers
    if reading.followers:
        reading.verdict = replace(verdict, state=ProofState.SUPERSEDED, reason="")
    else:
        _open_children(reading, plan)


def _open_children(reading: Reading, plan: Plan) -> None:
    children = children_of(reading.first.segment, plan.feeds)
    if children and not reading.first.of_record:
        records = {r["id"]: r for _, seen in reading.pages if seen for r in seen.records}
        if len(records) > MOST_PARENTS:
            words = f"more than {MOST_PARENTS} records, and only so many are looked into"
            reading.verdict = replace(
                reading.verdict, state=ProofState.PARTIAL, reason="unproved", words=words
            )
        reading.followers += child_pages(children, islice(records.values(), MOST_PARENTS), plan)


def _worth_another(reading: Reading) -> bool:
    """Return whether another pass may prove more. It can't if the list goes on after the last page that can be read."""
    verdict = reading.verdict
    return verdict.reason == "unproved" and not verdict.words.startswith(_GOES_ON)


def prove(reading: Reading) -> Verdict:
    """Return the verdict on a pass whose pages are all closed."""
    answers = [seen for _, seen in reading.pages]
    first, paging = answers[0], reading.first.call.paging
    if first is not None and not first.ok:
        return _refused(reading.first, first)
    if not reading.first.askable:
        return Verdict(ProofState.FAILED, "error", _UNASKABLE)
    if missing := answers.count(None):
        state = ProofState.FAILED if missing == len(answers) else ProofState.PARTIAL
        return Verdict(state, "error", f"{missing} of {len(answers)} pages could not be read")
    pages = [(page, seen) for page, seen in reading.pages if seen]
    unique = len(reading.keys)
    if paging is Paging.SINGLE:
        return _proved("single_answer", unique)
    if paging is Paging.CURSOR:
        words, total = _doubt_cursor(pages), None
    else:
        pages.sort(key=lambda pair: pair[0].number)
        words, total = _doubt_offsets(pages, unique), pages[0][1].total
    if words:
        return Verdict(ProofState.PARTIAL, "unproved", words, total, unique)
    if paging is Paging.CURSOR:
        return _proved("cursor_end", unique)
    shared = paging is Paging.CHAIN or total is None or reading.first.feed.changing
    overlaps = len(pages) - 1 if shared else 0
    if total is not None:
        return _proved("total", unique, total, overlaps)
    return _proved("overlap" if overlaps else "single_answer", unique, overlaps=overlaps)


def _proved(by: ProvedBy, unique: int, total: int | None = None, overlaps: int = 0) -> Verdict:
    proof = Proof(by=by, total=total, overlaps=overlaps, unique=unique)
    return Verdict(ProofState.PROVED, total=total, unique=unique, proof=proof)


def _refused(page: Page, answer: Glance) -> Verdict:
    match answer.status:
        case 402:
            return Verdict(ProofState.UNAVAILABLE, "plan", answer.words)
        case 403:
            return Verdict(ProofState.UNAVAILABLE, "role", answer.words)
        case 404 if page.of_record:
            # Vanished: a list of this run names the record. Denied: it is read only because an earlier run knew it.
            if page.feed.settled:
                return Verdict(ProofState.PROVED, "denied", answer.words, unique=0)
            return Verdict(ProofState.PARTIAL, "vanished", answer.words, unique=0)
        case 404 if page.feed.missing_means_plan:
            return Verdict(ProofState.UNAVAILABLE, "plan", answer.words)
    return Verdict(ProofState.FAILED, "error", answer.words)


def _doubt_offsets(pages: list[tuple[Page, Glance]], unique: int) -> str:
    """Return why offset pages don't prove their window; "" if they do."""
    page, first = pages[0]
    end, last = pages[-1]
    if last.more:
        return f"{_GOES_ON}{end.number + len(last.keys)}, the last that is asked for"
    chained = page.call.paging is Paging.CHAIN or first.total is None
    if chained and not last.ends:
        return _NO_END
    if (page.feed.changing or chained) and not _overlapping([seen for _, seen in pages]):
        return "the list moved while it was read"
    if not chained and not first.total == last.total == unique:
        return f"total was {first.total}, then {last.total}; {unique} different records were served"
    return ""


def _overlapping(pages: list[Glance]) -> bool:
    """Return whether each page's last record is the first of the next page, with the same key and sort field."""
    return all(
        before.edges and after.edges and before.edges[1] == after.edges[0]
        for before, after in pairwise(pages)
    )


def _doubt_cursor(pages: list[tuple[Page, Glance]]) -> str:
    """Return why cursor pages don't prove their window; "" if they do."""
    seen: set[str] = set()
    for page, answer in pages:
        fresh = set(answer.keys) - seen
        if not fresh and (answer.keys or page is not pages[-1][0]):
            return f"page {page.number} brought nothing new"
        seen |= fresh
    if not pages[-1][1].ends:
        return _NO_END
    page, first = pages[0]
    period = period_in(page.window)
    if period and (first.date is None or first.date < period.until):
        when = f"at {first.date:%FT%TZ}" if first.date else "at an unknown time"
        return f"read {when}, not after its end"
    return ""


def walk(plan: Plan, read: Read, use: Use, parts: Parts) -> Iterator[Reading]:
    """Yield every reading of a run. A reading comes before those that follow from it.

    It holds one pass in memory, and the first pages of the passes to come. The order depends only
    on the plan and the stored answers, so a run that is rebuilt from storage gives the same evidence.
    """
    pending = deque(first_pages(plan))
    while pending:
        reading = read_pass(pending.popleft(), plan, read, use, parts)
        pending += reading.onward + reading.followers
        yield reading
