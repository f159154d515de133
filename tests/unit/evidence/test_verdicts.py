"""The verdict on each resource of a run, from the readings of its feeds."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tasks.evidence.replay import Evidence
from tasks.evidence.verdicts import state_of, states, vanished, withheld
from tasks.reading.catalog import FEEDS
from tasks.reading.pages import Page
from tasks.reading.plans import Plan
from tasks.reading.proofs import ProofState, Verdict
from tasks.reading.windows import ALL, of
from tests.lists_model import make
from workers.storage import open_storage

PROVED = Verdict(ProofState.PROVED)
GONE = Verdict(ProofState.PROVED, "denied", "Not Found")
VANISHED = Verdict(ProofState.PARTIAL, "vanished", "Not Found")
FAILED = Verdict(ProofState.FAILED, "error", "oh")
UNPROVED = Verdict(ProofState.PARTIAL, "unproved", "it moved")
NO_PLAN = Verdict(ProofState.UNAVAILABLE, "plan", "not in your plan")
NO_ROLE = Verdict(ProofState.UNAVAILABLE, "role", "not for you")


def come_to(plan: Plan, verdicts: dict[str, list[Verdict]]) -> Evidence:
    """Return the evidence of a run whose feeds have *verdicts*. `feed/each` means the calls for each record."""
    with ExitStack() as files:
        evidence = Evidence(plan, open_storage("memory://"), files, None)
    evidence._proved = {segment: list(windows) for segment, windows in plan.windows.items()}
    for name, found in verdicts.items():
        segment, _, each = name.partition("/")
        window = of("P1") if each or not FEEDS[segment].list else ALL
        gathered = evidence.resources[segment.partition(".")[0]]
        parent = {"id": "P1"} if window != ALL else None
        gathered.verdicts += [(Page(segment, window, parent=parent), each_) for each_ in found]
    return evidence


def told(plan: Plan, verdicts: dict[str, list[Verdict]], **how: bool) -> dict[str, tuple[str, str]]:
    """Return the state and reason of each resource of a run whose feeds have *verdicts*."""
    found = states(come_to(plan, verdicts), **how)
    return {name: (str(v.state), v.reason) for name, v in found.items()}


@pytest.mark.parametrize(
    ("verdicts", "state", "reason"),
    [
        ([PROVED], "proved", ""),
        ([PROVED, PROVED, GONE], "proved", ""),
        ([PROVED, UNPROVED], "partial", "unproved"),
        ([UNPROVED], "partial", "unproved"),
        ([PROVED, FAILED], "partial", "error"),
        ([PROVED, NO_PLAN], "partial", "plan"),
        ([PROVED, NO_PLAN, NO_ROLE], "partial", "role"),
        ([FAILED], "failed", "error"),
        ([FAILED, FAILED], "failed", "error"),
        ([NO_PLAN], "unavailable", "plan"),
        ([NO_ROLE], "unavailable", "role"),
        ([NO_PLAN, NO_PLAN], "unavailable", "plan"),
        ([NO_PLAN, NO_ROLE], "unavailable", "role"),
        ([NO_ROLE, NO_PLAN], "unavailable", "role"),
        ([NO_PLAN, FAILED], "failed", "error"),
        ([NO_ROLE, FAILED], "failed", "error"),
    ],
)
def test_the_verdicts_of_windows_decide_the_state_of_a_resource(
    verdicts: list[Verdict], state: str, reason: str
) -> None:
    """The reason `plan` never hides another reason, because the run would then be complete."""
    assert told(make("incidents"), {"incidents": verdicts}) == {"incidents": (state, reason)}


@pytest.mark.parametrize(
    ("teams", "members", "state", "reason"),
    [
        (PROVED, [], "proved", ""),
        (PROVED, [PROVED, VANISHED], "partial", "vanished"),
        (PROVED, [VANISHED], "partial", "vanished"),
        (PROVED, [VANISHED, UNPROVED], "partial", "unproved"),
        (PROVED, [VANISHED, NO_PLAN], "partial", "plan"),
        (UNPROVED, [VANISHED], "partial", "unproved"),
        (PROVED, [PROVED, FAILED], "partial", "error"),
        (UNPROVED, [PROVED], "partial", "unproved"),
        (UNPROVED, [], "partial", "unproved"),
        (UNPROVED, [FAILED], "failed", "error"),
        (FAILED, [], "failed", "error"),
        (NO_PLAN, [], "unavailable", "plan"),
        (NO_ROLE, [], "unavailable", "role"),
    ],
)
def test_a_resource_read_for_another_has_at_most_the_state_of_that_one(
    teams: Verdict, members: list[Verdict], state: str, reason: str
) -> None:
    found = told(make("team_members"), {"teams": [teams], "team_members": members})
    assert found["team_members"] == (state, reason)


SHIFT, SHIFTS = "schedules.shift", "schedules.shift/each"


@pytest.mark.parametrize(
    ("verdicts", "state", "reason", "lacked"),
    [
        ({"schedules": [PROVED], SHIFT: [NO_PLAN]}, "proved", "", [SHIFT]),
        ({"schedules": [PROVED], SHIFT: [PROVED], SHIFTS: [NO_PLAN, NO_PLAN]}, "proved", "", [SHIFT]),
        ({"schedules": [PROVED], SHIFT: [PROVED], SHIFTS: [PROVED, NO_PLAN]}, "partial", "plan", []),
        ({"schedules": [UNPROVED], SHIFT: [NO_PLAN]}, "partial", "unproved", [SHIFT]),
        ({"schedules": [FAILED], SHIFT: [NO_PLAN]}, "failed", "error", [SHIFT]),
        ({"schedules": [NO_ROLE], SHIFT: [NO_PLAN]}, "unavailable", "role", [SHIFT]),
        ({"schedules": [PROVED], SHIFT: [NO_ROLE]}, "partial", "role", []),
        ({"schedules": [PROVED], SHIFT: [FAILED]}, "partial", "error", []),
        ({"schedules": [NO_PLAN], SHIFT: [NO_PLAN]}, "unavailable", "plan", ["schedules", SHIFT]),
        ({"schedules": [PROVED], SHIFT: [PROVED], SHIFTS: [FAILED]}, "partial", "error", []),
    ],
)  # fmt: skip
def test_a_feed_that_the_plan_lacks_is_named_and_does_not_affect_the_other_feeds(
    verdicts: dict[str, list[Verdict]], state: str, reason: str, lacked: list[str]
) -> None:
    plan = make("schedules")
    assert told(plan, verdicts) == {"schedules": (state, reason)}
    assert list(withheld(come_to(plan, verdicts), "schedules")) == lacked


def test_a_known_incident_that_is_denied_makes_nothing_partial_unless_a_list_names_it() -> None:
    evidence = come_to(make("incidents"), {"incidents": [PROVED], "incidents/each": [GONE]})
    assert states(evidence)["incidents"] == PROVED
    assert vanished(evidence, "incidents") == []
    evidence.resources["incidents"].named.add("P1")
    found = states(evidence)["incidents"]
    assert (found.state, found.reason) == (ProofState.PARTIAL, "vanished")
    assert "P1" in found.words
    assert vanished(evidence, "incidents") == ["P1"]


def test_a_user_key_never_proves_a_resource_complete() -> None:
    """This holds even if a list is empty, because the user may not see its records."""
    plan = make("team_members", "services", "users", credential="user")
    verdicts = {"teams": [PROVED], "services": [NO_PLAN], "users": [UNPROVED]}
    assert told(plan, verdicts) == {
        "teams": ("partial", "key"),
        "team_members": ("partial", "key"),
        "services": ("unavailable", "plan"),
        "users": ("partial", "unproved"),
    }


def test_a_refused_key_is_the_reason_of_failed_resources() -> None:
    found = told(make("teams", "users"), {"teams": [FAILED], "users": [PROVED]}, refused=True)
    assert found == {"teams": ("failed", "key"), "users": ("proved", "")}


def test_a_resource_the_catalog_does_not_have_is_failed() -> None:
    assert told(make("users", "gone"), {"users": [PROVED]})["gone"] == ("failed", "error")


def test_a_proved_resource_is_complete() -> None:
    assert state_of(GONE) == "complete"
    assert state_of(NO_ROLE) == "unavailable"
