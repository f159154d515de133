"""Eight processes hammer one budget. The log of the granted requests is compared with the law."""

import math
import random
import time
from multiprocessing import get_context
from typing import NamedTuple

from redis import Redis

from workers.state.limiter import Limiter

LIMIT = 640
WINDOW_SECONDS = 4.0  # a minute that passes fifteen times as fast
REQUESTS = 2000
PROCESSES = 8
CEILING = math.floor(LIMIT * 0.98)

# A server that counts in fixed windows, by the clock of the Redis in which this script runs.
SERVER = """
local time, window, phase = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2])
local now = time[1] * 1000 + math.floor(time[2] / 1000) + phase
local used = redis.call('INCR', KEYS[1] .. math.floor(now / window))
return { used, math.ceil((window - now % window) / 1000) }
"""


class Answer(NamedTuple):
    """The limit headers of the server."""

    status: int
    limit: int
    remaining: int
    reset_seconds: int


def hammer(url: str, phase_ms: int) -> None:
    """Send requests until all processes together have sent enough. Log slots and statuses."""
    redis = Redis.from_url(url)
    limiter = Limiter(redis, "p", limit=LIMIT, window_seconds=WINDOW_SECONDS)
    server = redis.register_script(SERVER)
    while redis.incr("sent") <= REQUESTS:
        while not (permit := limiter.acquire("b", reserve_share=0)).granted:
            time.sleep(permit.retry_after_seconds)
        time.sleep(random.uniform(0.003, 0.013))
        used, reset = server(keys=["window:"], args=[round(WINDOW_SECONDS * 1000), phase_ms])
        time.sleep(random.uniform(0.003, 0.013))
        answer = Answer(200 if used <= LIMIT else 429, LIMIT, max(0, LIMIT - used), reset)
        limiter.observe(permit, answer)
        redis.rpush("log", f"{permit.slot_ms} {answer.status}")
    redis.close()


def test_eight_processes_use_up_one_budget_and_never_exceed_it(
    redis: Redis, redis_url: str
) -> None:
    context = get_context("spawn")
    phase_ms = random.randrange(round(WINDOW_SECONDS * 1000))
    processes = [
        context.Process(target=hammer, args=(redis_url, phase_ms), daemon=True)
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0

    log = [line.split() for line in redis.lrange("log", 0, -1)]
    assert [status for _, status in log] == [b"200"] * REQUESTS

    slots = sorted(int(slot) for slot, _ in log)
    window_ms = WINDOW_SECONDS * 1000
    spans = [b - a for a, b in zip(slots, slots[CEILING:], strict=False)]
    assert min(spans) >= window_ms, "more than the ceiling within one window"

    busy = slots[len(slots) // 10 : -len(slots) // 10]
    use = (len(busy) - 1) / ((busy[-1] - busy[0]) / window_ms) / CEILING
    assert use > 0.8, "a budget that nobody else uses is used whole"
