"""Two clients of Redis: a patient one that threads share, and one that gives up early. Also its memory and clock.

Every failure of Redis that a client meets is a `RedisUnreachable`, whose sentence holds no password.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import redis
from redis import BlockingConnectionPool, Redis, RedisError, WatchError
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.client import Pipeline
from redis.connection import DefaultParser
from redis.retry import Retry

from workers.errors import RedisRefuses
from workers.state.faults import as_fault

CONNECTIONS = 64
SOCKET_SECONDS = 5.0


NOT_NOW = {
    *("READONLY", "UNBLOCKED", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN"),
    *("MISCONF", "OOM", "NOREPLICAS", "BUSY"),
}
"""Codes with which Redis 7 and Valkey 9 refuse a command because of the state that the server is in."""


class NotServing(redis.ConnectionError):
    """Redis answers, but can't serve now: it became a replica, is loading, or has no memory left.

    The command was not carried out. redis-py treats most of these as errors of the command. We treat them as a lost
    connection. So the client connects again and finds the server that has taken over, and code that waits while Redis
    is away waits here too.
    """


class Parser(DefaultParser):  # type: ignore[misc,valid-type]  # a class that redis-py chooses when it is imported
    """Reads replies as redis-py does, except those of a server that can't serve now."""

    @classmethod
    def parse_error(cls, response: str) -> Exception:
        """Return the exception for an error reply: its code, a space, and words."""
        code = response.partition(" ")[0]
        if code in NOT_NOW:
            return NotServing(response, status_code=code)
        error: Exception = super().parse_error(response)
        return error


def _with_faults(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Let *ask* raise `RedisUnreachable` instead of redis-py's errors; errors that only a bug of ours causes stay."""

    @wraps(ask)
    def asked(*args: Any, **options: Any) -> Any:
        try:
            return ask(*args, **options)
        except RedisError as error:
            # redis-py also raises WatchError if the connection was lost and nobody wrote the key.
            lost = error.__context__ if isinstance(error, WatchError) else None
            raise as_fault(lost if isinstance(lost, RedisError) else error) from None

    return asked


class _Pipeline(Pipeline):
    execute_command = _with_faults(Pipeline.execute_command)
    execute = _with_faults(Pipeline.execute)


class _Client(Redis):
    execute_command = _with_faults(Redis.execute_command)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def connect(url: str) -> Redis:
    """Return a client that many threads can share: it waits up to SOCKET_SECONDS for a free connection."""
    return _Client.from_pool(  # closing the client then closes the pool
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
    """Return a client that gives up after *seconds*, for callers that ask again anyway."""
    return _Client.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        parser_class=Parser,
        retry=Retry(NoBackoff(), 0),
    )


def check(redis: Redis, prefix: str) -> None:
    """Raise `RedisUnreachable` unless several of our keys can be written at once, as our scripts do.

    A ping would not show this: it is also answered in cluster mode, by a replica, and to a user without rights.
    """
    redis.delete(*(f"{prefix}:check:{name}" for name in "abc"))  # these keys never exist


def memory(redis: Redis) -> Mapping[str, Any]:
    """Return INFO's section on memory; empty for a user who may not run dangerous commands."""
    try:
        known: Any = redis.info("memory")
    except RedisRefuses:
        return {}
    return dict(known)


def warning(redis: Redis) -> str:
    """Return a sentence that says what to change in the server's configuration; "" if it is fine or can't be seen."""
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
    clock: Any = redis.time()  # the stubs allow an awaitable here
    seconds, micros = clock
    return int(seconds * 1000 + micros // 1000)
