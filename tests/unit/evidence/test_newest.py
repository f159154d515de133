"""The newest run is found by asking for the next run after a number, so history and its gaps cost nothing."""

import random

import pytest

from tasks.evidence.erasures import Purged, last_number
from workers.storage import open_storage

SOURCE = "acme/main"


class Numbers:
    """Numbers of runs. Each request names a number and gets the next one. The requests are counted."""

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = numbers
        self.asked = 0

    def after(self, number: int) -> int | None:
        self.asked += 1
        return min((each for each in self._numbers if each > number), default=None)


@pytest.mark.parametrize("known", [0, 1, 4, 9, 10, 11, 5_000])
@pytest.mark.parametrize(
    "numbers", [[], [1], [1, 2], [10], [7, 8, 9, 10], [1, 2, 3, 10], [1, 4_000, 4_001]]
)
def test_the_last_number_is_found_wherever_the_search_begins(
    numbers: list[int], known: int
) -> None:
    """This holds if the first runs are gone, if some are missing, and if the known number never existed."""
    assert last_number(Numbers(numbers).after, known) == max(numbers, default=None)


def test_gaps_do_not_mislead_the_search() -> None:
    chance = random.Random(8)
    for _ in range(300):
        numbers = sorted(chance.sample(range(1, 2_000), chance.randrange(1, 60)))
        known = chance.choice([0, chance.randrange(1, 2_500), numbers[-1]])
        assert last_number(Numbers(numbers).after, known) == numbers[-1]


@pytest.mark.parametrize(("known", "most"), [(0, 30), (9_999, 4), (10_000, 2)])
def test_ten_thousand_numbers_need_few_requests(known: int, most: int) -> None:
    numbers = Numbers(list(range(1, 10_001)))
    assert last_number(numbers.after, known) == 10_000
    assert numbers.asked <= most


def test_only_runs_count() -> None:
    """Other objects before, between and after the runs are skipped."""
    storage = open_storage("memory://")
    for name in ("00000000", "00000001", "00000001x", "00000002", "000000021", "9", "notes"):
        storage.put_new(f"{SOURCE}/runs/{name}/plan.json", b"")
    purged = Purged(storage, SOURCE)
    assert list(purged.oldest_first()) == purged.stored == ["00000001", "00000002"]
    assert {purged.newest(known) for known in ("", "00000001", "00000002", "00000007")} == {
        "00000002"
    }


def test_the_largest_number_ends_the_search() -> None:
    storage = open_storage("memory://")
    storage.put_new(f"{SOURCE}/runs/99999999/plan.json", b"")
    assert Purged(storage, SOURCE).newest() == "99999999"
