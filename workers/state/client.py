"""Clients of Redis: one that waits and that threads share, one that asks only once; and what its clock says."""

from collections.abc import Mapping
from typing import Any

import redis
from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import DefaultParser
from redis.retry import Retry

from workers.errors import RedisRefuses
from workers.state.faults import redis_faults

CONNECTIONS = 64
SOCKET_SECONDS = 5.0


NOT_NOW = {
    *("READONLY", "UNBLOCKED", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN"),
    *("MISCONF", "OOM", "NOREPLICAS", "BUSY"),
}
"""Codes with which Redis 7 and Valkey 9 refuse a command for what state the server is in."""


class NotServing(redis.ConnectionError):
    """Redis answers, but the server can't do its part now: it became a replica, is loading, has no memory left.

    To redis-py most of these are errors of the command. As a lost connection they lead to another one, which finds the
    server that has taken over, and everybody who waits for Redis waits for this too. The command was not carried out.
    """


class Parser(DefaultParser):  # type: ignore[misc,valid-type]  # a class that redis-py chooses when it is imported
    """Reads replies as redis-py does, but for those of a server that is not serving now."""

    @classmethod
    def parse_error(cls, response: str) -> Exception:
        """Return the exception for an error reply: its code, a space, and words."""
        code = response.partition(" ")[0]
        if code in NOT_NOW:
            return NotServing(response, status_code=code)
        error: Exception = super().parse_error(response)
        return error


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
            parser_class=Parser,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        )
    )


def impatient(url: str, seconds: float) -> Redis:
    """Return a client that gives up after *seconds*, for who asks again anyway."""
    return Redis.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        parser_class=Parser,
        retry=Retry(NoBackoff(), 0),
    )


def check(redis: Redis, prefix: str) -> None:
    """Raise `RedisUnreachable` unless several of our keys can be written at once, as our scripts do.

    A ping is answered also in cluster mode, by a replica and to a user without rights.
    """
    with redis_faults():
        redis.delete(*(f"{prefix}:check:{name}" for name in "abc"))  # never there


def memory(redis: Redis) -> Mapping[str, Any]:
    """Return what INFO says of the server's memory; nothing to a user without dangerous commands."""
    try:
        with redis_faults():
            known: Any = redis.info("memory")
    except RedisRefuses:
        return {}
    return dict(known)


def warning(redis: Redis) -> str:
    """Return what to change in the server's configuration, as a sentence; "" if nothing, or if we may not see it."""
    known = memory(redis)
    policy = str(known.get("maxmemory_policy", ""))
    if not policy.startswith("allkeys") or not known.get("maxmemory"):
        return ""
    return (
        f"Redis deletes keys of the fleet when its memory is full (maxmemory-policy {policy}), and work is repeated: "
        "set the policy to noeviction."
    )


def now_ms(redis: Redis) -> int:
    """Return the time by Redis's clock, which all processes share."""
    clock: Any = redis.time()  # its stubs don't know that this is no awaitable
    seconds, micros = clock
    return int(seconds * 1000 + micros // 1000)
