"""Fixtures for all tests: one real Redis per test process, emptied for each test."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from redis import Redis

from tests.redis_process import redis_server

settings.register_profile(
    "any-load", deadline=None
)  # examples must not depend on the machine's speed
settings.load_profile("any-load")

# A background job of a shell ignores Ctrl-C, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server of this test process."""
    with redis_server() as url:
        yield url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of an emptied Redis. It waits as long as a test may take."""
    with Redis.from_url(redis_url, socket_timeout=None) as client:
        client.flushall()
        yield client


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix that only this test uses."""
    return f"test-{abs(hash(request.node.nodeid)):x}"
