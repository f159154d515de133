"""Our own faults. Each has one plain sentence as its message: the problem, the place, and the next step."""


class Fault(Exception):
    """A failure whose message is for a person; the message never holds a key, a password or a stored body."""

    exit_code: int = 1


class SettingsFault(Fault):
    """A setting is wrong; the message names the variable and its allowed values."""


class UsageFault(Fault):
    """The command was typed wrong; nothing was sent."""

    exit_code = 2


class NotFound(Fault):
    """The source, run or artifact doesn't exist."""


class Exists(Fault):
    """The name is taken."""


class RedisUnreachable(Fault):
    """Redis is down, refuses us, or its address isn't known yet."""


class RedisRefuses(RedisUnreachable):
    """Redis answers, but refuses us until a person changes something."""


class StorageUnreachable(Fault):
    """Storage can't be reached, read or written."""


class StorageConflict(Fault):
    """A key holds the wrong object; nothing was overwritten."""


class VaultFault(Fault):
    """A sealed secret can't be opened."""


class SigningFault(Fault):
    """A seal can't be signed with the key of the signer."""


class SealRefused(Fault):
    """The stored history of a source isn't the one that the signer knows. Nothing was signed."""


class PurgeRefused(Fault):
    """The signer doesn't sign the record of a purge. Nothing was deleted."""


class RunUnsealed(Fault):
    """A run doesn't verify, so it has no seal. Later runs are sealed all the same."""


class KeyRefused(Fault):
    """PagerDuty refuses the key, or we don't accept keys of its kind."""


class ClockFault(Fault):
    """Two clocks differ so much that the order of events is unknown."""


class Busy(Fault):
    """Another process or person is working on it; trying again later helps."""
