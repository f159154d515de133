"""The simulator's rate limits: tables of times, and the requests that are admitted then."""

import pytest

from simulator.accounts import KeySpec
from simulator.limits import Limits, Standing

KEY = KeySpec("key", limit=3, oncalls_limit=1)


def spend(
    limits: Limits, *moments: float, key: KeySpec = KEY, shape: str = "fixed"
) -> list[Standing]:
    """Judge a request at each moment."""
    return [limits.judge(key, "bucket", shape, "/users", at) for at in moments]  # type: ignore[arg-type]  # any shape


def fixed_from(now: float, minute_seconds: float = 60) -> tuple[Limits, KeySpec]:
    """Return limits whose first window starts at *now*."""
    return Limits(minute_seconds), KeySpec("key", limit=3, first_reset_seconds=minute_seconds)


def test_a_fixed_window_admits_its_limit_and_refuses_the_rest() -> None:
    """The fourth request of a window of three is refused, and says when the window ends."""
    limits, key = fixed_from(1_000)
    told = spend(limits, 1_000, 1_000.5, 1_030.2, 1_030.4, 1_059.9, key=key)
    assert [s.admitted for s in told] == [True, True, True, False, False]
    assert [s.remaining for s in told] == [2, 1, 0, 0, 0]
    assert [s.reset_seconds for s in told] == [60, 60, 30, 30, 1]


def test_a_fixed_window_gives_everything_back_at_its_end() -> None:
    """`remaining` returns to the limit in the next window. Refusals cost nothing."""
    limits, key = fixed_from(1_000)
    spend(limits, *[1_000] * 10, key=key)
    assert spend(limits, 1_060.001, key=key)[0].remaining == 2


def test_a_sliding_window_gives_requests_back_one_by_one() -> None:
    """Each request can be used again a minute after it was admitted."""
    told = spend(Limits(60), 0, 10, 20, 30, 60.1, 61, shape="sliding")
    assert [s.admitted for s in told] == [True, True, True, False, True, False]
    assert told[3].reset_seconds == 30


def test_a_compressed_minute_shortens_window_and_header() -> None:
    """If a minute lasts six seconds, the header counts down from six."""
    limits, key = fixed_from(0, 6)
    told = spend(limits, 0, 1, 2, 3, 6.5, key=key)
    assert [s.admitted for s in told] == [True, True, True, False, True]
    assert told[0].reset_seconds == 6


def test_the_server_chooses_the_phase_of_its_windows() -> None:
    """Unless the first reset is set, the server chooses when the window ends. It is always the same for a key."""
    resets = {spend(Limits(60), 1_000)[0].reset_seconds for _ in range(3)}
    assert len(resets) == 1
    assert 1 <= resets.pop() <= 60


def test_others_may_spend_most_of_a_minute() -> None:
    """After a number of requests, the customer's own tools use up most of a minute once."""
    key = KeySpec("key", limit=10, others_after=2, others_leave=1, others_reset_seconds=5)
    told = spend(Limits(60), 100, 100, 101, 102, 106.1, 107, key=key)
    assert [s.admitted for s in told] == [True, True, True, False, True, True]
    assert [(s.remaining, s.reset_seconds) for s in told[2:]] == [(0, 5), (0, 4), (9, 60), (8, 59)]


def test_oncalls_has_a_further_limit_and_shows_the_nearer_one() -> None:
    """/oncalls is refused by its own bucket while other paths go on."""
    limits, key = Limits(60), KeySpec("key", limit=100, oncalls_limit=1, first_reset_seconds=60)
    first, second = (limits.judge(key, "bucket", "fixed", "/oncalls", at) for at in (0, 1))
    assert (first.admitted, first.limit, first.remaining) == (True, 1, 0)
    assert not second.admitted
    assert limits.judge(key, "bucket", "fixed", "/users", 2).admitted


def test_the_worst_minute_is_over_any_span_not_over_windows() -> None:
    """Two full windows one after the other count as twice the limit within one minute."""
    limits, key = Limits(60), KeySpec("key", limit=3, first_reset_seconds=2)
    spend(limits, 58, 58, 58, 61, 61, 61, key=key)
    assert limits.windows["bucket"].worst == 6
    limits.reset_counts()
    assert limits.windows["bucket"].worst == 6  # these are still within the last minute


@pytest.mark.parametrize("remaining", [0, 7])
def test_headers_are_whole_numbers(remaining: int) -> None:
    """The three headers have plain digits, and reset is in seconds."""
    names = dict(Standing(True, 960, remaining, 17).headers())
    assert names == {
        "ratelimit-limit": "960", "ratelimit-remaining": str(remaining), "ratelimit-reset": "17",
    }  # fmt: skip
