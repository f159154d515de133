"""Accounts that change while they are read: no record that stayed is lost, and no record is there twice."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.acceptance.evidence import Evidence, assert_all_true, states
from tests.acceptance.fleet import COLLECT_SECONDS, Fleet, account
from tests.acceptance.lives import Span, assert_as_it_was
from tests.simulator_process import SimulatorProcess

SLOW = {"latency_ms": 20, "jitter_ms": 30}
CHANGING = (
    "incidents",
    "log_entries",
    "services",
    "schedules",
    "teams",
    "team_members",
    "users",
    "audit_records",
)
INCIDENTS = ("create_incident", "resolve_incident", "acknowledge_incident", "reopen_incident")
SETTINGS = tuple(
    f"{verb}_{noun}"
    for noun in ("service", "user", "schedule")
    for verb in ("create", "rename", "delete")
)
# Teams keep their names here: the test builds a member from two answers, which may come at different moments.
TEAMS = ("create_team", "delete_team", "add_member", "remove_member", "upgrade_schedule")
CHANGES = 70  # in about 100 requests, so the third reading of a list can succeed
EXPORTERS = 3
DOUBTS = ("unproved", "vanished")  # a record that is deleted after it was listed answers 404


def churning(simulator: SimulatorProcess, operations: Sequence[str], count: int, name: str) -> None:
    """Let an account change with each of its next requests."""
    simulator.churn(name, operations, count, every_requests=1, seed=7)


def made(simulator: SimulatorProcess, name: str) -> int:
    """Return how many changes the churn of an account has made, and end it."""
    [found] = [each for each in simulator.control("GET", "churn") if each["account"] == name]
    simulator.control("DELETE", "churn")
    return int(found["made"])


@pytest.mark.timeout(240)
def test_records_that_stay_are_collected_once_while_others_change(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Records come, go and move between the pages of their list, until the list stops changing."""
    key = "churn-Key-0000000006"
    sizes = {"incidents": 900, "services": 420, "users": 250, "teams": 12, "schedules": 12}
    pagerduty.control("POST", "accounts", **account("churn", [key], habits=SLOW, **sizes))
    fleet.connect("churn/main", key, "--resources", ",".join(CHANGING))
    began = datetime.now(UTC)
    churning(pagerduty, (*INCIDENTS, *SETTINGS * 2, *TEAMS), CHANGES, "churn")
    ran = fleet.run("collect", "churn/main", "--wait", "--json", timeout=COLLECT_SECONDS)
    during = Span.since(began)
    assert made(pagerduty, "churn") > CHANGES / 2
    found = states(ran.document)
    assert ran.code == (0 if set(found.values()) == {("complete", "")} else 3), ran.err
    assert set(found.values()) <= {("complete", ""), *(("partial", why) for why in DOUBTS)}, found

    def compare(name: str) -> int:
        whole = found[name][0] == "complete"
        return assert_as_it_was(fleet, pagerduty, "churn/main", name, during, all_of_it=whole)

    with ThreadPoolExecutor(EXPORTERS) as exporters:
        restless = dict(zip(CHANGING, exporters.map(compare, CHANGING), strict=True))
    print(f"churn: {found}, changed meanwhile: {restless}")
    assert min(restless[name] for name in ("incidents", "services", "users")) > 2, restless
    assert found["incidents"] == found["log_entries"] == ("complete", ""), "closed periods stay"
    assert fleet.verify("churn/main")["differences"] == []


@pytest.mark.timeout(240)
def test_a_list_that_keeps_changing_is_partial_and_the_next_run_reads_it_all(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Changes disturb each of the three readings. The run says so, and the next run has every record."""
    key, source = "rush-Key-00000000007", "rush/main"
    pagerduty.control("POST", "accounts", **account("rush", [key], services=420))
    fleet.connect(source, key, "--resources", "services")
    began = datetime.now(UTC)
    churning(pagerduty, ["create_service"], 1_000, "rush")
    summary = fleet.collect(source, code=3)
    during = Span.since(began)
    assert made(pagerduty, "rush") >= 3 * 5
    assert states(summary) == {"services": ("partial", "unproved")}
    windows = Evidence(fleet.runs, source).manifest()["resources"]["services"]["windows"]
    assert [window["state"] for window in windows] == ["superseded", "superseded", "partial"]
    # A new record moves the others back, so they are only seen again. None can be missed.
    assert assert_as_it_was(fleet, pagerduty, source, "services", during) >= 3 * 5
    said = fleet.run("artifact", "export", source, "--resource", "services").err
    assert "may not be all" in said
    assert states(fleet.collect(source)) == {"services": ("complete", "")}
    assert_all_true(fleet, pagerduty, fleet.runs, source, "rush")
    assert fleet.verify(source)["differences"] == []
