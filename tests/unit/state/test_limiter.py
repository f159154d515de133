"""The limiter's law, one sentence at a time, on a clock that the test sets."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import pytest
from redis import Redis

from simulator.accounts import KeySpec
from simulator.limits import Limits
from workers.state.limiter import Limiter, Permit

MINUTE = 60.0


@dataclass(frozen=True)
class Answer:
    """The limit headers of a server."""

    status: int | None = 200
    limit: int | None = None
    remaining: int | None = None
    reset_seconds: int | None = None


class Desk:
    """A limiter whose clock moves only when the test, or a sleep, moves it."""

    def __init__(self, redis: Redis) -> None:
        self.now = 1_800_000_000.0
        self.on_sleep: Callable[[], object] = lambda: None
        self.limiter = Limiter(redis, "p", sleep=self.sleep, now_ms=lambda: round(self.now * 1000))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()

    def reserve(self, share: float = 0.1, patience: float = 2.0) -> Permit:
        return self.limiter.reserve("b", reserve_share=share, patience_seconds=patience)

    def acquire(self, share: float = 0.1) -> Permit:
        return self.limiter.acquire("b", reserve_share=share)

    def answer(self, permit: Permit, *said: int | None) -> None:
        self.limiter.observe(permit, Answer(*said))

    def seeded(self, *, limit: int = 960, used: int = 1, reset: int = 60) -> "Desk":
        self.answer(self.reserve(), 200, limit, limit - used, reset)
        return self

    def take(self, share: float = 0.1) -> int:
        """Take all requests that are granted at this moment, and return their number."""
        return next(taken for taken in count() if not self.reserve(share, patience=0).granted)


@pytest.fixture
def desk(redis: Redis) -> Desk:
    return Desk(redis)


def test_the_first_request_goes_alone_until_its_answer_seeds_the_budget(desk: Desk) -> None:
    seed, other = desk.reserve(), desk.reserve()
    assert (seed.granted, seed.reason) == (True, "seed")
    assert (other.granted, other.reason) == (False, "seed")
    desk.answer(seed, 200, 960, 959, 60)
    assert desk.reserve().granted


def test_a_seed_that_is_never_answered_holds_the_others_for_three_seconds(desk: Desk) -> None:
    desk.reserve()
    assert desk.reserve().retry_after_seconds == 3.0
    desk.now += 3.0
    assert desk.reserve().reason == "seed"


def test_a_seed_that_failed_lets_the_next_request_seed_at_once(desk: Desk) -> None:
    desk.answer(desk.reserve(), None)
    assert desk.reserve().reason == "seed"


def test_a_budget_without_an_answer_for_a_minute_is_seeded_again(desk: Desk) -> None:
    desk.seeded()
    desk.now += MINUTE
    assert desk.reserve().reason == "seed"


def test_the_waiters_for_a_seed_go_as_soon_as_it_is_answered(desk: Desk) -> None:
    seed = desk.reserve()
    desk.on_sleep = lambda: desk.answer(seed, 200, 960, 959, 60)
    permit = desk.acquire()
    assert permit.granted
    assert permit.waited_seconds < 0.1


def test_an_idle_budget_grants_a_burst_of_an_eighth_of_the_limit(desk: Desk) -> None:
    assert 1 + desk.seeded().take() == 120


def test_after_the_burst_requests_are_paced_at_the_ceiling(desk: Desk) -> None:
    desk.seeded().take()
    waits = [desk.reserve(0.1).wait_seconds for _ in range(10)]
    assert waits == pytest.approx([i * MINUTE / 864 for i in range(1, 11)], abs=0.005)


@pytest.mark.parametrize(
    ("share", "most"), [(0.0, 940), (0.02, 940), (0.1, 864), (0.5, 480), (0.9, 96)]
)
def test_a_minute_holds_no_more_than_the_limit_less_reserve(
    desk: Desk, share: float, most: int
) -> None:
    taken = 1
    desk.seeded()
    for second in range(60):
        taken += desk.take(share)
        if second < 59:
            desk.now += 1
    assert taken == most


def test_a_wait_beyond_the_patience_debits_nothing_and_says_when_to_ask_again(desk: Desk) -> None:
    desk.seeded().take()
    before = desk.limiter.state("b", reserve_share=0.1)
    refused = [desk.reserve(patience=0.01) for _ in range(5)]
    assert {permit.granted for permit in refused} == {False}
    assert len({permit.retry_after_seconds for permit in refused}) == 1
    assert desk.limiter.state("b", reserve_share=0.1).used == before.used
    desk.now += refused[0].retry_after_seconds
    assert desk.reserve(patience=0).granted


@pytest.mark.parametrize("limit", [100, 5000])
def test_another_limit_is_learned_from_the_headers(desk: Desk, limit: int) -> None:
    desk.seeded(limit=limit)
    assert desk.limiter.state("b", reserve_share=0.1).ceiling == limit * 9 // 10


def test_foreign_requests_are_taken_from_the_reserve_first(desk: Desk) -> None:
    desk.seeded(used=61)
    assert desk.limiter.state("b", reserve_share=0.1).foreign == 60
    assert desk.limiter.state("b", reserve_share=0.1).ceiling == 864
    assert desk.limiter.state("b", reserve_share=0.0).ceiling == 940 - 60 - 7


def test_foreign_use_is_forgotten_when_the_window_of_the_server_turns(desk: Desk) -> None:
    desk.seeded(used=901, reset=14)
    assert desk.limiter.state("b", reserve_share=0.1).ceiling == 10
    desk.take()
    assert desk.reserve().retry_after_seconds == 14.0
    desk.now += 14
    assert desk.limiter.state("b", reserve_share=0.1).ceiling == 864
    assert desk.reserve().reason == "seed"


def test_a_refusal_pauses_every_process_until_the_reset_and_a_little_longer(desk: Desk) -> None:
    desk.seeded()
    desk.answer(desk.reserve(), 429, 960, 0, 30)
    permit = desk.reserve()
    assert (permit.granted, permit.reason) == (False, "pause")
    assert 30 <= permit.retry_after_seconds < 31


def test_a_pause_is_never_shortened(desk: Desk) -> None:
    desk.seeded()
    first, second = desk.reserve(), desk.reserve()
    desk.answer(first, 429, 960, 0, 30)
    desk.answer(second, 429, 960, 0, 1)
    desk.answer(second, 200, 960, 900, 60)
    assert desk.reserve().retry_after_seconds >= 30


@pytest.mark.parametrize("reset", [121, 86_400, 10**9])
def test_no_header_pauses_for_more_than_two_minutes(desk: Desk, reset: int) -> None:
    desk.seeded()
    desk.answer(desk.reserve(), 429, 960, 0, reset)
    assert desk.reserve().retry_after_seconds == 120


def test_refusals_without_headers_back_off_doubling_up_to_a_minute(desk: Desk) -> None:
    desk.seeded()
    pauses = []
    for _ in range(8):
        while not (permit := desk.reserve()).granted or permit.wait_seconds:
            desk.now += permit.wait_seconds
        desk.answer(permit, 429)
        pauses.append(desk.limiter.state("b", reserve_share=0).paused_seconds)
    doubling = [1, 2, 4, 8, 16, 32, 60, 60]
    assert all(0 <= pause - base < 1 for pause, base in zip(pauses, doubling, strict=True))


def test_requests_refused_together_are_one_reason_to_back_off(desk: Desk) -> None:
    desk.seeded()
    for permit in [desk.reserve() for _ in range(8)]:
        desk.answer(permit, 429)
    assert desk.reserve(patience=9).wait_seconds < 2


def test_a_success_ends_the_back_off(desk: Desk) -> None:
    desk.seeded()
    desk.answer(desk.reserve(), 429)
    desk.now += 2
    desk.answer(desk.reserve(), 429)
    desk.now += 3
    desk.answer(desk.reserve(), 201)
    desk.answer(desk.reserve(), 429)
    assert desk.reserve(patience=9).wait_seconds < 2


def test_a_remainder_that_requests_on_their_way_will_use_up_pauses_until_the_reset(
    desk: Desk,
) -> None:
    desk.seeded(used=100)
    first, *_ = [desk.reserve() for _ in range(8)]
    desk.answer(first, 200, 960, 7, 60)
    assert 60 <= desk.reserve().retry_after_seconds < 61


def test_an_answer_older_than_the_newest_one_teaches_nothing(desk: Desk) -> None:
    desk.seeded()
    old, new = desk.reserve(), desk.reserve()
    desk.answer(new, 201, 960, 950, 60)
    desk.answer(old, 201, 960, 1, 60)
    assert desk.limiter.state("b", reserve_share=0).foreign < 10
    assert desk.reserve().granted


def test_a_late_answer_from_a_window_that_is_over_teaches_nothing(desk: Desk) -> None:
    desk.seeded(reset=3)
    late, next_one = desk.reserve(), desk.reserve()
    desk.now += 4
    desk.answer(next_one, 201, 960, 959, 60)
    desk.answer(desk.reserve(), 201, 960, 2, 1)
    desk.answer(late, 201, 960, 2, 1)
    assert desk.reserve().granted


def test_a_ticket_from_before_redis_was_emptied_teaches_nothing(desk: Desk, redis: Redis) -> None:
    desk.seeded()
    old = [desk.reserve() for _ in range(50)][-1]
    redis.flushall()
    desk.answer(old, 201, 960, 1, 60)
    assert desk.reserve().reason == "seed"
    desk.answer(old, 201, 960, 1, 60)
    assert not desk.reserve().granted
    desk.now += 3
    desk.seeded()
    desk.answer(desk.reserve(), 201, 960, 900, 60)
    state = desk.limiter.state("b", reserve_share=0)
    assert (state.foreign, state.paused_seconds) == (58, 0)


def test_a_permit_is_void_when_a_pause_opened_while_its_holder_slept(desk: Desk) -> None:
    desk.seeded().take()
    held = desk.reserve()
    desk.answer(held, 429, 960, 0, 30)
    desk.now += held.wait_seconds
    assert not desk.limiter.confirm(held)


def test_a_permit_not_used_two_seconds_after_its_slot_is_void(desk: Desk) -> None:
    permit = desk.seeded().reserve()
    desk.now += 2
    assert desk.limiter.confirm(permit)
    desk.now += 0.001
    assert not desk.limiter.confirm(permit)


def test_acquire_gives_up_when_a_pause_opens_while_it_sleeps(desk: Desk) -> None:
    desk.seeded()
    sent = desk.reserve()
    desk.take()
    desk.on_sleep = lambda: desk.answer(sent, 429, 960, 0, 30)
    permit = desk.acquire()
    assert not permit.granted
    assert permit.retry_after_seconds >= 29


def test_acquire_sleeps_until_its_slot_and_says_how_long(desk: Desk) -> None:
    desk.seeded().take()
    permit = desk.acquire()
    assert permit.granted
    assert permit.waited_seconds == permit.wait_seconds > 0


@pytest.mark.parametrize("step", [-9.0, -3600.0, -400 * 86400.0, 3600.0])
def test_a_step_of_the_clock_blocks_nobody_for_more_than_a_window(desk: Desk, step: float) -> None:
    desk.seeded().take()
    desk.answer(desk.reserve(), 429, 960, 0, 30)
    desk.now += step
    waited = 0.0
    while not (permit := desk.reserve()).granted:
        waited += permit.retry_after_seconds
        desk.now += permit.retry_after_seconds
    assert waited <= 120


def test_after_a_step_back_requests_that_were_sent_still_count(desk: Desk) -> None:
    desk.seeded()
    sent = 1 + desk.take()
    desk.now -= 3600
    desk.reserve()
    assert desk.limiter.state("b", reserve_share=0).used >= sent


def of_class(desk: Desk, patience: float = 0) -> Permit:
    return desk.limiter.acquire(
        "b", reserve_share=0.1, patience_seconds=patience, endpoint_class="oncalls"
    )


@pytest.mark.parametrize("said", [(429, 10, 0, 60), (429, None, None, None)])
def test_a_class_that_is_refused_leaves_the_main_budget_alone(
    desk: Desk, said: tuple[int | None, ...]
) -> None:
    """The refusal has the headers of the class's limit, or no headers."""
    desk.seeded()
    desk.answer(of_class(desk), *said)
    used = desk.limiter.state("b", reserve_share=0).used
    refused = [of_class(desk) for _ in range(5)]
    assert {(permit.budget, permit.granted, permit.reason) for permit in refused} == {
        ("b-oncalls", False, "pause")
    }
    assert desk.limiter.state("b", reserve_share=0).used == used, "no wait holds a main permit"
    assert desk.limiter.state("b", reserve_share=0).limit == 960
    assert desk.reserve(patience=0).granted


