"""Whether a reading of a window is the whole window: pure functions of its stored answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any

from tasks.catalog import OFFSET_CAP, Paging, children_of, resource_of
from tasks.pages import (
    Answer,
    Page,
    Step,
    again,
    child_pages,
    decide,
    first_pages,
    served,
    too_slow,
)
from tasks.runs import Plan
from tasks.windows import period_in

Read = Callable[[Page], Answer | None]
"""Gives the stored answer of a page, or None where there is none."""


class State(StrEnum):
    """What a reading of a window came to."""

    PROVED = "proved"
    PARTIAL = "partial"  # read, but not provably all of it
    FAILED = "failed"  # nothing read
    UNAVAILABLE = "unavailable"  # PagerDuty says this key can't have it
    SUPERSEDED = "superseded"  # read again: by a further pass or in smaller windows


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    reason: str = ""  # plan | role | unproved | error
    words: str = ""  # PagerDuty's own, or ours with the numbers
    total: int | None = None
    unique: int | None = None


@dataclass(slots=True)
class Reading:
    """One pass of a window: its pages with their answers, what it came to, and what follows."""

    first: Page
    pages: list[tuple[Page, Answer | None]] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict(State.FAILED, "error"))
    followers: list[Page] = field(
        default_factory=list
    )  # first pages that replace or detail it
    onward: list[Page] = field(default_factory=list)  # the plan's next window


def read_pass(first: Page, plan: Plan, read: Read) -> Reading:
    """Return the reading that begins with *first*, as its stored answers tell it."""
    reading, queue = Reading(first), deque([first])
    while queue:
        page = queue.popleft()
        answer = read(page)
        reading.pages.append((page, answer))
        step = _step(page, answer, plan, read)
        reading.onward += step.onward
        if step.ended:
            _end(reading, step, plan)
            return reading
        queue += step.followers
    _settle(reading, plan)
    return reading


def _step(page: Page, answer: Answer | None, plan: Plan, read: Read) -> Step:
    """Decide; a window given up as too slow shows by its halves, for slowness isn't stored."""
    halves = too_slow(page, plan) if answer is None else None
    if halves and any(read(half) for half in halves.followers):
        return halves
    return decide(page, answer, plan)


def _end(reading: Reading, step: Step, plan: Plan) -> None:
    reading.followers += step.followers
    if step.followers:
        reading.verdict = Verdict(State.SUPERSEDED, words=step.ended)
    else:
        words = f"read {reading.first.pass_} times, different each time"
        reading.verdict = Verdict(State.PARTIAL, "unproved", words)
        _open_children(reading, plan)


def _settle(reading: Reading, plan: Plan) -> None:
    """Set the verdict of a pass whose pages are all closed, and add what follows from it."""
    reading.verdict = verdict = prove(reading)
    if verdict.state is State.PARTIAL and _worth_another(reading):
        reading.followers += again(reading.first).followers
    if reading.followers:
        reading.verdict = replace(verdict, state=State.SUPERSEDED, reason="")
    else:
        _open_children(reading, plan)


def _open_children(reading: Reading, plan: Plan) -> None:
    children = children_of(reading.first.segment, plan.resources)
    if children and not reading.first.window.startswith("of-"):
        reading.followers += child_pages(children, _unique(reading).values())


def _worth_another(reading: Reading) -> bool:
    total = reading.verdict.total or 0
    return reading.verdict.reason == "unproved" and total <= OFFSET_CAP


def _unique(reading: Reading) -> dict[str, Mapping[str, Any]]:
    """Return the records of a pass by id, each as it was served last."""
    return {
        _key(page, record): record
        for page, answer in reading.pages
        if answer
        for record in served(page, answer)
    }


def _key(page: Page, record: Mapping[str, Any]) -> str:
    """Return what tells records of one list apart: the id, else all its nested ids."""
    if "id" in record:
        return str(record["id"])
    nested = (v.get("id") for v in record.values() if isinstance(v, Mapping))
    return "\x00".join(str(each) for each in nested) or repr(sorted(record.items()))


