"""Records that a plan, a role or a user's key withholds are named in PagerDuty's words, and the rest is collected."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.acceptance.evidence import Evidence, assert_all_true, states
from tests.acceptance.fleet import Fleet, account
from tests.simulator_process import SimulatorProcess

PLAN_WORDS = "Required abilities are unavailable"
ROLE_WORDS = "Insufficient permissions"
PLAN, ROLE, USER = "gated-Key-0000000013", "lower-Key-0000000014", "mine-Key-00000000015"
SMALL = {"incidents": 120, "services": 5, "users": 8, "audit_records": 30}


def withheld(fleet: Fleet, source: str) -> dict[str, tuple[str, str, str]]:
    """Return state, reason and words of every resource that the newest manifest doesn't call complete."""
    resources: dict[str, dict[str, Any]] = Evidence(fleet.runs, source).manifest()["resources"]
    return {
        name: (each["state"], each["reason"], each["words"])
        for name, each in resources.items()
        if each["state"] != "complete"
    }


@pytest.mark.timeout(240)
def test_withheld_records_are_named_and_the_rest_is_collected(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    """If the plan withholds something, the run is still complete.

    If a role or a user's key does, the run is partial.
    """
    keys: dict[str, dict[str, Any]] = {
        "gated": {"key": PLAN},
        "lower": {"key": ROLE, "forbidden": ["/users", "/users/*"]},
        "mine": {"key": USER, "kind": "user"},
    }
    for name, key in keys.items():
        off = ["teams", "audit", "shift_schedules"] if name == "gated" else []
        spec = account(name, [key], abilities_off=off, **SMALL)
        pagerduty.control("POST", "accounts", **spec)
    fleet.connect("gated/main", PLAN)
    fleet.connect("lower/main", ROLE)
    assert "--allow-user-key" in fleet.refused(
        1, "source", "connect", "mine/main", "--yes", key=USER
    )
    fleet.connect("mine/main", USER, "--allow-user-key")
    with ThreadPoolExecutor(len(keys)) as several:
        gated, lower, mine = (
            each.result()
            for each in [
                several.submit(fleet.collect, "gated/main"),
                several.submit(fleet.collect, "lower/main", code=3),
                several.submit(fleet.collect, "mine/main", code=3),
            ]
        )

    assert gated["state"] == "complete"
    found = withheld(fleet, "gated/main")
    assert found.keys() == {"teams", "team_members", "audit_records"}
    for state, reason, words in found.values():
        assert (state, reason) == ("unavailable", "plan")
        assert PLAN_WORDS in words
    schedules = Evidence(fleet.runs, "gated/main").manifest()["resources"]["schedules"]
    [(feed, words)] = schedules["withheld"].items()
    assert (schedules["state"], feed) == ("complete", "schedules.shift")
    assert PLAN_WORDS in words
    assert schedules["records"] > 0, "the layer-based ones are there"
    assert "schedules.shift" in fleet.run("run", "show", "gated/main").err
    missing = fleet.refused(3, "artifact", "export", "gated/main", "--resource", "team_members")
    assert "unavailable (plan)" in missing
    assert PLAN_WORDS in missing

    assert lower["state"] == "partial"
    [(name, (state, reason, words))] = withheld(fleet, "lower/main").items()
    assert (name, state, reason) == ("users", "unavailable", "role")
    assert ROLE_WORDS in words
    missing = fleet.refused(3, "artifact", "export", "lower/main", "--resource", "users")
    assert "unavailable (role)" in missing
    assert ROLE_WORDS in missing
    assert_all_true(
        fleet, pagerduty, fleet.runs, "lower/main", "lower", resources=["services", "team_members"]
    )

    assert mine["state"] == "partial"
    assert set(states(mine).values()) == {("partial", "key")}
    assert Evidence(fleet.runs, "mine/main").manifest()["credential"]["kind"] == "user"
    assert_all_true(fleet, pagerduty, fleet.runs, "mine/main", "mine", resources=["incidents"])
    assert fleet.verify("gated/main")["differences"] == []