def test_a_request_of_a_class_counts_in_both_budgets(desk: Desk) -> None:
    desk.answer(of_class(desk), 200, 120, 119, 60)
    desk.answer(of_class(desk), 200, 120, 118, 60)
    main, own = (desk.limiter.state(name, reserve_share=0) for name in ("b", "b-oncalls"))
    assert (main.used, main.limit, main.foreign) == (2, 960, 0)
    assert (own.used, own.limit, own.foreign) == (2, 120, 0)


def test_an_answer_with_the_headers_of_the_main_limit_teaches_that_one(desk: Desk) -> None:
    """The server shows the headers of the limit that is nearest to being hit."""
    desk.seeded()
    desk.answer(of_class(desk), 200, 120, 119, 60)
    desk.answer(of_class(desk), 200, 960, 950, 60)
    main, own = (desk.limiter.state(name, reserve_share=0) for name in ("b", "b-oncalls"))
    assert (main.limit, main.foreign) == (960, 7)
    assert (own.limit, own.foreign) == (120, 0)
    assert of_class(desk).granted
    desk.answer(of_class(desk), 429, 960, 0, 30)
    assert (desk.reserve().reason, of_class(desk).budget) == ("pause", "b")


@pytest.mark.parametrize("shape", ["fixed", "sliding"])
def test_a_class_and_the_rest_use_both_limits_whole_without_a_refusal(
    desk: Desk, shape: Literal["fixed", "sliding"]
) -> None:
    """The server shows the nearer of its two limits, for three minutes."""
    limits, key, sent = Limits(MINUTE), KeySpec("key", oncalls_limit=60), Counter[str]()
    ends = desk.now + 3 * MINUTE
    while desk.now < ends:
        for path, name, patience in (("/oncalls", "oncalls", 0.2), ("/users", "", 0)):
            how: Any = {"reserve_share": 0.1, "patience_seconds": patience, "endpoint_class": name}
            while (permit := desk.limiter.acquire("b", **how)).granted:
                said = limits.judge(key, "k", shape, path, desk.now)
                assert said.admitted, f"a request was refused after {sent}"
                sent[path] += 1
                desk.answer(permit, 200, said.limit, said.remaining, said.reset_seconds)
        desk.now += 0.1
    assert sent["/oncalls"] > 0.9 * 3 * 54
    assert sent.total() > 0.9 * 3 * 864


