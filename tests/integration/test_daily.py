"""The daily looks of many sources, in a real Redis."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from workers.state.daily import DAY_MS, Daily

SOURCES = [f"tenant-{number}/main" for number in range(200)]


@pytest.fixture
def daily(redis: Redis, prefix: str) -> Daily:
    return Daily(redis, prefix)


def times(redis: Redis, prefix: str) -> dict[str, float]:
    found = redis.zrange(f"{prefix}:daily", 0, -1, withscores=True)
    return {source.decode(): at for source, at in found}


def test_many_looks_spread_over_the_day_and_stay_where_they_are(
    redis: Redis, prefix: str, daily: Daily
) -> None:
    for source in SOURCES:
        daily.begin(source)
    first = times(redis, prefix)
    now = float(redis.time()[0]) * 1000
    assert all(now < at <= now + DAY_MS + 1000 for at in first.values())
    hours = Counter(int(at / 3_600_000) for at in first.values())
    assert max(hours.values()) < len(SOURCES) / 8
    for source in SOURCES:
        daily.begin(source)
    assert times(redis, prefix) == first
    assert daily.take(100) == []


def test_only_one_of_many_callers_gets_a_source_each_day(
    redis: Redis, prefix: str, daily: Daily
) -> None:
    for source in SOURCES:
        daily.within(source, -3 * 86_400)  # long overdue
    with ThreadPoolExecutor(8) as callers:
        taken = [source for found in callers.map(daily.take, [50] * 40) for source in found]
    assert sorted(taken) == sorted(SOURCES)
    now = float(redis.time()[0]) * 1000
    assert all(now < at <= now + DAY_MS + 1000 for at in times(redis, prefix).values())


def test_a_source_without_looks_takes_no_memory(redis: Redis, prefix: str, daily: Daily) -> None:
    daily.within("acme/main", 0)
    daily.end("acme/main")
    daily.end("acme/main")
    assert (daily.take(1), redis.exists(f"{prefix}:daily")) == ([], 0)
