"""Faults are one kind with exit codes; Redis failures become one of them."""

import pickle
import traceback

import pytest
import redis

from workers import errors
from workers.errors import Fault, RedisUnreachable, redis_faults

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Fault)]


@pytest.mark.parametrize("kind", ALL)
def test_a_fault_is_its_sentence(kind: type[Fault]) -> None:
    """A fault prints as its sentence and survives being sent to another process."""
    fault = pickle.loads(pickle.dumps(kind("Something is wrong.")))
    assert type(fault) is kind
    assert str(fault) == "Something is wrong."


def test_only_wrong_usage_exits_with_2() -> None:
    """Scripts can tell what they typed wrong from what failed."""
    assert {kind.__name__ for kind in ALL if kind.exit_code == 2} == {"UsageFault"}
    assert {kind.exit_code for kind in ALL} == {1, 2}


@pytest.mark.parametrize(
    "error", [redis.ConnectionError, redis.TimeoutError, redis.AuthenticationError]
)
def test_a_silent_redis_is_one_sentence(error: type[Exception]) -> None:
    """What redis-py says, which can hold a password, goes no further."""
    with pytest.raises(RedisUnreachable, match="Redis does not answer") as caught, redis_faults():
        raise error("redis://:hunter2@host")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_other_errors_pass() -> None:
    """A mistake in a script is no outage."""
    with pytest.raises(redis.ResponseError), redis_faults():
        raise redis.ResponseError("ERR wrong number of arguments")
