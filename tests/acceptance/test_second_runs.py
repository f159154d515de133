"""Later runs continue from the proved periods, read again what can change, and cost little if nothing changed."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta

import pytest

from tests.acceptance.evidence import Evidence, assert_all_true, file_digest, sent, states
from tests.acceptance.fleet import Fleet, account, requests_of
from tests.simulator_process import SimulatorProcess

OVERLAP = timedelta(minutes=10)
PAGE = 100


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def unresolved(simulator: SimulatorProcess, name: str) -> set[str]:
    return {i["id"] for i in simulator.truth(name, "incidents") if i["status"] != "resolved"}


def read_by_id(evidence: Evidence, run: str) -> set[str]:
    """Return the incidents that a run requested one by one."""
    asked = (envelope["path"] for _, envelope, _ in evidence.pages("incidents", run))
    return {path.rpartition("/")[2] for path in asked if path != "/incidents"}


def first_asked(evidence: Evidence, resource: str, run: str) -> datetime:
    """Return the earliest `since` with which a run requested a windowed resource."""
    asked = [dict(envelope["params"]) for _, envelope, _ in evidence.pages(resource, run)]
    return min(when(params["since"]) for params in asked if "since" in params)


def change_much(simulator: SimulatorProcess, name: str, before: datetime) -> dict[str, str]:
    """Change an account. Return the ids of the incidents that were resolved, created, and written late."""
    [resolved, *_] = sorted(unresolved(simulator, name))
    late = int((before - timedelta(minutes=5)).timestamp())
    simulator.mutate(name, "resolve_incident", id=resolved)
    made = simulator.mutate(name, "create_incident", title="new")["id"]
    written_late = simulator.mutate(name, "create_incident", title="late", created_at=late)["id"]
    for what in ("service", "user", "team", "schedule", "escalation_policy"):
        for verb in ("delete", "rename", "create"):
            simulator.mutate(name, f"{verb}_{what}")
    simulator.mutate(name, "add_audit_record")
    # A run only reads seconds that are over, and it knows the clock to two seconds.
    time.sleep(3)
    return {"resolved": resolved, "made": made, "late": written_late}


def least_requests(simulator: SimulatorProcess, name: str) -> dict[str, int]:
    """Return the requests of a run that finds nothing new.

    It reads a page of each list, and each record that can change without a trace in its list.
    """
    held = {
        r: list(simulator.truth(name, r))
        for r in ("services", "users", "teams", "escalation_policies", "schedules")
    }
    members = Counter(m["team"]["id"] for m in simulator.truth(name, "team_members"))
    assert max(members.values()) <= PAGE
    assert all(len(records) <= PAGE for records in held.values())
    return {
        "incidents": 1 + len(unresolved(simulator, name)),
        "log_entries": 1,
        "services": 1,
        "users": 1,
        "teams": 1,
        "escalation_policies": 1,
        "team_members": len(held["teams"]),
        "schedules": 2 + len(held["schedules"]),  # two lists, and each schedule's details
        "schedule_coverage": len(held["schedules"]),
        "audit_records": 1,
    }


@pytest.mark.timeout(240)
def test_later_runs_read_new_records_and_those_that_can_change(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """The first run reads everything, and the fourth finds nothing new.

    The second run may not read log entries. The third run makes up for that.
    """
    key, name, source = "again-Key-0000000008", "again", "again/main"
    pagerduty.control("POST", "accounts", **account(name, [key], incidents=250))
    fleet.connect(source, key)
    assert fleet.collect(source)["state"] == "complete"
    evidence = Evidence(fleet.runs, source)
    first = evidence.manifest("00000001")
    known = unresolved(pagerduty, name)
    ids = change_much(pagerduty, name, when(first["period"]["until"]))

    pagerduty.control("POST", "keys", account=name, key=key, forbidden=["/log_entries"])
    partial = fleet.collect(source, code=3)
    assert states(partial)["log_entries"] == ("unavailable", "role")
    assert set(states(partial).values()) == {("complete", ""), ("unavailable", "role")}
    assert (
        first_asked(evidence, "incidents", "00000002") == when(first["period"]["until"]) - OVERLAP
    )
    assert read_by_id(evidence, "00000002") == known
    status_of = {
        run: Counter(
            i["status"]
            for i in fleet.export(source, "incidents", *run)
            if i["id"] == ids["resolved"]
        )
        for run in ((), ("--run", "1"), ("--run", "2"))
    }
    assert status_of[()] == status_of["--run", "2"] == {"resolved": 1}
    assert "resolved" not in status_of["--run", "1"]

    pagerduty.control("POST", "keys", account=name, key=key, forbidden=[])
    assert fleet.collect(source)["state"] == "complete"
    second = evidence.manifest("00000002")
    assert (
        first_asked(evidence, "log_entries", "00000003") == when(first["period"]["until"]) - OVERLAP
    )
    assert (
        first_asked(evidence, "incidents", "00000003") == when(second["period"]["until"]) - OVERLAP
    )
    assert read_by_id(evidence, "00000003") == unresolved(pagerduty, name)
    counts = assert_all_true(fleet, pagerduty, fleet.runs, source, name)
    assert counts["incidents"] == 252
    found = {record["id"] for record in fleet.export(source, "incidents")}
    assert {ids["made"], ids["late"]} <= found

    before = requests_of(pagerduty, key)
    idle = fleet.collect(source)
    needed = least_requests(pagerduty, name)
    assert {n: r["requests"] for n, r in idle["resources"].items() if n in needed} == needed
    assert requests_of(pagerduty, key) - before == sent(idle)

    assert evidence.sealed == [f"{number:08d}" for number in range(1, 5)]
    previous = None
    for run in evidence.sealed:
        manifest = evidence.manifest(run)
        assert manifest["previous"] == previous
        previous = {"run": run, "sha256": file_digest(evidence.directory / run / "manifest.json")}
    assert fleet.verify(source)["differences"] == []
