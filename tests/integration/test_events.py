"""Events for a backend: every kind follows docs/events.schema.json and arrives at least once.

Repeats have the same id.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from redis import Redis

from tasks import api, purge, sign
from tasks.evidence.erasure_records import record_key
from tasks.evidence.layout import manifest_key
from tasks.reading.catalog import CATALOG
from tasks.runs import restoring
from tasks.runs.events import ResourceResult, RunEnded, SourceFailing
from tests.integration.steps import KEY, RUN, SOURCE, Died, Fleet
from tests.integration.test_purge import collect, connect, end, erase
from tests.processes import ROOT
from tests.simulator_process import SimulatorProcess
from workers.errors import Busy, RunUnsealed, StorageConflict
from workers.pagerduty.keys import fingerprint
from workers.state import events
from workers.state.events import Event, Events

SCHEMA = json.loads((ROOT / "docs" / "events.schema.json").read_text("utf-8"))
KINDS = set(SCHEMA["properties"]["kind"]["enum"])
FAILING = SourceFailing(region="us")


@pytest.fixture
def fleet(make: Callable[[Path], Fleet], tmp_path: Path) -> Fleet:
    return make(tmp_path / "data")


def told(fleet: Fleet) -> list[Event]:
    """Return every event so far. Check that each follows the schema and doesn't have the key."""
    texts = [fields[b"event"] for _, fields in fleet.redis.xrange("pagetrail:events")]
    for text in texts:
        Draft202012Validator(SCHEMA).validate(json.loads(text))
        assert KEY.encode() not in text
    found = list(api.events(fleet.runtime))
    assert [each.id for each in found] == [json.loads(text)["id"] for text in texts]
    return found


def ids(fleet: Fleet) -> list[str]:
    return [each.id for each in told(fleet)]


def test_the_schema_is_valid_and_the_page_names_every_kind() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert {each["properties"]["kind"]["const"] for each in SCHEMA["oneOf"]} == KINDS
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    assert {kind for kind in KINDS if f"| `{kind}` |" in page} == KINDS


