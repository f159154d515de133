"""Whatever is wrong with one page, source or object, its run ends, and no other run waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from celery.exceptions import QueueNotFound

from tasks import plan
from tasks.accounts import asking
from tasks.evidence.envelopes import decode_page
from tasks.evidence.frames import room_of_first
from tasks.evidence.layout import manifest_key, page_key, plan_key
from tasks.reading.catalog import CATALOG, FEEDS
from tasks.reading.windows import moment
from tasks.runs import messages, opening, setbacks, visits
from tasks.runs.setbacks import MAX_ATTEMPTS
from tasks.verifying.verify import verify
from tasks.watching.activity import Activity, waits
from tests.counted_room import CountedRoom, CountedShare, CrowdedRoom
from tests.integration.steps import (
    HOUR_MS,
    OTHER,
    RUN,
    SOURCE,
    Died,
    Fleet,
    ended_within,
    other_source,
    states,
)
from tests.simulator_process import SimulatorProcess
from workers.app import celery
from workers.errors import RedisUnreachable, VaultFault
from workers.pagerduty.replies import Outcome, Reply
from workers.room import Room
from workers.settings.vault import Vault
from workers.storage.registry import Source, SourceState


def damage(fleet: Fleet, page: str) -> str:
    """Damage a page's object as soon as it is stored. Return its key."""
    damaged = page_key(SOURCE, RUN, page)

    def spoil(key: str) -> None:
        if key == damaged:
            path = fleet.runtime.settings.data_dir / "artifacts" / key
            path.chmod(0o600)
            path.write_bytes(b"no page")

    fleet.storage.stored = spoil
    return damaged