def test_a_class_gets_the_wait_for_the_main_budget_too(desk: Desk) -> None:
    desk.seeded().take()
    desk.answer(of_class(desk), 200, 120, 119, 60)
    permit = of_class(desk, patience=2)
    assert permit.granted
    assert permit.further
    assert permit.waited_seconds == permit.wait_seconds > permit.further.wait_seconds == 0


def test_a_main_budget_without_room_uses_up_nothing_of_a_class(desk: Desk) -> None:
    desk.seeded().take()
    desk.answer(of_class(desk, patience=2), 200, 120, 119, 60)
    desk.now += 0.07  # the next slot is paced
    used = desk.limiter.state("b-oncalls", reserve_share=0).used
    desk.take()
    refused = [of_class(desk) for _ in range(5)]
    assert {(permit.budget, permit.granted) for permit in refused} == {("b", False)}
    assert refused[0].retry_after_seconds > 0
    assert desk.limiter.state("b-oncalls", reserve_share=0).used == used
    desk.now += refused[0].retry_after_seconds
    assert of_class(desk).granted


def test_answers_that_teach_little_are_not_all_reported(desk: Desk, redis: Redis) -> None:
    desk.seeded()
    calls = redis.info("stats")["total_commands_processed"]
    permit = desk.reserve()
    for _ in range(100):
        desk.answer(permit, 200, 960, 900, 60)
    assert redis.info("stats")["total_commands_processed"] - calls < 60