def prove(reading: Reading) -> Verdict:
    """Return what the closed pages of a pass prove."""
    answers = [answer for _, answer in reading.pages]
    first, call = answers[0], reading.first.call
    if first is not None and not first.ok:
        return _refused(reading.first, first)
    if missing := answers.count(None):
        state = State.FAILED if missing == len(answers) else State.PARTIAL
        return Verdict(state, "error", f"{missing} of {len(answers)} pages could not be read")
    assert first
    if call.paging is Paging.SINGLE:
        return Verdict(State.PROVED, total=1, unique=1)
    if call.paging is Paging.CURSOR:
        return _prove_cursor(reading)
    return _prove_offsets(reading)


def _refused(page: Page, answer: Answer) -> Verdict:
    words = str(answer.envelope.get("words", ""))
    if answer.status == 402:
        return Verdict(State.UNAVAILABLE, "plan", words)
    if answer.status == 403:
        return Verdict(State.UNAVAILABLE, "role", words)
    if answer.status == 404 and page.window.startswith("of-"):
        return Verdict(State.PROVED, "gone", words, total=0, unique=0)
    if answer.status == 404 and resource_of(page.segment).missing_means_plan:
        return Verdict(State.UNAVAILABLE, "plan", words)
    return Verdict(State.FAILED, "error", words)


def _prove_offsets(reading: Reading) -> Verdict:
    pages = sorted(((p, a) for p, a in reading.pages if a), key=lambda pair: pair[0].number)
    unique = len(_unique(reading))
    first, last = pages[0][1].data, pages[-1][1].data
    if not first.get("more"):
        count = len(served(*pages[0]))
        return Verdict(State.PROVED, total=first.get("total") or count, unique=unique)
    totals = (first.get("total"), last.get("total"))
    chained = reading.first.call.paging is Paging.CHAIN or totals[0] is None
    words = ""
    if last.get("more"):
        words = "the list goes on past the last page that may be asked"
    elif (reading.first.feed.changing or chained) and not _overlapping(reading.first, pages):
        words = "the list moved while it was read"
    elif not chained and not totals[0] == totals[1] == unique:
        words = f"total was {totals[0]}, then {totals[1]}; {unique} different records were served"
    state = State.PARTIAL if words else State.PROVED
    return Verdict(state, "unproved" if words else "", words, totals[0] or unique, unique)


def _overlapping(first: Page, pages: list[tuple[Page, Answer]]) -> bool:
    """Whether each page's last record is the next one's first, in id and sort field."""

    def edge(record: Mapping[str, Any]) -> tuple[object, object]:
        return _key(first, record), record.get(first.feed.sort_field)

    lists = [served(page, answer) for page, answer in pages]
    return all(
        before and after and edge(before[-1]) == edge(after[0]) for before, after in pairwise(lists)
    )


def _prove_cursor(reading: Reading) -> Verdict:
    seen: set[str] = set()
    words = ""
    last = reading.pages[-1][0]
    for page, answer in reading.pages:
        keys = {_key(page, record) for record in served(page, answer)} if answer else set()
        if not keys - seen and (keys or page is not last):
            words = f"page {page.number} brought nothing new"
        seen |= keys
    period = period_in(reading.first.window)
    date = reading.pages[0][1].date if reading.pages[0][1] else None
    if period and date and date < period.until:
        words = f"read at {date:%FT%TZ}, before its end"
    state = State.PARTIAL if words else State.PROVED
    return Verdict(state, "unproved" if words else "", words, len(seen), len(seen))


def walk(plan: Plan, read: Read) -> Iterator[Reading]:
    """Yield every reading of a run, each before those that follow from it.

    Holds one pass at a time, plus the first pages still to be read. The order depends on plan
    and stored answers alone, so a run rebuilt from storage gives the same evidence.
    """
    pending = deque(first_pages(plan))
    while pending:
        reading = read_pass(pending.popleft(), plan, read)
        pending += reading.onward + reading.followers
        yield reading