def test_a_page_without_memory_waits_and_neither_asks_nor_fails(
    fleet: Fleet, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another page of this process takes all the memory. After that, the run takes its usual number of requests."""
    monkeypatch.setattr(asking, "_ROOM_SECONDS", 0.0)
    room = Room(2**10)  # so every page is a large one
    fleet.runtime = fleet.runtime.replaced(room=room)
    simulator.reset_stats()
    with room.share() as other:
        other.take(2**20)
        for _ in range(20 * MAX_ATTEMPTS):
            if fleet.messages:
                fleet.step()
            else:
                fleet.idle()
    assert simulator.requests() == []
    assert ended_within(fleet, 1)
    assert states(fleet) == {}
    assert fleet.manifest
    assert fleet.manifest["resources"]["incidents"]["requests"] == 3


def test_an_answer_that_finds_no_memory_costs_no_attempt(fleet: Fleet) -> None:
    """It arrived, but other pages hold the memory to read it. The page is asked for again, as often as it takes."""
    room: Any = CrowdedRoom(30 * MAX_ATTEMPTS)
    fleet.runtime = fleet.runtime.replaced(room=room)
    assert ended_within(fleet, 10)
    assert room.crowded == 0
    assert states(fleet) == {}


def test_a_page_takes_memory_to_be_read_and_stored_and_those_before_it_to_be_read_back(
    fleet: Fleet,
) -> None:
    """The worker that closes the last page of a list holds one of the others at a time."""
    room: Any = CountedRoom()
    fleet.runtime = fleet.runtime.replaced(room=room)
    asked: list[tuple[CountedShare, int, int]] = []

    def note(path: str, reply: Reply) -> Reply:
        if path == "/services":
            asked.append((room.shares[-1], room.shares[-1].size, len(reply.body)))
        return reply

    fleet.pagerduty.answer = note
    fleet.live()
    pages = f"{SOURCE}/runs/{RUN}/pages/services"
    stored = [fleet.storage.get(each.key) or b"" for each in fleet.storage.list(pages)]
    back = [2 * room_of_first(each) for each in stored]
    assert len(asked) == len(back) == 3
    for share, size, body in asked:
        assert size >= body
        assert share.total - size >= 2 * body, "its heads and its object"
        assert share.most <= max(size + 2 * body, *back)
    assert sum(share.total - size - 2 * body for share, size, body in asked) == sum(back[:-1])


def test_an_object_that_is_not_a_page_is_given_up_and_named(fleet: Fleet) -> None:
    """Nothing is overwritten, even if this page is the last open one."""
    key = page_key(SOURCE, RUN, "users/all.1/000000")
    fleet.storage.put_new(key, b"no page")
    assert ended_within(fleet, 1)
    assert states(fleet) == {"users": ("failed", "error")}
    assert fleet.manifest
    assert fleet.manifest["state"] == "partial"
    assert [each["key"] for each in fleet.manifest["unreadable"]] == [key]
    assert fleet.storage.get(key) == b"no page"


def test_a_page_spoilt_after_it_was_stored_costs_only_the_proof(fleet: Fleet) -> None:
    """The worker that closes the last page of the pass can't read this page back."""
    key = damage(fleet, "services/all.1/000099")
    assert ended_within(fleet, 1)
    assert states(fleet) == {"services": ("partial", "error")}
    assert fleet.manifest
    assert [each["key"] for each in fleet.manifest["unreadable"]] == [key]
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok


def test_a_schedule_is_read_even_if_its_rendering_never_comes(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    """PagerDuty takes too long to render each schedule's period, but it gives the schedule itself."""
    simulator.fault("status_504", path="*/schedules/*", param="since")
    assert ended_within(fleet, 2)
    assert states(fleet) == {"schedule_coverage": ("failed", "error")}
    assert fleet.manifest
    assert fleet.manifest["resources"]["schedules"]["records"] == 5
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok


def test_a_source_with_a_damaged_ledger_does_not_delay_the_care_for_others(fleet: Fleet) -> None:
    """Some keys of a run are gone, as when a server evicts keys because its memory is full."""
    opening.collect_now(fleet.runtime, other_source(fleet))
    fleet.messages.clear()
    fleet.redis.delete(f"pagetrail:pages:{SOURCE}")
    fleet.redis.hset(f"pagetrail:pages:{SOURCE}", "another page", "{}")
    for _ in range(3):
        fleet.idle()
    assert {arguments[0] for _, arguments in fleet.messages if len(arguments) == 5} == {OTHER}


def test_a_source_whose_key_can_not_be_opened_does_not_wait_for_budget(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `status` would say that its pages wait for budget, and not that a fault of ours repeats."""

    def shut(_: Vault, source: Source) -> str:
        raise VaultFault(f"{source.id} is sealed.")

    monkeypatch.setattr(asking, "key_of", shut)
    assert fleet.redis.delete(
        *fleet.redis.keys("pagetrail:limiter:*")
    )  # no request was sent lately
    began = fleet.now_ms
    while fleet.now_ms - began < 180_000:
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()
        assert fleet.runtime.ledger.progress(SOURCE).why in ("", "error")
    progress = fleet.runtime.ledger.progress(SOURCE)
    assert progress.now - (progress.why_at or progress.now) > 120_000


def test_a_class_of_endpoints_at_its_own_limit_holds_up_no_other_page(fleet: Fleet) -> None:
    """Its page waits alone until the class has budget again. In the meantime the run reads everything else."""
    asked: list[str] = []

    def answer(path: str, reply: Reply) -> Reply:
        asked.append(path)
        if path != "/oncalls":
            return reply
        return replace(
            reply, outcome=Outcome.WAIT, status=429, limit=120, remaining=0, reset_seconds=90
        )

    fleet.pagerduty.answer = answer
    progress = fleet.runtime.ledger.progress(SOURCE)
    while progress.pages != 1:
        if fleet.messages:
            fleet.step()
        else:
            fleet.idle()
        progress = fleet.runtime.ledger.progress(SOURCE)
    assert progress.wait_until is None
    assert progress.later == 1
    assert asked.count("/oncalls") == 1, "no other waits, and it isn't repeated"
    fleet.redis.delete(*fleet.redis.keys("pagetrail:limiter:*-oncalls}*"))  # as if time had passed
    fleet.pagerduty.answer = lambda _path, reply: reply
    assert ended_within(fleet, 1)
    assert states(fleet) == {}


GONE = ("teams", "team_members")


@contextmanager
def forgotten() -> Iterator[None]:
    """Take a resource and its feeds out of the catalog."""
    with patch.dict(CATALOG), patch.dict(FEEDS):
        for name in GONE:
            del CATALOG[name], FEEDS[name]
        yield


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_ends_without_the_resource_that_a_new_version_can_not_read(
    fleet: Fleet, lost: bool
) -> None:
    """The new version takes over in the middle of the run. The manifest names the resource that is missing."""
    for _ in range(4):
        fleet.step()
    if lost:
        fleet.lose_redis()
    with forgotten():
        assert ended_within(fleet, 1)
        assert states(fleet) == dict.fromkeys(GONE, ("failed", "error"))
        *_, report = verify(fleet.runtime.storage, SOURCE)
        assert report.ok
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok, "the version with the resource finds no difference"


def test_a_page_that_an_old_worker_can_not_read_is_left_to_a_newer_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such pages wait alone, and the source says what they wait for."""
    monkeypatch.setattr(visits, "CATALOG_VERSION", 0)
    with forgotten():
        for _ in range(200):
            if fleet.messages:
                fleet.step()
            else:
                fleet.idle()
    assert fleet.redis.hkeys(f"pagetrail:pages:{SOURCE}") == [b"teams/all.1/000000"]
    assert fleet.redis.hget(f"pagetrail:run:{SOURCE}", "wait_until") is None
    progress = fleet.runtime.ledger.progress(SOURCE)
    assert (progress.why, waits(progress)[Activity.WORKER].pages) == ("worker", 1)
    assert ended_within(fleet, 1)
    assert states(fleet) == {}


def test_a_page_that_a_resumed_worker_stores_after_the_seal_is_late_and_not_a_difference(
    fleet: Fleet,
) -> None:
    """The run was cancelled while the worker was frozen between its request and its put."""
    thawed: list[tuple[str, bytes]] = []
    put_new = fleet.storage.put_new

    def freeze(key: str, data: bytes) -> bool:
        thawed.append((key, data))
        raise Died

    fleet.storage.put_new = freeze  # type: ignore[method-assign]  # a double for one call
    fleet.step()
    fleet.storage.put_new = put_new  # type: ignore[method-assign]  # a double for one call
    messages.publish(fleet.runtime, SOURCE, RUN, fleet.runtime.ledger.cancel(SOURCE, RUN))
    fleet.live()
    [(key, data)] = thawed
    fleet.storage.put_new(key, data)
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert [(d.key, d.kind) for d in report.differences] == [(key, "late")]
    assert report.ok


def test_a_source_paused_by_somebody_who_died_sends_nothing_until_it_is_resumed(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    """Only the registry says that it is paused. The ledger doesn't know it."""
    sources = fleet.runtime.sources
    sources.save(replace(sources.get(SOURCE), state=SourceState.PAUSED))
    simulator.reset_stats()
    until = fleet.now_ms + HOUR_MS
    while fleet.now_ms < until:
        fleet.step() if fleet.messages else fleet.idle()
    assert simulator.stats()["keys"] == {}
    sources.save(replace(sources.get(SOURCE), state=SourceState.ACTIVE))
    fleet.live()
    assert states(fleet) == {}


def test_the_run_of_a_source_disconnected_by_somebody_who_died_is_sealed(fleet: Fleet) -> None:
    sources = fleet.runtime.sources
    gone = replace(sources.get(SOURCE), state=SourceState.DISCONNECTED, sealed_key=None)
    sources.save(gone)
    assert ended_within(fleet, 1)
    assert fleet.manifest
    assert fleet.manifest["state"] == "cancelled"


def test_a_plan_message_that_comes_twice_opens_one_run(fleet: Fleet) -> None:
    fleet.live()
    fleet.runtime.ledger.schedule(SOURCE, fleet.now_ms)
    fleet.idle()
    message, *others = fleet.messages
    assert message == ("tasks.plan.plan_run", (SOURCE,))
    assert {name for name, _ in others} <= {"tasks.sign.sign_run"}
    fleet.step()
    while not fleet.storage.get(manifest_key(SOURCE, "00000002")):
        fleet.step() if fleet.messages else fleet.idle()
    fleet.messages.append(message)
    while fleet.messages:
        fleet.step()
    assert fleet.storage.children(f"{SOURCE}/runs") == [RUN, "00000002"]


def test_joining_a_run_that_is_being_sealed_opens_nothing(fleet: Fleet) -> None:
    """The caller saw the run open in storage, and joins it too late."""
    fleet.live()
    opening.reopen(fleet.runtime, fleet.runtime.sources.get(SOURCE), RUN)
    assert not fleet.redis.exists(f"pagetrail:run:{SOURCE}")


def test_joining_a_run_does_not_make_it_look_into_storage(fleet: Fleet) -> None:
    """Only a run that Redis lost looks into storage before each request."""
    joined = opening.collect_now(fleet.runtime, fleet.runtime.sources.get(SOURCE))
    assert joined == opening.Opened(RUN, joined=True)
    assert fleet.redis.hget(f"pagetrail:run:{SOURCE}", "reopened") is None


def test_a_page_in_a_workers_hands_during_a_failover_goes_back_when_it_is_over(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its lease ended, the source would seem to wait for PagerDuty."""
    ledger, refusals = fleet.runtime.ledger, ["close", "give_back", "give_back"]
    give_back = ledger.give_back

    def refuse(*_: Any, **__: Any) -> Any:
        refusals.pop()
        raise RedisUnreachable("This Redis is a replica.")

    def refused_at_first(*arguments: Any, **options: Any) -> Any:
        return (refuse if refusals else give_back)(*arguments, **options)

    monkeypatch.setattr(setbacks, "_AWAY_SECONDS", 0.0)
    monkeypatch.setattr(ledger, "give_back", refused_at_first)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "close", refuse)
        fleet.step()
    assert refusals == []
    progress = ledger.progress(SOURCE)
    assert (progress.claimed, progress.why) == (0, "error")
    fleet.live()
    assert states(fleet) == {}


def test_a_pass_that_takes_longer_to_read_back_than_a_lease_is_still_settled(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that closes the last page reads all the others from a slow storage."""
    get, monotonic = fleet.storage.get, lambda: fleet.now_ms / 1000
    monkeypatch.setattr(visits, "monotonic", monotonic)

    def slow(key: str) -> bytes | None:
        if "/pages/services/" in key:
            fleet.runtime.ledger.now_ms = fleet.now_ms + 25_000
            plan.tick()
        return get(key)

    fleet.storage.get = slow  # type: ignore[method-assign]  # a double for one call
    assert ended_within(fleet, 1)
    assert states(fleet) == {}


def test_a_source_that_only_a_newer_version_can_tend_does_not_stop_the_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery refuses to send to a queue that this version doesn't have."""
    send = celery.send_task
    refused: list[str] = []

    def strict(name: str, args: Any, queue: str, **more: Any) -> None:
        if queue == "express":
            refused.append(name)
            raise QueueNotFound(queue)
        send(name, args, queue=queue, **more)

    monkeypatch.setattr(celery, "send_task", strict)
    source = replace(fleet.runtime.sources.get(SOURCE), id=OTHER, version=1)
    fleet.runtime.sources.add(source)
    fleet.runtime.ledger.schedule(OTHER, fleet.now_ms)
    fleet.redis.hset(f"pagetrail:run:{SOURCE}", mapping={"queue": "express", "lanes": 8})
    fleet.messages.clear()
    fleet.runtime.ledger.now_ms = fleet.now_ms + 40_000
    plan.tick()
    assert refused
    assert ("tasks.plan.plan_run", (OTHER,)) in fleet.messages


def test_a_page_with_members_that_this_version_does_not_know_waits_for_a_newer_worker(
    fleet: Fleet,
) -> None:
    """No older worker requests it, and it costs no attempt. The other pages are read."""
    [*_, newest] = [args[2] for name, args in fleet.messages if name.startswith("tasks.fetch")]
    pages = f"pagetrail:pages:{SOURCE}"
    entry = orjson.loads(fleet.redis.hget(pages, newest))
    payload = orjson.loads(entry["d"] or b"{}") | {"later": 1}
    fleet.redis.hset(pages, newest, orjson.dumps(entry | {"d": orjson.dumps(payload).decode()}))
    for _ in range(400):
        progress = fleet.runtime.ledger.progress(SOURCE)
        if progress.pages == 1 and progress.why == "worker":
            break
        fleet.step() if fleet.messages else fleet.idle()
    assert (progress.why, waits(progress)[Activity.WORKER].pages) == ("worker", 1)
    assert orjson.loads(fleet.redis.hget(pages, newest)).get("a") is None
    assert progress.closed > 10


def test_a_run_goes_by_the_clock_that_all_share(fleet: Fleet) -> None:
    """That is Redis's clock.

    Times of workers and commands are compared, and a worker's own clock may be wrong by hours.
    """
    assert fleet.runtime.ledger.now_ms
    fleet.runtime.ledger.now_ms += 5 * HOUR_MS
    began = datetime.fromtimestamp(fleet.now_ms // 1000, UTC)
    fleet.live()
    assert fleet.manifest
    assert began <= moment(fleet.manifest["sealed_at"]) < began + timedelta(hours=1)
    source = fleet.runtime.sources.get(SOURCE)
    opened = opening.collect_now(fleet.runtime, source).run
    text = fleet.storage.get(plan_key(SOURCE, opened))
    assert text
    assert began <= moment(orjson.loads(text)["opened_at"]) < began + timedelta(hours=1)
    page = decode_page(fleet.storage.get(page_key(SOURCE, RUN, "users/all.1/000000")))
    assert began <= moment(page.fetched_at) < began + timedelta(hours=1)
