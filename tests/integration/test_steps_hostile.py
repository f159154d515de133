"""Whatever a list answers, its run ends within five minutes, after few requests, and says why."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from tasks.evidence.layout import manifest_key
from tasks.runs import opening
from tasks.verifying.verify import verify
from tests.integration.steps import SOURCE, Fleet
from tests.simulator_process import SimulatorProcess
from workers.pagerduty.replies import Outcome, Reply

WITHIN_MS = 300_000
MOST_OPEN = 600
"""Most pages in Redis at once: some of each list, because no answer opens more than 128."""


NEVER = ("redirect_self", "cut_json", "body_deep", "body_garbage", "drop_middle")


def live(fleet: Fleet) -> float:
    """Let the run continue to its end. Return its duration by the ledger's clock, in ms."""
    began = fleet.now_ms
    while not fleet.ended:
        fleet.step() if fleet.messages else fleet.idle()
        assert fleet.redis.hlen(f"pagetrail:pages:{SOURCE}") <= MOST_OPEN
    return fleet.now_ms - began


def account_of(fleet: Fleet, resource: str) -> dict[str, Any]:
    """Return the manifest's entry of *resource*, after checking that the other resources are complete."""
    assert fleet.manifest
    resources: dict[str, dict[str, Any]] = fleet.manifest["resources"]
    others = {name: each["state"] for name, each in resources.items() if name != resource}
    assert set(others.values()) == {"complete"}, others
    *_, report = verify(fleet.runtime.storage, SOURCE)
    assert report.ok, report.differences
    return resources[resource]


def test_an_account_that_refuses_the_key_on_one_list_alone_keeps_no_run_open(
    fleet: Fleet, simulator: SimulatorProcess
) -> None:
    """Each probe succeeds, so the run continues each time, and each time the list answers 401."""
    while not fleet.runtime.ledger.progress(SOURCE).closed:
        fleet.step() if fleet.messages else fleet.idle()
    simulator.fault("unauthorized", path="/log_entries")
    live(fleet)
    [rule] = simulator.control("GET", "faults")
    assert rule["fired"] >= 8
    account = account_of(fleet, "log_entries")
    assert (account["state"], account["reason"]) == ("failed", "error")


@pytest.mark.parametrize(
    ("kind", "path", "resource"),
    [
        *((kind, "/incidents", "incidents") for kind in NEVER),
        *((kind, "/audit/records", "audit_records") for kind in NEVER),
        ("total_true", "/log_entries", "log_entries"),
        ("total_beyond_64_bits", "/services", "services"),
        ("page_oversized", "/services", "services"),
        ("cursor_huge", "/audit/records", "audit_records"),
        ("members_twice", "/services", "services"),
    ],
)
def test_a_list_that_is_never_answered_in_earnest_is_given_up_within_five_minutes(
    fleet: Fleet,
    simulator: SimulatorProcess,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    path: str,
    resource: str,
) -> None:
    """Everything else is read long before. Only probes show that just this list fails. No log quotes a record."""
    caplog.set_level(logging.DEBUG)
    records = list(simulator.truth("acme", resource))
    simulator.fault(kind, path=path)
    taken = live(fleet)
    [rule] = simulator.control("GET", "faults")
    assert rule["fired"] >= 9
    account = account_of(fleet, resource)
    assert (account["state"], account["reason"]) == ("failed", "error")
    assert taken < WITHIN_MS
    assert "page given up: " in caplog.text
    told = (each.get(name) for each in records for name in ("id", "title", "name"))
    assert not [words for words in told if words and words in caplog.text]


@pytest.mark.parametrize(
    ("kind", "path", "resource", "requests"),
    [
        ("total_billion", "/incidents", "incidents", 20),
        ("total_trillion", "/log_entries", "log_entries", 40),
        ("total_billion", "/services", "services", 400),
        ("more_forever", "/incidents", "incidents", 250),
        ("more_invented", "/log_entries", "log_entries", 500),
        ("more_empty", "/log_entries", "log_entries", 20),
        ("total_wavers", "/services", "services", 20),
        ("cursor_new", "/audit/records", "audit_records", 50),
        ("cursor_circle", "/audit/records", "audit_records", 50),
    ],
)
def test_a_list_that_lies_about_its_length_is_partial_after_few_requests(
    fleet: Fleet,
    simulator: SimulatorProcess,
    kind: str,
    path: str,
    resource: str,
    requests: int,
) -> None:
    simulator.fault(kind, path=path)
    taken = live(fleet)
    [rule] = simulator.control("GET", "faults")
    assert rule["fired"]
    account = account_of(fleet, resource)
    assert (account["state"], account["reason"]) == ("partial", "unproved")
    assert account["words"]
    assert account["requests"] <= requests
    assert taken < WITHIN_MS


def test_a_list_whose_answers_never_come_is_given_up_though_it_could_be_asked_for_ever_less(
    fleet: Fleet,
) -> None:
    """Each request times out after 5 s, first with smaller pages, then with shorter and shorter periods."""
    asked: list[str] = []

    def answer(path: str, reply: Reply) -> Reply:
        if path != "/log_entries":
            return reply
        asked.append(path)
        assert fleet.runtime.ledger.now_ms
        fleet.runtime.ledger.now_ms += 5_000
        return replace(reply, outcome=Outcome.RETRY, status=None, timed_out=True, members=None)

    fleet.pagerduty.answer = answer
    taken = live(fleet)
    account = account_of(fleet, "log_entries")
    assert (account["state"], account["reason"]) == ("failed", "error")
    assert 20 < len(asked) < 60
    assert taken < WITHIN_MS


@pytest.mark.parametrize("path", ["/incidents", "/services", "/audit/records", "/v3/schedules"])
def test_a_list_that_can_only_be_read_in_smaller_pages_is_complete(
    fleet: Fleet, simulator: SimulatorProcess, path: str
) -> None:
    """Pages of 100 and of 50 records answer 504, three times each. Then the list is read as usual."""
    simulator.fault("page_too_large", path=path, served=30)
    taken = live(fleet)
    [rule] = simulator.control("GET", "faults")
    assert rule["fired"]
    resource = path.rpartition("/")[2].replace("records", "audit_records")
    account = account_of(fleet, resource)
    assert account["state"] == "complete"
    sizes = {row.get("size") for row in account["windows"] if row["state"] == "proved"}
    assert 25 in sizes
    assert account["records"] > 0
    assert taken < WITHIN_MS
    assert fleet.manifest
    assert [each["size"] for each in fleet.manifest["sizes"].values()] == [25]
    simulator.reset_stats()
    opening.collect_now(fleet.runtime, fleet.runtime.sources.get(SOURCE))
    while not fleet.storage.get(manifest_key(SOURCE, "00000002")):
        fleet.step() if fleet.messages else fleet.idle()
    [answered] = simulator.stats()["keys"].values()
    assert "504" not in answered["statuses"], "the next run begins with that size"
