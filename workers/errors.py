"""Our own faults: one plain sentence each, saying what is wrong, where, and what to do next."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Fault(Exception):
    """A failure meant to be read by a person; never holds a key, a password or a stored body."""

    exit_code: int = 1


class SettingsFault(Fault):
    """A setting is wrong; the message names the variable and what it may be."""


class UsageFault(Fault):
    """What was typed can't be right; nothing was sent."""

    exit_code = 2


class NotFound(Fault):
    """There is no such source, run or artifact."""


class Exists(Fault):
    """The name is taken."""


class RedisUnreachable(Fault):
    """Redis is down, refuses us, or is not known yet."""


class RedisRefuses(RedisUnreachable):
    """Redis answers, and refuses what we need until a person changes something."""


class StorageUnreachable(Fault):
    """Storage can't be reached, read or written."""


class StorageConflict(Fault):
    """An object is not the one that belongs under its key; nothing was overwritten."""


class VaultFault(Fault):
    """A sealed secret can't be opened."""


class KeyRefused(Fault):
    """PagerDuty does not take the key, or it is not the kind of key we accept."""


class ClockFault(Fault):
    """Two clocks differ so far that nobody can say what has happened yet."""


class Busy(Fault):
    """Somebody else is at it; trying again later helps."""


@contextmanager
def redis_faults() -> Iterator[None]:
    """Turn a failure of Redis into a `RedisUnreachable`, whose sentence has no password in it."""
    try:
        yield
    except Exception as error:
        fault = as_fault(error)
        if fault is error:
            raise
        raise fault from None


def as_fault(error: BaseException) -> BaseException:
    """Return the fault that a failure of Redis is; any other error as it is."""
    # Not imported for that: it takes longer than all that the help of a command needs.
    redis: Any = sys.modules.get("redis")
    if redis is None or not isinstance(error, redis.RedisError):
        return error
    from workers.redis_faults import fault_of

    return fault_of(error) or error


def is_outage(error: BaseException | None) -> bool:
    """Say whether *error* is only that Redis was away, which time mends."""
    fault = error and as_fault(error)
    return isinstance(fault, RedisUnreachable) and not isinstance(fault, RedisRefuses)
