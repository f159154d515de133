"""Keys that are revoked, replaced or belong to the wrong account, and sources that are paused."""

from __future__ import annotations

import hashlib
import json
from subprocess import Popen
from typing import Any

import pytest

from tests.acceptance.evidence import Evidence, assert_all_true, states
from tests.acceptance.fleet import Fleet, account, requests_of
from tests.simulator_process import SimulatorProcess

RESOURCES = "incidents,services"
MIDDLE = 8  # requests, of about 40, before something happens
LANES_MOST = 8


def open_account(simulator: SimulatorProcess, name: str, *keys: str) -> None:
    sizes = {"incidents": 3_500, "days": 40, "services": 130}
    simulator.control("POST", "accounts", **account(name, keys, **sizes))


def set_key(simulator: SimulatorProcess, name: str, key: str, *, revoked: bool) -> None:
    simulator.control("POST", "keys", account=name, key=key, disabled=revoked)


def begin(fleet: Fleet, simulator: SimulatorProcess, name: str, key: str, slow_ms: int) -> Any:
    """Connect a source whose answers take *slow_ms*, and follow its run halfway."""
    fleet.connect(f"{name}/main", key, "--resources", RESOURCES)
    simulator.control("POST", "habits", account=name, latency_ms=slow_ms)
    before = requests_of(simulator, key)
    waiting = fleet.begin("collect", f"{name}/main", "--wait", "--json")
    fleet.until(lambda: requests_of(simulator, key) - before > MIDDLE, 60, "reach the middle")
    return waiting


def said(waiting: Popen[str]) -> str:
    """Return the next line that a waiting command prints."""
    assert waiting.stderr
    return waiting.stderr.readline()


def end(fleet: Fleet, simulator: SimulatorProcess, name: str, waiting: Popen[str]) -> None:
    """Assert that the run ends complete and has the true records."""
    simulator.control("POST", "habits", account=name, latency_ms=0)
    ran = fleet.end(waiting, timeout=90)
    assert ran.code == 0, f"{ran.err}{ran.out}{fleet.tail()}"
    assert set(states(ran.document).values()) == {("complete", "")}
    names = RESOURCES.split(",")
    assert_all_true(fleet, simulator, fleet.runs, f"{name}/main", name, resources=names)


def fingerprint(key: str) -> str:
    """Return the name of a key that doesn't show the key."""
    return hashlib.sha256(f"us\n{key}".encode()).hexdigest()[:16]


def row_of(fleet: Fleet, source: str) -> str:
    """Return the row of a source in `status`."""
    rows = fleet.ask("status")["sources"]
    return json.dumps(next(row for row in rows if row["source"] == source))


@pytest.mark.timeout(240)
def test_a_key_revoked_in_the_middle_suspends_the_run_until_another_one_is_given(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """The run waits and says so. It refuses a key of another account, and continues with a good one."""
    old, new, strange = "woken-Key-0000000009", "woken-Key-000000new9", "alien-Key-0000000010"
    source = "woken/main"
    open_account(pagerduty, "woken", old, new)
    open_account(pagerduty, "alien", strange)
    waiting = begin(fleet, pagerduty, "woken", old, slow_ms=150)
    set_key(pagerduty, "woken", old, revoked=True)
    assert "the run is suspended: `pagetrail source rotate woken/main`" in said(waiting)
    assert "suspended" in row_of(fleet, source)
    assert "suspended: key refused" in fleet.run("source", "show", source).out
    shown = fleet.run("run", "show", source).err
    assert ": open, " in shown
    assert "suspended: key refused" in shown

    refusal = fleet.refused(1, "source", "rotate", source, key=strange)
    assert "alien" in refusal
    assert "nothing was changed" in refusal
    assert fleet.ask("source", "show", source)["fingerprint"] == fingerprint(old)
    probes = requests_of(pagerduty, old)
    fleet.until(lambda: requests_of(pagerduty, old) > probes, 30, "be asked with the old key again")

    fleet.ask("source", "rotate", source, key=new)
    end(fleet, pagerduty, "woken", waiting)
    fingerprints = Evidence(fleet.runs, source).manifest()["credential"]["fingerprints"]
    assert fingerprints == sorted([fingerprint(old), fingerprint(new)])
    assert fleet.verify(source)["differences"] == []


@pytest.mark.timeout(240)
def test_a_key_revoked_before_the_first_page_fails_the_run_and_costs_nothing_later(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Nothing was read, so the run has failed. The next run covers the same period from its beginning."""
    key, source = "early-Key-0000000011", "early/main"
    open_account(pagerduty, "early", key)
    fleet.connect(source, key, "--resources", RESOURCES)
    set_key(pagerduty, "early", key, revoked=True)
    failed = fleet.collect(source, code=1)
    assert failed["state"] == "failed"
    assert set(states(failed).values()) == {("failed", "key")}
    assert f"`pagetrail source rotate {source}`" in fleet.run("run", "show", source).err
    assert fleet.export(source, "services", code=3) == []
    set_key(pagerduty, "early", key, revoked=False)
    assert fleet.collect(source)["since"] == failed["since"]
    assert_all_true(fleet, pagerduty, fleet.runs, source, "early", resources=["incidents"])


@pytest.mark.timeout(240)
def test_a_paused_source_sends_nothing_until_it_is_resumed(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """Requests in flight end. Then nothing is sent until it is resumed, and `collect` says why."""
    key, source = "still-Key-0000000012", "still/main"
    open_account(pagerduty, "still", key)
    waiting = begin(fleet, pagerduty, "still", key, slow_ms=2_000)
    assert fleet.ask("source", "pause", source)["state"] == "paused"
    paused = requests_of(pagerduty, key)
    assert "is paused" in said(waiting)
    refusal = fleet.refused(1, "collect", source)
    assert f"pagetrail source resume {source}" in refusal
    rest = requests_of(pagerduty, key)
    assert rest - paused <= LANES_MOST
    assert "paused" in row_of(fleet, source)
    assert fleet.ask("run", "show", source)["state"] == "open"
    assert requests_of(pagerduty, key) == rest
    assert waiting.poll() is None
    assert fleet.ask("source", "resume", source)["state"] == "active"
    end(fleet, pagerduty, "still", waiting)
