"""The limiter's script does the same as a small model of its law, in any order of events."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from workers.state.limiter import Limiter, Permit

START_MS = 1_800_000_000_000
WINDOW = 60_000
HOUR = 3_600_000


def stored(value: float) -> float:
    """Return *value* as the script keeps it."""
    return float(f"{value:.3f}")


@dataclass
class Model:
    """The law at the head of limiter.lua, with the admitted slots kept one by one."""

    limit: int
    groups: list[list[int]] = field(default_factory=list)  # slots of one 1/240 window each
    given: int = 0
    tat: float = 0
    pause: float = 0
    news: float = 0
    seed: float = 0
    strikes: int = 0
    struck: int = 0
    turn: float = 0
    seen: int = 0
    base: tuple[float, int, int] = (0, 0, 0)  # when, used, ticket
    so_far: float = 0
    rate: float = 0
    before: float = 0
    waits: int = 0
    longest: float = 0

    def cut(self, now: int) -> None:
        self.pause = min(self.pause, now + 120_000)
        self.seed = min(self.seed, now + 13_000)
        self.turn = min(self.turn, now + WINDOW)
        self.news = min(self.news, now)

    def foreign(self, now: int) -> float:
        if now < self.turn:
            return max(self.so_far, self.before)
        return self.expected(now, self.limit)

    def expected(self, now: int, limit: int) -> float:
        return min(self.rate, limit * 7 / 8) if now < self.turn + WINDOW else 0

    def ceiling(self, now: int, share: float) -> int:
        others = self.foreign(now)
        left = min(self.limit * (1 - share), self.limit * 0.98 - others - math.sqrt(others))
        return max(1, math.floor(left + 0.001))

    def reserve(self, now: int, share: float, patience: int) -> tuple[bool, int, str]:
        self.cut(now)
        unseeded = now - self.news >= WINDOW or (now >= self.turn and self.so_far > 0)
        if unseeded and self.seed > now:
            return False, math.ceil(self.seed - now), "seed"
        if self.groups and self.groups[-1][-1] > now + 10_000:
            ahead = self.groups[-1][-1] - now
            self.groups = [[slot - ahead for slot in group] for group in self.groups]
        most = self.ceiling(now, share)
        interval, burst = WINDOW / most, max(1, min(most, self.limit // 8))
        newest = self.groups[-1][-1] if self.groups else None
        tat = min(self.tat, newest + burst * interval) if newest else 0
        laws: list[tuple[float, str]] = [(self.pause, "pause")]
        if newest:
            laws.append((max(newest, tat - (burst - 1) * interval), "paced"))
        slot, reason = now, ""
        for moment, law in laws:
            if math.floor(moment) > slot:
                slot, reason = math.floor(moment), law
        groups = deepcopy(self.groups)
        while groups and (groups[0][-1] + WINDOW <= slot or sum(map(len, groups)) >= most):
            if groups[0][-1] + WINDOW > slot:
                slot, reason = groups[0][-1] + WINDOW, "window"
            groups.pop(0)

        wait = slot - now
        if wait > patience:
            if self.foreign(now) > 0:
                ends = self.turn if now < self.turn else self.turn + WINDOW
                wait = math.ceil(min(wait, max(ends, self.pause) - now))
            self.longest = max(self.longest, wait)
            return False, wait, reason
        if groups and groups[-1][-1] // (WINDOW // 240) == slot // (WINDOW // 240):
            groups[-1].append(slot)
        else:
            groups.append([slot])
        self.groups, self.given = groups, self.given + 1
        self.tat = stored(max(tat, slot) + interval)
        self.seed = slot + 3000 if unseeded else 0
        self.waits, self.longest = self.waits + (wait > 0), max(self.longest, wait)
        return True, wait, "seed" if unseeded else reason

    def confirm(self, now: int, slot: int) -> bool:
        self.cut(now)
        return self.pause <= now and abs(now - slot) <= 2000

    def observe(
        self, now: int, ticket: int, status: int, headers: tuple[int, int, int] | None, jitter: int
    ) -> None:
        self.cut(now)
        if ticket <= self.given:
            self.seed = 0
            self.news = now if status else self.news
        if status == 429:
            if ticket > self.struck:
                self.strikes, self.struck = self.strikes + 1, self.given
            reset = headers[2] if headers else 0
            self.extend(now, now + (reset or min(60_000, 1000 * 2 ** (self.strikes - 1))) + jitter)
            self.longest = max(self.longest, math.ceil(self.pause - now))
        elif 200 <= status < 300 and self.struck < ticket <= self.given:
            self.strikes = 0
        if headers and self.seen < ticket <= self.given:
            self.learn(now, ticket, *headers, jitter)
        elif status and now >= self.turn:
            self.so_far = 0

    def learn(
        self, now: int, ticket: int, limit: int, remaining: int, reset: int, jitter: int
    ) -> None:
        used, turn = limit - remaining, now + min(reset, WINDOW)
        if now >= self.turn or turn > self.turn + 2000 or limit != self.limit:
            self.before = self.expected(now, limit)
            self.turn, self.base = turn, (now, used, ticket)
        elif turn < self.turn - 2000:
            return
        self.seen, self.limit = ticket, limit
        since, base_used, base_ticket = self.base
        so_far = max(0, used - base_used - (ticket - base_ticket))
        self.so_far = max(so_far, used - sum(map(len, self.groups)))
        rate = min(so_far * WINDOW / max(now - since, WINDOW / 4), so_far + remaining)
        if now - since > WINDOW / 4:
            self.before = stored(min(self.before, rate))
        theirs = max(self.before, rate) * (turn - now) / WINDOW
        self.rate = stored(rate)
        if remaining - (self.given - ticket) <= theirs + 2 * math.sqrt(theirs):
            self.extend(now, turn + jitter)

    def extend(self, now: int, until: float) -> None:
        self.pause = max(self.pause, min(until, now + 120_000))


@dataclass(frozen=True)
class Reserve:
    share: float
    patience: int


@dataclass(frozen=True)
class Confirm:
    which: int


@dataclass(frozen=True)
class Observe:
    which: int
    status: int
    headers: tuple[int, int, int] | None
    jitter: int


@dataclass(frozen=True)
class Pass:
    """Time passes. It goes backwards if the clock is set back."""

    ms: int


Step = Reserve | Confirm | Observe | Pass
REPEATED_RESERVES = st.builds(
    lambda step, times: [step] * times,
    st.builds(Reserve, st.sampled_from([0, 0.1, 0.5, 0.9]), st.sampled_from([0, 2000, 2000, 9000])),
    st.integers(1, 30),
)


def single(strategy: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return strategy.map(lambda step: [step])


def headers(limits: Sequence[int]) -> st.SearchStrategy[tuple[int, int, int] | None]:
    evaluated = st.sampled_from(limits).flatmap(
        lambda limit: st.tuples(
            st.just(limit),
            st.integers(0, limit),
            st.sampled_from([0, 1000, 2000, 14_000, 59_000, 60_000, 90_000, 10**9]),
        )
    )
    return st.none() | evaluated


def schedules(limits: Sequence[int], *, clock_steps: bool) -> st.SearchStrategy[list[Step]]:
    """Return lists of the four things that happen to a budget, in any order."""
    which = st.integers(0, 8)
    passes = [st.integers(0, 400), st.integers(0, 5000), st.integers(50_000, 130_000)]
    if clock_steps:
        passes.append(st.sampled_from([-1000, -9000, -30_000, -HOUR, -400 * 24 * HOUR, 24 * HOUR]))
    statuses = st.sampled_from([200, 200, 200, 429, 429, 500, 404, 0])
    parts = st.one_of(
        REPEATED_RESERVES,
        single(st.builds(Confirm, which)),
        single(st.builds(Observe, which, statuses, headers(limits), st.integers(0, 999))),
        single(st.builds(Pass, st.one_of(passes))),
    )
    return st.lists(parts, min_size=4, max_size=25).map(lambda parts: list(chain(*parts)))


class Both:
    """Runs the steps on the script and on the model, and compares every reply."""

    def __init__(self, redis: Redis, limit: int) -> None:
        redis.flushall()
        self.now = START_MS
        self.limiter = Limiter(redis, "p", limit=limit, now_ms=lambda: self.now)
        self.model = Model(limit)
        self.permits: list[Permit] = []
        self.admitted: list[int] = []

    def run(self, steps: list[Step]) -> None:
        for step in steps:
            self.one(step)
            self.compare()

    def one(self, step: Step) -> None:
        match step:
            case Pass(ms):
                self.now += ms
            case Reserve(share, patience):
                permit = self.limiter.reserve(
                    "b", reserve_share=share, patience_seconds=patience / 1000
                )
                expected = self.model.reserve(self.now, share, patience)
                assert (permit.granted, permit.wait_seconds, permit.reason) == (
                    expected[0],
                    expected[1] / 1000,
                    expected[2],
                )
                if permit.granted:
                    assert permit.ticket == self.model.given
                    self.permits.append(permit)
                    self.admitted.append(permit.slot_ms)
            case Confirm(which) if self.permits:
                permit = self.permits[-1 - which % len(self.permits)]
                assert self.limiter.confirm(permit) == self.model.confirm(self.now, permit.slot_ms)
            case Observe(which, status, said, jitter) if self.permits:
                ticket = self.permits[-1 - which % len(self.permits)].ticket
                arguments = (ticket, status, *(said or (-1, -1, -1)), jitter)
                self.limiter._run("observe", "b", *arguments)
                self.model.observe(self.now, ticket, status, said, jitter)

    def compare(self) -> None:
        state = self.limiter.state("b", reserve_share=0.1)
        model = self.model
        model.cut(self.now)
        groups = model.groups
        while groups and groups[0][-1] + WINDOW <= self.now:
            groups = groups[1:]
        assert (state.limit, state.ceiling) == (model.limit, model.ceiling(self.now, 0.1))
        assert state.used == sum(map(len, groups))
        assert state.paused_seconds == max(0, math.ceil(model.pause - self.now)) / 1000
        assert (state.waits, state.longest_wait_seconds) == (model.waits, model.longest / 1000)
        assert state.paused_seconds <= 120


many = settings(
    max_examples=700,
    deadline=None,
    # Each example empties Redis itself, and a round trip to it takes a while.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@many
@given(schedules([16, 40, 960], clock_steps=True), st.sampled_from([16, 960]))
def test_script_and_model_agree_on_any_schedule_and_clock(
    redis: Redis, steps: list[Step], limit: int
) -> None:
    Both(redis, limit).run(steps)


@many
@given(schedules([40], clock_steps=False))
def test_no_span_of_a_window_holds_more_than_the_ceiling(redis: Redis, steps: list[Step]) -> None:
    both = Both(redis, 40)
    both.run(steps)
    slots = both.admitted
    assert slots == sorted(slots)
    most = math.floor(40 * 0.98)
    assert all(b - a >= WINDOW for a, b in zip(slots, slots[most:], strict=False))


@many
@given(schedules([16, 40], clock_steps=True))
def test_nothing_that_ever_happened_blocks_for_longer_than_three_minutes(
    redis: Redis, steps: list[Step]
) -> None:
    both = Both(redis, 16)
    both.run(steps)
    waited = 0
    while not (permit := both.limiter.reserve("b", reserve_share=0.9)).granted:
        wait = math.ceil(permit.wait_seconds * 1000)
        assert wait > 0, "asking at once would be polling"
        waited += wait
        both.now += wait
    assert waited <= 180_000


@pytest.mark.parametrize("limit", [16, 960, 20_000])
def test_a_budget_in_full_use_takes_less_than_four_kilobytes(redis: Redis, limit: int) -> None:
    now = START_MS
    limiter = Limiter(redis, "p", limit=limit, now_ms=lambda: now)
    for _ in range(3000):
        limiter.reserve("b", reserve_share=0)
        now += 25
        limiter._run(
            "observe", "b", limiter.reserve("b", reserve_share=0).ticket, 500, -1, -1, -1, 0
        )
    assert sum(redis.memory_usage(key) or 0 for key in redis.scan_iter()) < 4096
