"""Chains of confirmed renamings."""

from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest

from workers.storage.renamings import Renaming, away_from, leads

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def chain(*names: str) -> tuple[Renaming, ...]:
    pairs = pairwise(names)
    return tuple(Renaming(old, new, AT, "ann@host", "3 of 3") for old, new in pairs)


@pytest.mark.parametrize(
    ("names", "subdomain", "steps"),
    [
        (["a", "b"], "a", ["a b"]),
        (["a", "b", "c"], "a", ["a b", "b c"]),
        (["a", "b", "c"], "b", ["b c"]),
        (["a", "b", "c"], "c", []),
        (["a", "b", "a"], "a", []),
        (["a", "b", "a", "c"], "a", ["a c"]),
        ([], "a", []),
    ],
)
def test_a_plan_names_renamings_since_the_last_manifest(
    names: list[str], subdomain: str, steps: list[str]
) -> None:
    found = away_from(chain(*names), subdomain)
    assert [f"{each.old} {each.new}" for each in found] == steps
    assert leads(found, subdomain, names[-1] if names else subdomain)


def test_renamings_lead_nowhere_else() -> None:
    assert not leads(chain("a", "b"), "a", "c")
    assert not leads(chain("a", "b"), "b", "b")
    assert not leads((), "a", "b")


def test_a_renaming_is_read_back_as_it_was_written() -> None:
    (made,) = chain("a", "b")
    assert msgspec.json.decode(msgspec.json.encode(made), type=Renaming) == made