def test_the_life_of_a_source_sends_every_kind_of_event(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    """They go from the first run, through a refused key and an outage, to the end of its evidence."""
    old = datetime.now(UTC) - timedelta(days=91, hours=1)
    connect(fleet, retention_months=24, keyed_at=old)
    restoring.restore(fleet.runtime)  # or the first tick does it, and repeats events of open runs
    collect(fleet)
    sealed = told(fleet)[-1]
    assert ids(fleet) == [f"{SOURCE}/{RUN}/run.opened", f"{SOURCE}/{RUN}/run.ended"]
    assert sealed.data["state"] == "complete"
    assert sealed.data["resources"]["teams"] == {"state": "complete", "reason": ""}
    purge.look_after(SOURCE)
    purge.look_after(SOURCE)
    [due] = [each for each in told(fleet) if each.kind == "key.rotation_due"]
    assert (due.data["key_age_days"], due.data["key_max_age_days"]) == (91, 90)

    simulator.fault("status_503")
    opened = api.collect(fleet.runtime, SOURCE).run
    while not any(each.startswith(f"{SOURCE}/{opened}/source.failing/20") for each in ids(fleet)):
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()
    simulator.clear_faults()
    end(fleet, opened)

    simulator.fault("unauthorized")
    refused = api.collect(fleet.runtime, SOURCE).run
    end(fleet, refused)
    simulator.clear_faults()
    fleet.runtime.heads_storage.delete(f"heads/{SOURCE}.json")
    fleet.storage.put_new(f"{SOURCE}/runs/{refused}/foreign", b"")
    with suppress(RunUnsealed):
        sign.sign_run(SOURCE, refused)
    api.pause(fleet.runtime, SOURCE)
    with pytest.raises(Busy, match="waits for the signer"):
        api.purge(fleet.runtime, SOURCE, "tester", wait_seconds=0)
    fleet.storage.put_new(record_key(SOURCE, refused), b"")
    with pytest.raises(StorageConflict):
        sign.record_purge(SOURCE)
    fleet.storage.delete(record_key(SOURCE, refused))
    erase(fleet)

    counts = Counter(ids(fleet))
    mark = fingerprint("us", KEY)
    assert counts[f"{SOURCE}/{refused}/key.refused/{mark}"] == 1, "not once per page in flight"
    assert counts[f"{SOURCE}/evidence.erased/{refused}"] == 1
    assert {i: n for i, n in counts.items() if n != 1} == {}
    assert {each.kind for each in told(fleet)} == KINDS
    ended = {each.run: each.data["ended"] for each in told(fleet) if each.kind == "run.ended"}
    assert (ended[opened], ended[refused]) == ("done", "refused")


def test_an_event_is_sent_even_if_the_sender_dies_first(fleet: Fleet) -> None:
    """The sealer dies after it stores the manifest, or Redis is emptied then. Both events are sent in the end."""
    connect(fleet)

    def die(key: str) -> None:
        if key.endswith("manifest.json"):
            raise Died(key)

    fleet.storage.stored = die
    collect(fleet)
    assert f"{SOURCE}/{RUN}/run.ended" in ids(fleet)

    def lose(key: str) -> None:
        die_at = manifest_key(SOURCE, "00000002")
        if key == die_at:
            fleet.lose_redis()
            raise Died(key)

    fleet.storage.stored = lose
    api.collect(fleet.runtime, SOURCE)
    while not fleet.storage.get(manifest_key(SOURCE, "00000002")):
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()
    assert ids(fleet) == []
    restoring.restore(fleet.runtime)
    restoring.restore(fleet.runtime)
    assert ids(fleet) == [f"{SOURCE}/00000002/run.ended"]


def test_a_purge_that_dies_before_its_event_sends_it_when_it_is_repeated(fleet: Fleet) -> None:
    connect(fleet)
    collect(fleet)
    api.pause(fleet.runtime, SOURCE)

    with pytest.raises(Busy, match="waits for the signer"):
        api.purge(fleet.runtime, SOURCE, "tester", wait_seconds=0)
    sign.record_purge(SOURCE)

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(fleet.runtime.events, name)

        def emit(self, *_: object, **__: object) -> None:
            raise Died

    with pytest.raises(Died):
        api.purge(fleet.runtime.replaced(events=Dying()), SOURCE, "tester")  # type: ignore[arg-type]  # a double
    erased = f"{SOURCE}/evidence.erased/{RUN}"
    assert erased not in ids(fleet)
    assert erase(fleet)
    assert erase(fleet)
    assert ids(fleet).count(erased) == 1


def test_the_stream_is_bounded(redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 300)
    stream = Events(redis, prefix)
    for number in range(1_500):
        stream.emit(FAILING, SOURCE, f"{number:08d}")
    assert 300 <= redis.xlen(f"{prefix}:events") <= 500
    assert [each.run for each in stream.read()][-1] == "00001499"


def test_the_stream_takes_no_more_memory_than_the_page_says(redis: Redis, prefix: str) -> None:
    """The longest frequent event is the end of a run with all resources in which no resource could be read."""
    said = re.search(r"never more than (\d+) MB", (ROOT / "docs" / "events.md").read_text("utf-8"))
    assert said
    stream, count, name = Events(redis, prefix), 1_000, f"{'t' * 63}/{'n' * 63}"
    unread = ResourceResult(state="unavailable", reason="unproved")
    now = datetime.now(UTC).replace(microsecond=0)
    ended = RunEnded(
        sealed_at=now,
        state="cancelled",
        ended="cancelled",
        period=(now, now),
        backlog=False,
        records=10**9,
        requests=10**7,
        resources=dict.fromkeys(CATALOG, unread),
    )
    for number in range(count):
        stream.emit(ended, name, f"{number:08d}")
    taken = redis.memory_usage(f"{prefix}:events", samples=0)
    assert taken is not None
    assert taken * events.MOST / count < int(said[1]) * 1e6


def test_a_follower_gets_every_event_once(redis: Redis, prefix: str) -> None:
    stream, count = Events(redis, prefix), 1_200
    with ThreadPoolExecutor(1) as follower:
        found = follower.submit(lambda: list(islice(stream.read(follow=True), count)))
        for number in range(count):
            stream.emit(FAILING, SOURCE, f"{number:08d}")
        heard = found.result(60)
    assert [each.run for each in heard] == [f"{number:08d}" for number in range(count)]
    again = stream.read(heard[999].position)
    assert [each.run for each in again] == [f"{number:08d}" for number in range(1_000, count)]
