"""A renamed account is told from another account by the records that it lists."""

from collections.abc import Sequence
from typing import Any

import pytest

from tasks.accounts.renaming import Likeness, compare
from tests.unit.accounts.test_examining import NO_ROLE, Answers, ok
from tests.unit.evidence.test_exports import SOURCE, Runs


def people(*names: str, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"PU{first + n}", "name": name} for n, name in enumerate(names)]


def evidence(*records: Sequence[dict[str, Any]]) -> Runs:
    """Return runs that read users, one run for each list."""
    runs = Runs("users")
    for each in records:
        runs.seal("complete", *each)
    return runs


def likeness(runs: Runs, listed: Sequence[dict[str, Any]]) -> Likeness:
    return compare(runs.storage, SOURCE, Answers({"us/users": ok({"users": listed})}), "us")


def test_the_same_records_are_the_same_account() -> None:
    runs = evidence(people("Ann", "Bob"), people("Ann", "Bob", "Cy"))
    found = likeness(runs, people("Ann", "Bob", "Cy", "new"))
    assert found == Likeness("00000002", 4, 3, 3)
    assert found.convinces
    assert "3 of 4 users" in str(found)


def test_the_newest_reading_counts() -> None:
    found = likeness(evidence(people("Ann"), people("Anne")), people("Anne"))
    assert (found.same, found.convinces) == (1, True)


@pytest.mark.parametrize(
    "listed",
    [
        people("Ann", "Bob", "Cy", first=100),  # PagerDuty gives no id twice
        people("Xi", "Yo", "Zed"),  # and if it did, the names would differ
        people("Ann", *(f"other {n}" for n in range(9))),
        [],
    ],
)
def test_other_records_are_another_account(listed: list[dict[str, Any]]) -> None:
    assert not likeness(evidence(people("Ann", "Bob", "Cy")), listed).convinces


def test_lists_that_the_evidence_lacks_are_not_requested() -> None:
    ask = Answers({"us/users": ok({"users": people("Ann")})})
    compare(evidence(people("Ann")).storage, SOURCE, ask, "us")
    assert [path for path, _ in ask.asked] == ["us/users"]


def test_a_list_that_may_not_be_read_shows_nothing() -> None:
    ask = Answers({"us/users": NO_ROLE})
    assert compare(evidence(people("Ann")).storage, SOURCE, ask, "us").listed == 0


@pytest.mark.parametrize(
    ("listed", "known", "same", "convinces"),
    [(1, 1, 1, True), (2, 2, 1, False), (100, 3, 3, True), (100, 2, 2, False), (100, 9, 4, False),
     (0, 0, 0, False)],
)  # fmt: skip
def test_three_equal_records_are_enough_unless_most_differ(
    listed: int, known: int, same: int, convinces: bool
) -> None:
    assert Likeness("00000001", listed, known, same).convinces is convinces
