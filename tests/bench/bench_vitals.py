"""Measures the cost of a scrape of beat with 10,000 sources: time, CPU of beat and of Redis, by number of open runs."""

import time
from datetime import UTC, datetime, timedelta

from redis import Redis

from tasks.reading.catalog import CATALOG
from tasks.watching.last_runs import LastRun
from tasks.watching.scrape import Vitals
from tests.redis_process import redis_server
from workers.settings.environment import Settings
from workers.state.ledger import Ledger, Opening
from workers.state.limiter import Limiter, budget_name
from workers.storage.registry import Source

SOURCES, DAY_MS, PAGES = 10_000, 86_400_000, 20
PREFIX = "pagetrail"
NOW = datetime.now(UTC)
LAST = LastRun(
    run="00000001", state="complete", ended="done", opened_at=NOW, sealed_at=NOW, continues=False,
    subdomains=(), backlog=False,
).to_json()  # fmt: skip


def source(number: int) -> Source:
    return Source(
        id=f"tenant{number}/main", region="us", subdomain=f"tenant{number}", credential="account",
        fingerprint=f"{number:016x}", sealed_key="k" * 140, keyed_at=NOW, connected_at=NOW,
        since=NOW - timedelta(days=365), every_seconds=86_400, access=dict.fromkeys(CATALOG, ""),
    )  # fmt: skip


def register(client: Redis) -> None:
    """Fill Redis with sources that are due at times spread over the day."""
    with client.pipeline() as pipe:
        for each in map(source, range(SOURCES)):
            due = time.time() * 1000 + hash(each.id) % DAY_MS
            pipe.hset(f"{PREFIX}:sources", each.id, each.to_json())
            pipe.hset(f"{PREFIX}:last", each.id, LAST)
            pipe.zadd(f"{PREFIX}:schedule", {each.id: due})
            pipe.zadd(f"{PREFIX}:due", {each.id: due})
        pipe.execute()


def open_runs(client: Redis, first: int, last: int) -> None:
    ledger, limiter = Ledger(client, PREFIX), Limiter(client, PREFIX)
    pages = [Opening(f"incidents/all.1/{n:06d}", "", "incidents/all.1") for n in range(PAGES)]
    for each in map(source, range(first, last)):
        ledger.open(each.id, "00000002", pages, queue="fetch", region="us", lanes=(4, 8))
        limiter.reserve(budget_name("us", each.fingerprint), reserve_share=0.1)


def server_seconds(client: Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def main() -> None:
    print(f"A reading of {SOURCES:,} sources, milliseconds")
    print(f"  {'':<32}{'time':>8}{'beat':>8}{'Redis':>8}")
    with redis_server() as url, Redis.from_url(url) as client:
        register(client)
        vitals, opened = Vitals(client, Settings(redis_url=url)), 0
        for runs, words in ((0, "with the minute's walk"), (0, ""), (100, ""), (1_000, "")):
            open_runs(client, opened, runs)
            opened = runs
            clocks = time.perf_counter(), time.process_time(), server_seconds(client)
            vitals.read()
            ended = time.perf_counter(), time.process_time(), server_seconds(client)
            costs = "".join(f"{(b - a) * 1000:>8.0f}" for a, b in zip(clocks, ended, strict=True))
            print(f"  {f'{runs} open runs {words}':<32}{costs}")


if __name__ == "__main__":
    main()