def test_the_longest_reported_wait_is_remembered(desk: Desk) -> None:
    desk.seeded().take()
    desk.answer(desk.reserve(), 429, 960, 0, 30)
    told = desk.reserve().retry_after_seconds
    assert desk.limiter.state("b", reserve_share=0).longest_wait_seconds == told


def test_a_refused_request_waits_as_long_as_the_refusal_says(desk: Desk) -> None:
    desk.seeded()
    desk.answer(desk.reserve(), 429, 960, 0, 30)
    assert desk.limiter.state("b", reserve_share=0).longest_wait_seconds >= 30


def test_the_memory_of_a_budget_expires(desk: Desk, redis: Redis) -> None:
    desk.seeded().reserve()
    keys = redis.keys("p:limiter:*")
    assert len(keys) == 2
    assert all(0 < redis.pttl(key) <= 3_600_000 for key in keys)


def foreign_minute(desk: Desk) -> None:
    """Send one request every two seconds for a minute; other programs send 290 meanwhile."""
    for turn in range(30):
        used = turn + 1 + 290 * turn // 29
        desk.answer(desk.reserve(), 201, 400, 400 - used, 60 - 2 * turn)
        desk.now += 2


def test_foreign_requests_of_a_window_are_only_expected_in_the_next_one(desk: Desk) -> None:
    foreign_minute(desk)
    desk.answer(desk.reserve(), 201, 400, 399, 60)
    assert desk.limiter.state("b", reserve_share=0).foreign == pytest.approx(300, abs=10)
    for _ in range(30):
        desk.now += 2
        desk.answer(desk.reserve(), 200)
    desk.answer(desk.reserve(), 201, 400, 399, 60)
    assert desk.limiter.state("b", reserve_share=0).foreign == 0


