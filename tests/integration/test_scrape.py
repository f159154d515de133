"""Beat shows the content of Redis, as far as Redis answers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from tasks.watching.scrape import Vitals
from tasks.watching.vitals import GaugeValues
from tests.ports import free_port
from workers.settings.environment import Settings
from workers.state.client import impatient
from workers.state.ledger import Ledger, Opening
from workers.state.limiter import Limiter, budget_name
from workers.storage.registry import Source

NOW = datetime.now(UTC)


def source(name: str, number: int = 0) -> Source:
    return Source(
        id=name, region="us", subdomain="acme", credential="account", fingerprint=f"{number:016x}",
        sealed_key="sealed", keyed_at=NOW, connected_at=NOW, since=NOW - timedelta(days=9),
        every_seconds=3600,
    )  # fmt: skip


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis, "pagetrail")


@pytest.fixture
def read(redis: Redis, redis_url: str) -> Callable[[], GaugeValues]:
    for each in (source("acme/main"), source("acme/other"), source("globex/main", 1)):
        redis.hset("pagetrail:sources", each.id, each.to_json())
    return Vitals(redis, Settings(redis_url=redis_url)).read


def begin(ledger: Ledger, name: str, pages: int) -> None:
    group = "incidents/all.1"
    opened = [Opening(f"{group}/{n:06d}", "", group) for n in range(pages)]
    ledger.open(name, "00000001", opened, queue="fetch", region="us", lanes=(2, 8))


def test_runs_pages_and_waits_are_those_of_the_ledger(
    ledger: Ledger, redis: Redis, read: Callable[[], GaugeValues]
) -> None:
    begin(ledger, "acme/main", 5)
    begin(ledger, "globex/main", 3)
    redis.rpush("pagetrail:fetch", "message", "message")
    claim = ledger.claim("globex/main", "00000001", "incidents/all.1/000000", 3, "fetch")
    assert claim
    ledger.give_back(claim, why="budget", delay_seconds=60, resource="incidents")
    found = read()
    assert found["redis_up"] == {(): 1}
    assert found["sources"][("active",)] == 3
    assert found["runs_open"] == {(): 2}
    assert sum(found["sources_doing"].values()) == 2
    assert found["sources_doing"][("budget",)] == 1
    assert sum(found["pages_open"].values()) == 8
    assert found["pages_open"][("offered",)] == 3
    assert found["queue_messages"][("fetch",)] == 2
    assert found["budgets"] == {(): 2}
    assert (found["unacked_messages"], found["troubles"]) == ({(): 0}, {(): 0})
    redis.hset("pagetrail:troubles", "acme/main run", "Its plan is gone.")
    assert read()["troubles"] == {(): 1}


def test_a_credential_that_sources_share_is_one_budget_with_the_largest_reserve(
    ledger: Ledger, redis: Redis, read: Callable[[], GaugeValues]
) -> None:
    begin(ledger, "acme/main", 1)
    begin(ledger, "acme/other", 1)
    name = budget_name("us", f"{0:016x}")
    Limiter(redis, "pagetrail").reserve(name, reserve_share=0.1)
    found = read()
    assert found["budget_used"] == {(name,): 1}
    assert found["budget_left"] == {(name,): 960 * 0.9 - 1}


def test_a_suspended_source_is_one_whose_key_is_refused(
    ledger: Ledger, read: Callable[[], GaugeValues]
) -> None:
    begin(ledger, "acme/main", 2)
    for number, close in ((1, True), (2, False)):
        claim = ledger.claim("acme/main", "00000001", f"incidents/all.1/{number - 1:06d}", number, "fetch")  # fmt: skip
        assert claim
        if close:
            ledger.close(claim, (), resource="incidents", sent=1)
        else:
            ledger.refuse(claim, resource="incidents", sent=1)
    found = read()
    assert found["sources_doing"][("suspended",)] == 1
    assert found["keys_refused"] == {(): 1}


def test_scrapes_within_ten_seconds_share_a_reading(redis: Redis, redis_url: str) -> None:
    vitals = Vitals(redis, Settings(redis_url=redis_url))

    def waiting() -> float:
        [family] = [each for each in vitals.collect() if each.name == "pagetrail_queue_messages"]
        return sum(sample.value for sample in family.samples)

    assert waiting() == 0
    redis.rpush("pagetrail:fetch", "message")
    assert waiting() == 0
    assert vitals.read()["queue_messages"][("fetch",)] == 1


def test_without_redis_that_is_all_that_is_shown() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with impatient(url, 1.0) as nobody:
        shown = list(Vitals(nobody, Settings(redis_url=url)).collect())
    assert [(each.name, each.samples[0].value) for each in shown] == [("pagetrail_redis_up", 0)]


def test_a_document_that_can_not_be_read_hides_nothing_else(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis.hset("pagetrail:sources", "acme/main", "{}")
    reading = Vitals(redis, Settings(redis_url=redis_url)).read()
    assert reading["redis_up"] == {(): 1}
    assert "queue_messages" in reading
    assert "acme/main in Redis can't be read" in caplog.text


def test_unreadable_data_only_hides_the_metrics_that_depend_on_it(
    redis: Redis,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beat still shows everything that it knows by itself."""
    monkeypatch.setattr(Vitals, "_registry", lambda _: json.loads("no summary"))
    assert Vitals(redis, Settings(redis_url=redis_url)).read() == {"redis_up": {(): 0}}
    assert "the data in Redis can't be read" in caplog.text
