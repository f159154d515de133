"""Faults are one kind with exit codes; Redis failures become one of them."""

import pickle
import traceback

import pytest
import redis

from workers import errors
from workers.errors import Fault, RedisUnreachable
from workers.state.client import connect
from workers.state.faults import as_fault, is_outage

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Fault)]


@pytest.mark.parametrize("kind", ALL)
def test_a_fault_is_its_sentence(kind: type[Fault]) -> None:
    """A fault prints as its sentence and survives being sent to another process."""
    fault = pickle.loads(pickle.dumps(kind("Something is wrong.")))
    assert type(fault) is kind
    assert str(fault) == "Something is wrong."


def test_only_wrong_usage_exits_with_2() -> None:
    """So scripts can tell a mistyped command from a failure."""
    assert {kind.__name__ for kind in ALL if kind.exit_code == 2} == {"UsageFault"}
    assert {kind.exit_code for kind in ALL} == {1, 2}


@pytest.mark.parametrize("error", [redis.ConnectionError, redis.TimeoutError])
def test_a_silent_redis_is_one_sentence(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py's own words, which can hold a password, are not passed on."""

    def fail(*_: object) -> None:
        raise error("redis://:hunter2@host")

    with connect("redis://host") as client:
        monkeypatch.setattr(client.connection_pool, "get_connection", fail)
        with pytest.raises(RedisUnreachable, match="Redis does not answer") as caught:
            client.ping()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("error", "words", "heals"),
    [
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), "still reading", True),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "disk", False),
        (redis.ResponseError("DENIED Redis is running in protected mode"), "protected", False),
        (redis.ResponseError("UNBLOCKED force unblock from blocking operation"), "replica", True),
        (redis.ResponseError("NOPROTO unsupported protocol version"), "Redis 7.0", False),
        (redis.exceptions.MovedError("3999 127.0.0.1:6381"), "cluster mode", False),
        (redis.TimeoutError("Timeout connecting to server"), "redis:// or rediss://", True),
        (redis.AuthenticationError("WRONGPASS hunter2"), "the user or the password", False),
    ],
)
def test_each_failure_of_redis_has_its_sentence(
    error: redis.RedisError, words: str, heals: bool
) -> None:
    """Failures that can't be provoked here; tests/contract/test_redis_faults.py has the others."""
    fault = as_fault(error)
    assert isinstance(fault, RedisUnreachable)
    assert words in str(fault)
    assert "hunter2" not in str(fault)
    assert is_outage(error) is is_outage(fault) is heals


def test_other_errors_pass() -> None:
    """A mistake in a script does not count as an outage."""
    error = redis.ResponseError("ERR wrong number of arguments")
    assert as_fault(error) is error
