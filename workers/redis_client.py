"""Clients of Redis: one that waits and that threads share, one that asks only once; and what its clock says."""

from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

CONNECTIONS = 64
SOCKET_SECONDS = 5.0


def connect(url: str) -> Redis:
    """Return a client that many threads can share: it waits for a free connection, not for ever."""
    return Redis.from_pool(  # and closes it
        BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=SOCKET_SECONDS,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        )
    )


def impatient(url: str, seconds: float) -> Redis:
    """Return a client that gives up after *seconds*, for who asks again anyway."""
    return Redis.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )


def now_ms(redis: Redis) -> int:
    """Return the time by Redis's clock, which all processes share."""
    clock: Any = redis.time()  # its stubs don't know that this is no awaitable
    seconds, micros = clock
    return int(seconds * 1000 + micros // 1000)
