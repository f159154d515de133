"""A small model of the ledger: one Python object per run, without scripts and Redis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from workers.state.ledger import Effect, Offer, Opening

OFFER_LIFE, PROBE_FIRST, PROBE_MOST = 30_000, 60_000, 900_000
GIVE_UP, SEAL_LEASE, PAGE_LEASE = 86_400_000, 60_000, 40_000
WAIT_MOST, AWAY = 120_000, 600_000
CROWD = 100
CHECK_AGAIN, REPEAT, SEAL_GRACE, CLOCK_SLACK = 10_000, 30_000, 5_000, 2_000

STALE = Effect("stale")


@dataclass
class Page:
    """An open page. Depending on `state`, `at` is the earliest time, the time of the offer, or the end of the lease."""

    group: str
    sequence: int
    state: str = "ready"  # held | ready | later | offered | claimed
    at: int = 0
    number: int = 0
    offers: int = 0
    token: str = ""
    attempts: int = 0
    failed_at: int | None = None
    requests: int = 0
    claimed_at: int = 0

    def wait(self, now: int, until: int = 0) -> None:
        self.state, self.at = ("later", until) if until > now else ("ready", 0)


@dataclass
class Run:
    """An open run of a source."""

    id: str
    queue: str
    region: str
    lanes: int
    lanes_max: int
    success_at: int
    seal_at: int
    hold: str = ""
    verdict: str = ""
    reopened: bool = False
    pages: dict[str, Page] = field(default_factory=dict)
    sequence: int = 0
    closed: int = 0
    wait_until: int = 0
    probe_at: int = 0
    probe_wait: int = 0
    seal_token: str = ""
    seal_lease: int = 0
    why: str = ""
    why_at: int = 0
    requests: Counter[str] = field(default_factory=Counter)

    def of(self, *states: str) -> list[tuple[str, Page]]:
        """Return the pages in any of *states*, in the order they were opened."""
        found = [(name, page) for name, page in self.pages.items() if page.state in states]
        return sorted(found, key=lambda pair: pair[1].sequence)

    @property
    def free(self) -> int:
        return self.lanes - len(self.of("offered", "claimed"))

    def members(self, group: str) -> list[Page]:
        return [page for page in self.pages.values() if page.group == group]

    def add(self, opening: Opening, now: int) -> None:
        if opening.id in self.pages:
            return
        self.sequence += 1
        page = self.pages[opening.id] = Page(opening.group, self.sequence)
        if opening.held:
            page.state = "held"
        else:
            page.wait(now, now + round(opening.delay_seconds * 1000))

    def blame(self, why: str, now: int) -> None:
        if self.why != why:
            self.why, self.why_at = why, now

    def conclude(self, verdict: str, now: int) -> None:
        self.pages, self.hold = {}, ""
        self.verdict, self.seal_at = verdict, now


class Model:
    """Every operation of the ledger, on plain objects. `now` is set by the test."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.runs: dict[str, Run] = {}
        self.due: dict[str, int] = {}
        self.schedules: dict[str, int] = {}
        self.offered: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.length: Counter[str] = Counter()  # of the Celery lists; the test updates it
        self.clocks: dict[str, int] = {}
        self.last: dict[str, str] = defaultdict(str)
        self.tick_at = self.woke_at = 0

    # The end of every step

    def look(self, source: str) -> None:
        """Set the time of the next look at *source*."""
        run, times = self.runs.get(source), list[int]()
        if run is None:
            times += [self.schedules[source]] if source in self.schedules else []
        elif not run.pages:
            times.append(run.seal_at)
        else:
            times += [self.give_up_at(run), *(page.at for _, page in run.of("claimed"))]
            if run.hold == "key":
                times.append(run.probe_at)
            elif not run.hold:
                times += [page.at + OFFER_LIFE for _, page in run.of("offered")]
                times += [max(page.at, run.wait_until) for _, page in run.of("later")]
                if run.free > 0 and run.of("ready"):
                    times.append(max(self.now, run.wait_until))
        if times:
            self.due[source] = min(times)
        else:
            self.due.pop(source, None)

    def give_up_at(self, run: Run) -> int:
        if run.hold not in ("", "key"):
            return self.now + GIVE_UP
        return max(run.success_at, self.woke_at) + GIVE_UP

    def fill(self, run: Run) -> tuple[Offer, ...]:
        """Offer waiting pages, oldest first, while lanes are free."""
        if run.hold or run.verdict or run.wait_until > self.now:
            return ()
        for _, page in run.of("later"):
            if page.at <= self.now:
                page.wait(self.now)
        offers = []
        for name, page in run.of("ready")[: max(0, run.free)]:
            self.offered[run.queue] += 1
            page.state, page.at, page.number = "offered", self.now, self.offered[run.queue]
            page.offers += 1
            offers.append(Offer(name, page.number))
        return tuple(offers)

    def reply(self, source: str, status: str, offers: tuple[Offer, ...] = ()) -> Effect:
        run = self.runs.get(source)
        sealable = run is not None and not run.pages
        if run and sealable and run.seal_at <= self.now:
            run.seal_at = self.now + SEAL_GRACE
        self.look(source)
        return Effect(
            status, offers, run.queue if run else "", sealable and not self.crowded("seal")
        )

    def crowded(self, queue: str) -> bool:
        return self.length[queue] >= CROWD

    def in_hands(self, source: str, run_id: str, name: str, token: str) -> tuple[Run, Page] | None:
        run = self.runs.get(source)
        page = run.pages.get(name) if run and run.id == run_id else None
        return (run, page) if run and page and page.token == token else None

    # The operations

    def open(
        self,
        source: str,
        run_id: str,
        pages: Iterable[Opening],
        *,
        queue: str,
        lanes: tuple[int, int],
        reopened: bool,
        hold: str,
    ) -> Effect:
        if run := self.runs.get(source):
            run.reopened = run.reopened or (reopened and run.id == run_id)
            self.look(source)
            return Effect("joined", run=run.id)
        run = Run(run_id, queue, "us", *lanes, self.now, self.now, hold, reopened=reopened)
        self.runs[source] = run
        for page in pages:
            run.add(page, self.now)
        return self.reply(source, "opened", self.fill(run))

    def claim(
        self, source: str, run_id: str, name: str, number: int, queue: str, token: str
    ) -> tuple[int, int, bool] | None:
        """Return attempts, requests sent before, and whether an answer may be stored."""
        self.seen[queue] = max(self.seen[queue], number)
        run = self.runs.get(source)
        if run is None or run.id != run_id or name not in dict(run.of("offered")):
            return None
        page = run.pages[name]
        if run.hold:
            page.offers -= 1
            page.wait(self.now)
            self.reply(source, "dropped")
            return None
        page.state, page.at, page.token = "claimed", self.now + PAGE_LEASE, token
        page.claimed_at = self.now
        self.look(source)
        return page.attempts, page.requests, page.offers > 1 or run.reopened

    def renew(self, source: str, run_id: str, name: str, token: str) -> bool:
        held = self.in_hands(source, run_id, name, token)
        if held:
            held[1].at = self.now + PAGE_LEASE
            self.reply(source, "renewed")
        return held is not None

    def answered(self, run: Run, page: Page) -> bool:
        """Say whether the source answered since *page* last failed or was claimed."""
        since = page.claimed_at if page.failed_at is None else page.failed_at
        return run.success_at > since

    def fail(self, run: Run, page: Page) -> None:
        """Count an attempt if the source answered since the last one."""
        page.attempts += self.answered(run, page)
        page.failed_at = self.now

    def give_back(
        self,
        source: str,
        run_id: str,
        name: str,
        token: str,
        *,
        why: str,
        delay: int,
        sent: int,
        failed: bool,
        slow: bool,
        most: int,
        probed: bool,
        alone: bool,
    ) -> Effect:
        held = self.in_hands(source, run_id, name, token)
        if held is None:
            return STALE
        run, page = held
        judged = page.failed_at is not None or slow
        if failed and judged and not probed and not self.answered(run, page):
            page.at = self.now + PAGE_LEASE
            return self.reply(source, "lonely")
        delay = min(delay, WAIT_MOST)
        run.requests["x"] += sent
        page.requests += sent
        if failed:
            run.lanes = 1
            self.fail(run, page)
            if page.attempts >= most:
                return self.reply(source, "exhausted")
        if failed or alone:
            page.wait(self.now, self.now + delay)
        else:
            run.wait_until = max(run.wait_until, self.now + delay)
            page.wait(self.now)
        page.offers -= why != "error"
        run.blame(why, page.claimed_at)
        page.token = ""
        return self.reply(source, "back", self.fill(run))

    def close(
        self,
        source: str,
        run_id: str,
        name: str,
        token: str,
        followers: list[Opening],
        *,
        sent: int,
        settle: bool,
        supersede: bool,
        failed: bool,
        date: int | None,
    ) -> Effect:
        held = self.in_hands(source, run_id, name, token)
        if held is None:
            return STALE
        run, page = held
        alone = run.members(page.group) == [page]
        goes_on = any(follower.group == page.group for follower in followers)
        if alone and not goes_on and not settle and not supersede:
            return Effect("last")
        del run.pages[name]
        if supersede:
            run.pages = {n: p for n, p in run.pages.items() if p.group != page.group}
        for follower in followers:
            run.add(follower, self.now)
        match run.members(page.group):
            case [Page(state="held") as last]:
                last.wait(self.now)
        run.closed += 1
        run.requests["x"] += sent
        if sent and not failed:
            run.success_at, run.lanes = self.now, min(run.lanes + 1, run.lanes_max)
            waiting = run.why == "budget" and run.wait_until > self.now
            run.why, run.why_at = ("budget", self.now) if waiting else ("", 0)
            if date is not None:
                ahead, known = date - self.now, self.clocks.get(source)
                if known is None or ahead > known or known - ahead > CLOCK_SLACK:
                    self.clocks[source] = ahead
        return self.reply(source, "closed", self.fill(run))

    def refuse(self, source: str, run_id: str, name: str, token: str) -> Effect:
        held = self.in_hands(source, run_id, name, token)
        if held is None:
            return STALE
        run, page = held
        run.requests["x"] += 1
        page.token = ""
        page.attempts += 1
        page.offers -= 1
        page.wait(self.now)
        run.blame("key", self.now)
        if run.closed == 0 and not run.reopened:
            run.conclude("refused", self.now)
        elif not run.hold:
            run.hold, run.probe_wait = "key", PROBE_FIRST
            run.probe_at = self.now + PROBE_FIRST
        return self.reply(source, "refused")

    def probed(self, source: str, run_id: str, *, ok: bool) -> Effect:
        run = self.runs.get(source)
        if run is None or run.id != run_id:
            return STALE
        run.requests["x"] += 1
        if ok:
            run.success_at = self.now
            run.hold = "" if run.hold == "key" else run.hold
        elif run.hold == "key":
            run.probe_wait = min(run.probe_wait * 2, PROBE_MOST)
            run.probe_at = self.now + run.probe_wait
        return self.reply(source, "probed", self.fill(run))

    def hold(self, source: str, why: str) -> Effect:
        if not (run := self.runs.get(source)):
            return self.reply(source, "idle")
        run.hold = why
        return self.reply(source, "held")

    def resume(self, source: str) -> Effect:
        if not (run := self.runs.get(source)):
            return self.reply(source, "idle")
        run.hold, run.success_at, run.why, run.why_at = "", self.now, "", 0
        return self.reply(source, "resumed", self.fill(run))

    def cancel(self, source: str, run_id: str) -> Effect:
        run = self.runs.get(source)
        if run is None or run.id != run_id:
            return STALE
        if not run.verdict:
            run.conclude("cancelled", self.now)
        return self.reply(source, "cancelled")

    def schedule(self, source: str, at: int | None) -> Effect:
        self.schedules.pop(source, None)
        if at is not None:
            self.schedules[source] = at
        return self.reply(source, "scheduled")

    def take(self, most: int) -> list[str]:
        if most == 0 or self.now - self.tick_at > AWAY:
            self.woke_at = self.now
        self.tick_at = self.now
        due = sorted((at, source) for source, at in self.due.items() if at <= self.now)
        for _, source in due[:most]:
            self.due[source] = self.now + CHECK_AGAIN
        return [source for _, source in due[:most]]

    def tend(self, source: str) -> Effect:
        run = self.runs.get(source)
        if run is None:
            if self.schedules.get(source, self.now + 1) > self.now:
                return self.reply(source, "idle")
            if self.crowded("plan"):
                self.due[source] = self.now + CHECK_AGAIN
                return Effect("due")
            self.due[source] = self.now + REPEAT
            return Effect("due", task="plan")
        if run.pages and self.give_up_at(run) <= self.now:
            run.conclude("silent", self.now)
        for _, page in run.of("claimed"):
            if page.at <= self.now:
                self.fail(run, page)
                page.token = ""
                page.wait(self.now)
        for _, page in run.of("offered"):
            if page.at <= self.now - OFFER_LIFE:
                if self.seen[run.queue] > page.number or not self.length[run.queue]:
                    page.offers -= 1
                    page.wait(self.now)
                else:
                    page.at = self.now - OFFER_LIFE + CHECK_AGAIN
        task: Any = None
        if not run.pages and run.seal_at <= self.now:
            task = None if self.crowded("seal") else "seal"
            run.seal_at = self.now + (REPEAT if task else CHECK_AGAIN)
        elif run.hold == "key" and run.probe_at <= self.now:
            task = None if self.crowded("plan") else "probe"
            run.probe_at = self.now + (REPEAT if task else CHECK_AGAIN)
        outcome = self.reply(source, "open", self.fill(run))
        return Effect(outcome.status, outcome.offers, outcome.queue, False, task, run.id)

    def seal(self, source: str, run_id: str, token: str) -> bool:
        run = self.runs.get(source)
        if run is None or run.id != run_id or run.pages:
            return False
        if run.seal_token != token and run.seal_lease > self.now:
            return False
        run.seal_token = token
        run.seal_lease = run.seal_at = self.now + SEAL_LEASE
        self.reply(source, "sealing")
        return True

    def finish(self, source: str, run_id: str, at: int | None, summary: str) -> Effect:
        if source in self.runs and self.runs[source].id == run_id:
            del self.runs[source]
        self.last[source] = summary
        self.schedules.pop(source, None)
        if at is not None:
            self.schedules[source] = at
        return self.reply(source, "finished")
