"""Print what the limiter's law makes of a server that counts in fixed windows of unknown phase.

The real script runs in a real Redis; only the clock is simulated, so half an hour takes seconds.
Requests take 100-400 ms, half of it on the way there; the server says `reset` in whole seconds.
"""

import heapq
import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from tests.redis_process import redis_server
from workers.limiter import Limiter, Permit

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
    """Counts in fixed windows, ours and the others' together."""

    phase_ms: int
    taken: dict[int, int] = field(default_factory=dict)

    def ask(self, now_ms: float) -> Answer:
        window, into = divmod(now_ms - self.phase_ms, WINDOW_MS)
        reset = math.ceil((WINDOW_MS - into) / 1000)
        taken = self.taken.get(int(window), 0)
        if taken >= LIMIT:
            return Answer(429, LIMIT, 0, reset)
        self.taken[int(window)] = taken + 1
        return Answer(200, LIMIT, LIMIT - taken - 1, reset)


@dataclass
class Tally:
    answers: list[tuple[float, int]] = field(default_factory=list)
    foreign: list[tuple[float, int]] = field(default_factory=list)


class Simulation:
    """Lanes that always have work, and a foreign consumer, on one simulated clock."""

    def __init__(
        self, redis: Redis, *, seed: int, reserve: float, lanes: int, foreign_share: float, work: int
    ) -> None:
        self.random = random.Random(seed)
        self.now = float(START_MS)
        self.server = Server(self.random.randrange(WINDOW_MS))
        self.limiter = Limiter(redis, "bench", now_ms=lambda: int(self.now))
        self.reserve, self.work = reserve, work
        self.tally = Tally()
        self.events: list[tuple[float, int, Iterator[float]]] = []
        for _ in range(lanes):
            self._start(self._lane(), self.random.uniform(0, 50))
        if foreign_share:
            self._start(self._others(foreign_share), 0)

    def run(self, minutes: float) -> Tally:
        while self.events and self.events[0][0] < START_MS + minutes * 60_000:
            self.now, number, process = heapq.heappop(self.events)
            for delay in process:
                heapq.heappush(self.events, (self.now + max(0.0, delay), number, process))
                break
        return self.tally

    def _start(self, process: Iterator[float], delay: float) -> None:
        heapq.heappush(self.events, (self.now + delay, len(self.events), process))

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

    def _permit(self) -> Iterator[float]:
        while True:
            permit = self.limiter.reserve("b", reserve_share=self.reserve)
            if permit.wait_seconds:
                yield permit.wait_seconds * 1000 + self.random.uniform(0, 3)
            if permit.granted and (not permit.wait_seconds or self.limiter.confirm(permit)):
                return permit

    def _others(self, share: float) -> Iterator[float]:
        while True:
            yield self.random.expovariate(share * LIMIT / WINDOW_MS)
            self.tally.foreign.append((self.now - START_MS, self.server.ask(self.now).status))


def per_thousand(answers: list[tuple[float, int]]) -> float:
    return 1000 * sum(status == 429 for _, status in answers) / max(1, len(answers))


def steady(redis: Redis, reserve: float, foreign: float, minutes: int, seeds: int) -> dict[str, float]:
    """Return use of the limit after the first two minutes, and refusals over all of it."""
    used, refused, refused_others = 0.0, [], []
    for seed in range(seeds):
        redis.flushall()
        simulation = Simulation(
            redis, seed=seed, reserve=reserve, lanes=8, foreign_share=foreign, work=10**9
        )
        tally = simulation.run(minutes)
        late = [status for at, status in tally.answers + tally.foreign if at > 120_000]
        used += late.count(200) / (LIMIT * (minutes - 2)) / seeds
        refused += tally.answers
        refused_others += tally.foreign
    return {
        "reserve": reserve,
        "foreign": foreign,
        "use": used,
        "refused": per_thousand(refused),
        "refused_others": per_thousand(refused_others),
    }


def burst(redis: Redis, lanes: int) -> dict[str, float]:
    """Return the seconds 111 requests take on an idle credential."""
    redis.flushall()
    simulation = Simulation(redis, seed=1, reserve=0.1, lanes=lanes, foreign_share=0, work=111)
    tally = simulation.run(5)
    return {"lanes": lanes, "seconds": tally.answers[-1][0] / 1000, "refused": per_thousand(tally.answers)}


def main(minutes: int = 30, seeds: int = 3) -> None:
    with redis_server() as url, Redis.from_url(url) as redis:
        rows = [
            steady(redis, reserve, foreign, minutes, seeds)
            for reserve in (0.0, 0.1)
            for foreign in (0.0, 0.05, 0.3)
        ]
        bursts = [burst(redis, lanes) for lanes in (4, 8, 16)]
    print(f"{'reserve':>8} {'foreign':>8} {'use (both)':>11} {'429/1000 ours':>14} {'theirs':>8}")
    for row in rows:
        print(
            f"{row['reserve']:8.0%} {row['foreign']:8.0%} {row['use']:11.2%}"
            f" {row['refused']:14.2f} {row['refused_others']:8.2f}"
        )
    for row in bursts:
        print(f"111 requests, {row['lanes']} lanes: {row['seconds']:.1f} s, {row['refused']:.0f} refused")
    Path("limiter_policy.json").write_text(json.dumps({"steady": rows, "burst": bursts}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