def used_up_by_others(desk: Desk, *, ours: int) -> float:
    """Let others use up the rest of a minute at once; return how long we then wait."""
    desk.seeded(reset=30)
    permits = [desk.reserve() for _ in range(ours - 1)]
    desk.answer(permits[-1], 429, 960, 0, 30)
    began = desk.now
    while not (permit := desk.reserve()).granted:
        desk.now += permit.retry_after_seconds
    assert permit.reason == "seed"
    desk.answer(permit, 200, 960, 959, 60)
    return desk.now - began


@pytest.mark.parametrize(("ours", "most"), [(2, 31), (70, 31), (100, 60)])
def test_a_minute_that_others_used_up_does_not_cost_the_next_one(
    desk: Desk, ours: int, most: float
) -> None:
    """They are expected again, but some requests are left to us, to see whether the others come back."""
    assert used_up_by_others(desk, ours=ours) <= most
    state = desk.limiter.state("b", reserve_share=0)
    assert (state.foreign, state.ceiling, state.paused_seconds) == (840, 71, 0)


def test_others_who_used_a_part_of_a_minute_are_expected_to_use_that_part(desk: Desk) -> None:
    desk.seeded(reset=30)
    for _ in range(20):
        for _ in range(14):
            sent = desk.reserve()
        desk.now += 1
    desk.answer(sent, 200, 960, 960 - 281, 10)
    desk.answer(desk.reserve(), 429, 960, 0, 10)
    while not (permit := desk.reserve()).granted:
        desk.now += permit.retry_after_seconds
    desk.answer(permit, 200, 960, 959, 60)
    assert desk.limiter.state("b", reserve_share=0).foreign == 960 - 282


def test_others_who_do_not_come_back_are_expected_for_a_quarter_of_the_minute(desk: Desk) -> None:
    used_up_by_others(desk, ours=10)
    desk.now += 15
    desk.answer(desk.reserve(), 201, 960, 958, 45)
    assert desk.limiter.state("b", reserve_share=0.1).ceiling < 100
    desk.now += 0.5
    desk.answer(desk.reserve(), 201, 960, 957, 45)
    assert desk.limiter.state("b", reserve_share=0.1).ceiling == 864


def test_nobody_waits_longer_than_foreign_use_is_expected(desk: Desk) -> None:
    """This holds even if the new window's first answer says nothing about it."""
    desk.seeded(reset=30)
    turns = desk.now + 30
    desk.answer(desk.reserve(), 429, 960, 0, 30)
    while not (permit := desk.reserve()).granted:
        desk.now += permit.retry_after_seconds
    desk.answer(permit, 503)
    desk.now = turns + 30  # requests from before the turn have left the window
    desk.take()
    assert desk.limiter.state("b", reserve_share=0).ceiling == 71
    assert desk.now + desk.reserve(patience=0.01).retry_after_seconds == turns + MINUTE


def test_requests_that_others_will_need_until_the_turn_are_left_to_them(desk: Desk) -> None:
    foreign_minute(desk)
    desk.answer(desk.reserve(), 201, 400, 399, 60)
    for _ in range(40):
        desk.reserve()
        desk.now += 1
    ours = 42
    for others, paused in [(193, False), (228, True)]:  # 114 to come, give or take 21
        desk.answer(desk.reserve(), 201, 400, 400 - ours - others, 20)
        ours += 1
        assert (desk.limiter.state("b", reserve_share=0).paused_seconds > 0) == paused
