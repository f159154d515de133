"""Fixtures every room of the tests may use: one real Redis per test process, flushed per test."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from redis import Redis

from tests.redis_process import redis_server

settings.register_profile(
    "any-load", deadline=None
)  # no example is to depend on the machine's speed
settings.load_profile("any-load")

# The background of a shell ignores Ctrl-C, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server of this test process."""
    with redis_server() as url:
        yield url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of an emptied Redis; it waits for as long as a test does."""
    with Redis.from_url(redis_url, socket_timeout=None) as client:
        client.flushall()
        yield client


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix of this test's own."""
    return f"test-{abs(hash(request.node.nodeid)):x}"
