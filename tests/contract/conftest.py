"""Fixtures of the contract tests: servers in the place of PagerDuty and S3, and a double of S3."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.pagerduty_server import client, released, server
from tests.s3_double import BUCKET, S3Double, demand_checksum, s3_double
from tests.seaweed import S3Server, s3_server

__all__ = ["client", "released", "server"]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server with one bucket."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty prefix of the S3 server, with the environment to reach it."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.bucket}/{uuid4().hex}/evidence"


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Double]:
    """A double of an S3 server with one empty bucket, and the environment to reach it."""
    with s3_double() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def double_url(double: S3Double) -> str:
    """The URL of a prefix of the double's bucket."""
    return f"s3://{BUCKET}/prefix"


@pytest.fixture
def locked_url(double: S3Double, double_url: str) -> str:
    """The same for a bucket that demands checksums, as Object Lock does."""
    double.rules.append(demand_checksum)
    return double_url
