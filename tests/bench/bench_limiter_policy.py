"""Prints how the limiter does against a server with unknown windows.

The real script runs in a real Redis; only the clock is simulated, so half an hour takes seconds.
Requests take 100-400 ms, half of it on the way to the server. The server gives `reset` in whole seconds, and
counts in fixed windows of unknown phase or over the last minute. Others send at random times.

    python -m tests.bench.bench_limiter_policy [minutes] [seeds]
"""

import heapq
import json
import math
import random
import sys
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from redis import Redis

from tests.redis_process import redis_server
from workers.state.limiter import SEED_POLL_SECONDS, Limiter, Permit

LIMIT = 960
WINDOW_MS = 60_000
START_MS = 1_800_000_000_000


@dataclass(frozen=True)
class Answer:
    status: int
    limit: int
    remaining: int
    reset_seconds: int


@dataclass
class Server:
    """Counts ours and the others' requests, in fixed windows or over the last minute."""

    phase_ms: int
    sliding: bool
    admitted: deque[float] = field(default_factory=deque)

    def ask(self, now_ms: float) -> Answer:
        into = (now_ms - self.phase_ms) % WINDOW_MS
        since = now_ms - (WINDOW_MS if self.sliding else into)
        while self.admitted and self.admitted[0] <= since:
            self.admitted.popleft()
        taken = len(self.admitted)
        if taken < LIMIT:
            self.admitted.append(now_ms)
        ends = self.admitted[0] if self.sliding else now_ms - into
        reset = math.ceil((ends + WINDOW_MS - now_ms) / 1000)
        return Answer(200 if taken < LIMIT else 429, LIMIT, max(0, LIMIT - taken - 1), reset)


@dataclass
class Tally:
    """The time and status of each answer."""

    answers: list[tuple[float, int]] = field(default_factory=list)
    foreign: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One server, its other consumers and our reserve."""

    reserve: float = 0.1
    foreign: float = 0.0
    sliding: bool = False
    lanes: int = 8
    work: int = 10**9


class Simulation:
    """Lanes that always have work, and a foreign consumer, on one simulated clock."""

    def __init__(self, redis: Redis, case: Case, seed: int) -> None:
        redis.flushall()
        self.case, self.work = case, case.work
        self.random = random.Random(seed)
        self.now = float(START_MS)
        self.server = Server(self.random.randrange(WINDOW_MS), case.sliding)
        self.limiter = Limiter(redis, "bench", now_ms=lambda: int(self.now))
        self.tally = Tally()
        self.events: list[tuple[float, int, Iterator[float]]] = []
        processes = [self._lane() for _ in range(case.lanes)]
        if case.foreign:
            processes.append(self._others(case.foreign))
        for number, process in enumerate(processes):
            self.events.append((self.now + self.random.uniform(0, 50), number, process))
        heapq.heapify(self.events)

    def run(self, minutes: float) -> Tally:
        while self.events and self.events[0][0] < START_MS + minutes * 60_000:
            self.now, number, process = heapq.heappop(self.events)
            for delay in process:
                heapq.heappush(self.events, (self.now + max(0.0, delay), number, process))
                break
        return self.tally

    def _lane(self) -> Iterator[float]:
        while self.work > 0:
            self.work -= 1
            permit = yield from self._permit()
            latency = self.random.uniform(100, 400)
            yield latency / 2
            answer = self.server.ask(self.now)
            yield latency / 2
            self.limiter.observe(permit, answer)
            self.tally.answers.append((self.now - START_MS, answer.status))
            self.work += answer.status == 429

    def _permit(self) -> Generator[float, None, Permit]:
        while True:
            permit = self.limiter.reserve("b", reserve_share=self.case.reserve)
            if permit.wait_seconds:
                polling = not permit.granted and permit.reason == "seed"
                wait = min(permit.wait_seconds, SEED_POLL_SECONDS if polling else math.inf)
                yield wait * 1000 + self.random.uniform(0, 3)
            if permit.granted and (not permit.wait_seconds or self.limiter.confirm(permit)):
                return permit

    def _others(self, share: float) -> Iterator[float]:
        while True:
            yield self.random.expovariate(share * LIMIT / WINDOW_MS)
            self.tally.foreign.append((self.now - START_MS, self.server.ask(self.now).status))


def per_thousand(answers: list[tuple[float, int]]) -> float:
    return 1000 * sum(status == 429 for _, status in answers) / max(1, len(answers))


def steady(redis: Redis, case: Case, minutes: int, seeds: int) -> dict[str, float]:
    """Return the use of the limit after the first two minutes, and the refusals over the whole time."""
    tallies = [Simulation(redis, case, seed).run(minutes) for seed in range(seeds)]
    both = [answer for tally in tallies for answer in tally.answers + tally.foreign]
    late = sum(status == 200 for at, status in both if at > 2 * WINDOW_MS)
    return {
        **asdict(case),
        "use": late / (LIMIT * (minutes - 2) * seeds),
        "refused": per_thousand([answer for tally in tallies for answer in tally.answers]),
        "refused_others": per_thousand([answer for tally in tallies for answer in tally.foreign]),
    }


def burst(redis: Redis, case: Case) -> dict[str, float]:
    """Return the seconds that the work takes on an idle credential."""
    answers = Simulation(redis, case, 1).run(5).answers
    return {**asdict(case), "seconds": answers[-1][0] / 1000, "refused": per_thousand(answers)}


def main(minutes: int = 10, seeds: int = 2) -> None:
    """Print the table, and write it as JSON to build/bench."""
    cases = [
        Case(reserve, foreign, sliding)
        for sliding in (False, True)
        for reserve in (0.0, 0.1)
        for foreign in (0.0, 0.05, 0.3)
    ]
    with redis_server() as url, Redis.from_url(url) as redis:
        rows = [steady(redis, case, minutes, seeds) for case in cases]
        bursts = [burst(redis, Case(lanes=lanes, work=111)) for lanes in (4, 8, 16)]

    print("server   reserve  others  use (both)  429 per 1000: ours  theirs")
    for row in rows:
        print(
            f"{'sliding' if row['sliding'] else 'fixed':8} {row['reserve']:7.0%} {row['foreign']:7.0%}"
            f" {row['use']:11.2%} {row['refused']:19.2f} {row['refused_others']:7.2f}"
        )
    for row in bursts:
        print(
            f"111 requests, {row['lanes']:2} lanes: {row['seconds']:.1f} s, 429: {row['refused']:.0f}"
        )
    out = Path("build/bench/limiter_policy.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"steady": rows, "burst": bursts}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
