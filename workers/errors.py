"""Our own faults: one plain sentence each, saying what is wrong, where, and what to do next."""


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
