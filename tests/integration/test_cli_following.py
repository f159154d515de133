"""Following a run while the fleet or Redis goes away."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.cli import following
from tasks.cli.following import Follower
from tasks.evidence.layout import manifest_key
from tests.manifests import manifest_document, manifest_text
from tests.redis_process import redis_server
from tests.unit.state.test_sources import SOURCE as A_SOURCE
from workers.errors import Fault, RedisUnreachable
from workers.runtime import Runtime
from workers.settings.environment import load_settings

SOURCE, FIRST, SECOND = "acme/main", "00000001", "00000002"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of an embedded Redis whose address is in a file."""
    monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("PAGETRAIL_REDIS_URL", raising=False)
    monkeypatch.setattr(following, "POLL_SECONDS", 0.02)
    return tmp_path


def fleet_at(url: str, data: Path) -> Runtime:
    (data / "redis.url").write_text(url)
    return Runtime(load_settings())


def seal(fleet: Runtime, run: str, *, continues: bool = False) -> None:
    document = manifest_document(source=SOURCE, run=run, continues=continues)
    fleet.storage.put_new(manifest_key(SOURCE, run), manifest_text(document))


def follower(fleet: Runtime, say: Callable[[str], None] = print) -> Follower:
    return Follower(fleet, replace(A_SOURCE, id=SOURCE), lambda _sight: None, say)


def test_a_backlog_is_followed_to_its_last_run(data: Path) -> None:
    with redis_server() as url:
        fleet = fleet_at(url, data)
        seal(fleet, FIRST, continues=True)
        seal(fleet, SECOND)
        manifests = follower(fleet).follow(FIRST)
    assert [manifest.run for manifest in manifests] == [FIRST, SECOND]


def test_a_fleet_that_stays_away_ends_the_waiting(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENCE_SECONDS", 0.1)
    with redis_server() as url:
        fleet = fleet_at(url, data)
        with pytest.raises(Fault, match="pagetrail up"):
            follower(fleet, lambda _: None).follow(FIRST)


def test_a_redis_that_stays_away_ends_the_waiting(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENCE_SECONDS", 0.1)
    with redis_server() as url:
        fleet = fleet_at(url, data)
    with pytest.raises(RedisUnreachable):
        follower(fleet, lambda _: None).follow(FIRST)


def test_a_redis_that_comes_back_elsewhere_is_found_again(data: Path) -> None:
    said: list[str] = []
    away = threading.Event()

    def say(words: str) -> None:
        said.append(words)
        away.set()

    with ThreadPoolExecutor(1) as threads:
        with redis_server() as url:
            fleet = fleet_at(url, data)
            fleet.ledger.take(1)  # a tick
            waiting: Any = threads.submit(follower(fleet, say).follow, FIRST)
        assert away.wait(30)
        with redis_server() as url:
            again = fleet_at(url, data)
            again.ledger.take(1)
            seal(again, FIRST)
            assert [manifest.run for manifest in waiting.result(30)] == [FIRST]
    assert said == ["Redis is away: waiting for it."]
