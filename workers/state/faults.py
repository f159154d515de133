"""The sentence for each failure of Redis, and whether it passes by itself: no other module reads redis-py's errors.

The codes are those of Redis 7 and Valkey 9. redis-py turns some of them into exception types and removes the code from
the message; `workers.state.client.NotServing` keeps it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from redis.exceptions import MaxConnectionsError, RedisError

from workers.errors import RedisRefuses, RedisUnreachable


class _Row(NamedTuple):
    """The sentence for errors whose types and message match *pattern*. {what} becomes the pattern's group."""

    pattern: str
    sentence: str
    heals: bool = False


_TABLE = (
    _Row(
        "MASTERDOWN|READONLY|UNBLOCKED",
        "This Redis is a replica, which takes no writes: wait until the failover is over, or set "
        "PAGETRAIL_REDIS_URL to the primary.",
        heals=True,
    ),
    _Row(
        "LOADING|BusyLoadingError",
        "Redis is still reading its data from disk: wait until that is done, then try again.",
        heals=True,
    ),
    _Row(
        "ClusterCrossSlotError|ClusterError|AskError|CLUSTERDOWN|TRYAGAIN|cluster mode",
        "This Redis runs in cluster mode, which Pagetrail can't use: set PAGETRAIL_REDIS_URL to a "
        "Redis without cluster mode.",
    ),
    _Row(
        "DB index is out of range|invalid DB index",
        "This Redis doesn't have the database that PAGETRAIL_REDIS_URL names: write a lower number "
        "there, such as /0, or raise `databases` in the server's configuration.",
    ),
    _Row(
        "max number of clients",
        "Redis takes no more connections: raise `maxclients` in the server's configuration, or end "
        "other programs that use it.",
        heals=True,
    ),
    _Row(
        "DENIED|protected mode",
        "Redis is in protected mode and accepts connections only from its own machine: give it a "
        "password, and write that into PAGETRAIL_REDIS_URL.",
    ),
    _Row(
        "HELLO must be called|NOAUTH|Authentication required",
        "Redis asks for a password: write it into PAGETRAIL_REDIS_URL, as in "
        "redis://user:password@host:6379/0.",
    ),
    _Row(
        "AuthenticationError|AuthorizationError|WRONGPASS",
        "Redis refuses the user or the password: correct them in PAGETRAIL_REDIS_URL.",
    ),
    _Row(
        r"NoPermissionError.*?(?P<what>the '[\w|-]+' command|a key|a channel|$)",
        "Redis forbids its user {what}: give the user the rights that docs/deploy.md names.",
    ),
    _Row(
        "OOM ",
        "Redis has no memory left: raise `maxmemory` in the server's configuration, or remove what "
        "other programs keep there.",
    ),
    _Row(
        "MISCONF",
        "Redis can't save its data: make room on its disk or correct its rights, and look at its log.",
    ),
    _Row(
        "NOREPLICAS",
        "Redis takes no writes while too few replicas follow it: look at its replicas, or lower "
        "`min-replicas-to-write`.",
        heals=True,
    ),
    _Row(
        "BUSY |UNKILLABLE",
        "Redis is busy with a script: wait until the script has ended, or look for the program that "
        "runs it.",
        heals=True,
    ),
    _Row(
        r"unknown command (?P<what>['`]\w+['`])|NOPROTO",
        "This Redis doesn't have the command {what}: use Redis 7.0 or newer, or allow the command.",
    ),
    _Row(
        "WRONGTYPE",
        "Another program writes to the keys of this fleet in Redis: set PAGETRAIL_KEY_PREFIX to a "
        "name of its own, or use another database.",
    ),
    _Row(
        "CERTIFICATE_VERIFY_FAILED",
        "The certificate of Redis is not known or names another host: set SSL_CERT_FILE to the "
        "authority's certificate, or correct the host in PAGETRAIL_REDIS_URL.",
    ),
    _Row(
        r"\[SSL|SSLError|Timeout connecting",
        "Redis does not answer in time, or doesn't speak TLS: look at the network, and whether "
        "PAGETRAIL_REDIS_URL should begin with redis:// or rediss://.",
        heals=True,
    ),
    _Row(
        "Connection closed by server",
        "Redis closes each connection: if it speaks TLS, PAGETRAIL_REDIS_URL must begin with "
        "rediss://; if not, look at its log.",
        heals=True,
    ),
    _Row(
        r"Error -\d+ connecting",
        "The host of PAGETRAIL_REDIS_URL can't be found: correct its name, or look at the network.",
        heals=True,
    ),
    _Row(
        "ConnectionError|TimeoutError",
        "Redis does not answer ({what}): start the fleet with `pagetrail up`, or correct "
        "PAGETRAIL_REDIS_URL.",
        heals=True,
    ),
)


def as_fault(error: BaseException) -> BaseException:
    """Return the `RedisUnreachable` for an error of redis-py; other errors, and those of a bug of ours, unchanged.

    From the error's own words it repeats only names of commands, because the rest can hold a password.
    """
    if not isinstance(error, RedisError) or isinstance(error, MaxConnectionsError):
        return error  # the second one means that our own pool is too small
    words = f"{' '.join(kind.__name__ for kind in type(error).__mro__)}: {error}"
    for row in _TABLE:
        if found := re.search(row.pattern, words):
            what = found.groupdict().get("what") or type(error).__name__
            kind = RedisUnreachable if row.heals else RedisRefuses
            return kind(row.sentence.format(what=what))
    return error


def is_outage(error: BaseException | None) -> bool:
    """Say whether *error* means only that Redis was away, which passes by itself."""
    fault = error and as_fault(error)
    return isinstance(fault, RedisUnreachable) and not isinstance(fault, RedisRefuses)


def sentences() -> Iterator[str]:
    """Yield every sentence, with {what} for the variable part."""
    return (row.sentence for row in _TABLE)
