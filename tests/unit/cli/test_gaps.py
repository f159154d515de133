"""The sentences about the gaps of a run."""

from dataclasses import replace
from typing import Any

import pytest

from tasks.cli.gaps import sentences
from tasks.evidence.outcomes import Gap, ResourceOutcome

WHOLE = ResourceOutcome(state="partial", reason="", words="", records=0, requests=0)


def told(**gaps: Any) -> list[str]:
    return list(sentences({"schedules": replace(WHOLE, **gaps)}))


def test_a_resource_without_gaps_gets_no_sentence() -> None:
    assert told() == []


def test_a_list_that_the_plan_lacks_is_named_unless_the_state_says_so() -> None:
    lacked = {"schedules.shift": "Required abilities are unavailable"}
    [sentence] = told(withheld=lacked)
    assert "plan lacks schedules.shift" in sentence
    assert told(withheld=lacked, reason="plan") == []


@pytest.mark.parametrize(
    ("reason", "words"), [("retention", "PagerDuty had deleted it"), ("backlog", "later runs"), ("unread", "")]
)  # fmt: skip
def test_a_period_that_nothing_proves_is_named_with_its_reason(reason: str, words: str) -> None:
    """The state and reason of a resource already show a plain failure."""
    gap = Gap("2024-01-01T00:00:00Z", "2025-12-01T00:00:00Z", reason)
    said = told(outside=[gap])
    assert len(said) == bool(words)
    assert all(words in each and "2024-01-01" in each and "2025-12-01" in each for each in said)


def test_the_first_five_vanished_records_are_named() -> None:
    [sentence] = told(vanished=[f"P{n}" for n in range(7)])
    assert "P0, P1, P2, P3, P4 and 2 more" in sentence
    assert "P5" not in sentence


def test_incidents_that_are_denied_are_named_once() -> None:
    assert "P1" in told(denied=["P1"])[0]
    assert len(told(denied=["P1"], vanished=["P1"])) == 1
