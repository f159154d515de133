"""Behaviour of the ledger that its script and the model of it could both have wrong."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from redis import Redis

from tests.ledger_model import GIVE_UP, OFFER_LIFE, PAGE_LEASE, SEAL_LEASE
from tests.ledger_schedules import HOUR, START_MS
from workers.state.ledger import Claim, Effect, Ledger, Offer, Opening


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis, "p", now_ms=START_MS)


def lists(*groups: str) -> list[Opening]:
    return [Opening(f"{group}/000000", "", group) for group in groups]


def begin(ledger: Ledger, *groups: str, lanes: int = 4) -> Effect:
    return ledger.open(
        "acme/a", "00000001", lists(*groups), queue="fetch", region="us", lanes=(lanes, 8)
    )


def take(ledger: Ledger, offer: Offer) -> Claim:
    claim = ledger.claim("acme/a", "00000001", offer.page, offer.number, "fetch")
    assert claim
    return claim


def test_a_lost_offer_is_made_again_and_one_in_a_full_queue_is_not(
    ledger: Ledger, redis: Redis
) -> None:
    begin(ledger, "a/all.1")
    redis.rpush("p:fetch", "the message, still waiting")
    ledger.now_ms = START_MS + 10 * OFFER_LIFE
    assert ledger.tend("acme/a").offers == ()
    redis.delete("p:fetch")
    ledger.now_ms += OFFER_LIFE
    assert ledger.tend("acme/a").offers == (Offer("a/all.1/000000", 2),)


def test_an_offer_is_lost_if_a_later_one_was_seen_even_if_the_queue_is_full(
    ledger: Ledger, redis: Redis
) -> None:
    _, later = begin(ledger, "a/all.1", "b/all.1").offers
    redis.rpush("p:fetch", "many messages of others")
    take(ledger, later)
    ledger.now_ms = START_MS + OFFER_LIFE
    assert [offer.page for offer in ledger.tend("acme/a").offers] == ["a/all.1/000000"]


def test_the_first_to_claim_wins_and_the_other_message_is_dropped(ledger: Ledger) -> None:
    (offer,) = begin(ledger, "a/all.1").offers
    take(ledger, offer)
    assert ledger.claim("acme/a", "00000001", offer.page, offer.number, "fetch") is None


def test_a_worker_whose_lease_ended_can_neither_close_nor_give_back(ledger: Ledger) -> None:
    (offer,) = begin(ledger, "a/all.1").offers
    frozen = take(ledger, offer)
    ledger.now_ms = START_MS + PAGE_LEASE
    (again,) = ledger.tend("acme/a").offers
    thawed = [
        ledger.close(frozen, [], resource="x", settle=True),
        ledger.give_back(frozen, why="error", delay_seconds=0, resource="x"),
        ledger.refuse(frozen, resource="x", sent=1),
    ]
    assert [outcome.status for outcome in thawed] == ["stale"] * 3
    assert take(ledger, again).stored, "its answer may be stored"


@pytest.mark.parametrize(
    ("why", "stored"), [("budget", False), ("pagerduty", False), ("paused", False), ("error", True)]
)
def test_storage_is_only_asked_for_a_page_that_may_be_there(
    ledger: Ledger, why: str, stored: bool
) -> None:
    """Each look costs a request to the object store, so pages that were only given back aren't looked for."""
    (offer,) = begin(ledger, "a/all.1").offers
    for _ in range(3):
        claim = take(ledger, offer)
        assert not claim.stored
        (offer,) = ledger.give_back(claim, why="budget", delay_seconds=0, resource="x").offers
    (offer,) = ledger.give_back(take(ledger, offer), why=why, delay_seconds=0, resource="x").offers
    assert take(ledger, offer).stored is stored


def test_an_offer_that_nobody_took_leaves_nothing_in_storage(ledger: Ledger) -> None:
    begin(ledger, "a/all.1")
    ledger.now_ms = START_MS + 30_000
    (again,) = ledger.tend("acme/a").offers
    assert not take(ledger, again).stored


def test_a_page_that_waits_alone_does_not_delay_others(ledger: Ledger) -> None:
    one, other = begin(ledger, "a/all.1", "b/all.1").offers
    ledger.give_back(take(ledger, one), why="budget", delay_seconds=9, resource="x", alone=True)
    assert ledger.progress("acme/a").apart == 1
    (more,) = ledger.close(
        take(ledger, other), [Opening("c/all.1/000000", "", "c/all.1")], resource="x", settle=True
    ).offers
    assert more.page == "c/all.1/000000"
    ledger.now_ms = START_MS + 9_000
    assert [offer.page for offer in ledger.tend("acme/a").offers] == ["a/all.1/000000"]
    assert ledger.progress("acme/a").apart == 0


def test_a_success_does_not_end_a_wait_for_budget(ledger: Ledger) -> None:
    """A request that was under way may succeed, but the rest of the run still has to wait."""
    one, two, three = (
        take(ledger, each) for each in begin(ledger, "a/all.1", "b/all.1", "c/all.1").offers
    )
    ledger.give_back(one, why="budget", delay_seconds=9, resource="x")
    ledger.now_ms = START_MS + 1_000
    ledger.close(two, [], resource="x", sent=1, settle=True)
    progress = ledger.progress("acme/a")
    assert (progress.why, progress.why_at) == ("budget", START_MS + 1_000)
    ledger.now_ms = START_MS + 9_000
    ledger.close(three, [], resource="x", sent=1, settle=True)
    assert not ledger.progress("acme/a").why


def test_no_more_pages_are_in_flight_than_lanes(ledger: Ledger) -> None:
    offers = begin(ledger, *(f"{n}/all.1" for n in range(9)), lanes=2).offers
    assert len(offers) == 2
    grown = ledger.close(take(ledger, offers[0]), [], resource="x", sent=1, settle=True)
    assert len(grown.offers) == 2  # the lane that is free, and one more
    shrunk = ledger.give_back(
        take(ledger, offers[1]), why="error", delay_seconds=9, resource="x", failed=True
    )
    assert shrunk.offers == ()


def test_the_held_page_is_offered_when_the_rest_of_its_pass_is_closed(ledger: Ledger) -> None:
    (first,) = begin(ledger, "a/all.1").offers
    group = "a/all.1"
    followers = [Opening(f"{group}/{n:06d}", "", group, held=n == 300) for n in (100, 200, 300)]
    one, other = ledger.close(take(ledger, first), followers, resource="x", sent=1).offers
    assert [one.page, other.page] == [f"{group}/000100", f"{group}/000200"]
    assert ledger.close(take(ledger, one), [], resource="x", sent=1).offers == ()
    (held,) = ledger.close(take(ledger, other), [], resource="x", sent=1).offers
    assert held.page == f"{group}/000300"
    assert ledger.close(take(ledger, held), [], resource="x", sent=1).status == "last"


def fail(ledger: Ledger, claim: Claim, *, alive: bool, slow: bool = False) -> Effect:
    """Give a failed page back as the fetch task does: probe the source if it isn't known whether it answers."""
    how: Any = {"why": "pagerduty", "delay_seconds": 0, "resource": "x", "sent": 1}
    how |= {"failed": True, "slow": slow, "most": 3 if slow else 8}
    outcome = ledger.give_back(claim, **how)
    if outcome.status != "lonely":
        return outcome
    assert ledger.now_ms is not None
    ledger.now_ms += 1_000
    ledger.probed(claim.source, claim.run, ok=alive, resource="x", sent=1)
    return ledger.give_back(claim, **how, probed=True)


@pytest.mark.parametrize("slow", [False, True])
def test_an_outage_costs_no_attempts(ledger: Ledger, slow: bool) -> None:
    (offer,) = begin(ledger, "a/all.1").offers
    for _ in range(20):
        assert ledger.now_ms is not None
        ledger.now_ms += 60_000
        claim = take(ledger, offer)
        assert claim.attempts == 0
        fail(ledger, claim, alive=False, slow=slow)
        (offer,) = ledger.tend("acme/a").offers or (Offer(claim.page, 99),)


def test_a_page_that_fails_alone_is_given_up_after_eight_attempts(ledger: Ledger) -> None:
    """Its first failure doesn't count. After that each failure counts, because a probe follows each one."""
    outcome, failures = begin(ledger, "a/all.1"), 0
    while outcome.status != "exhausted":
        (offer,) = outcome.offers
        claim = take(ledger, offer)
        assert ledger.now_ms is not None
        ledger.now_ms += 1_000
        outcome = fail(ledger, claim, alive=True)
        failures += 1
        assert failures <= 9
    assert failures == 9
    assert ledger.close(claim, [], resource="x", settle=True, failed=True).seal


def test_a_page_that_is_slow_alone_gets_three_attempts(ledger: Ledger) -> None:
    """Each attempt takes the longest time that a request may take, so the first one counts too."""
    outcome, failures = begin(ledger, "a/all.1"), 0
    while outcome.status != "exhausted":
        (offer,) = outcome.offers
        claim = take(ledger, offer)
        outcome = fail(ledger, claim, alive=True, slow=True)
        failures += 1
        assert failures <= 3
    assert failures == 3


def test_a_page_whose_source_is_being_probed_stays_with_its_worker(ledger: Ledger) -> None:
    """It stays for another lease, and no other page is offered in its place."""
    (first, *_) = begin(ledger, "a/all.1", "b/all.1", lanes=1).offers
    claim = take(ledger, first)
    assert ledger.now_ms is not None
    ledger.now_ms += 39_000
    how: Any = {"why": "pagerduty", "delay_seconds": 0, "resource": "x", "failed": True}
    assert ledger.give_back(claim, **how, slow=True, most=3).status == "lonely"
    ledger.now_ms += 39_000
    assert ledger.tend("acme/a").offers == ()
    assert ledger.give_back(claim, **how, slow=True, most=3, probed=True).status == "back"


def test_a_key_refused_before_anything_was_read_ends_the_run(ledger: Ledger) -> None:
    offers = begin(ledger, "a/all.1", "b/all.1").offers
    outcome = ledger.refuse(take(ledger, offers[0]), resource="x", sent=1)
    assert outcome.seal
    assert ledger.progress("acme/a").verdict == "refused"


def test_a_key_refused_later_suspends_the_run_until_a_probe_succeeds(
    ledger: Ledger, redis: Redis
) -> None:
    first, second = begin(ledger, "a/all.1", "b/all.1").offers
    ledger.close(take(ledger, first), [], resource="x", sent=1, settle=True)
    assert not ledger.refuse(take(ledger, second), resource="x", sent=1).seal
    waits = []
    for _ in range(6):
        due = redis.zscore("p:due", "acme/a")
        assert due
        assert ledger.now_ms
        waits.append(int(due - ledger.now_ms) // 60_000)
        ledger.now_ms = int(due)
        assert ledger.tend("acme/a").task == "probe"
        ledger.probed("acme/a", "00000001", ok=False, resource="x", sent=1)
    assert waits == [1, 2, 4, 8, 15, 15]
    assert [o.page for o in ledger.probed(
        "acme/a", "00000001", ok=True, resource="x", sent=1).offers] == ["b/all.1/000000"]  # fmt: skip


def test_a_refused_key_suspends_a_reopened_run_because_it_may_have_read_pages_before(
    ledger: Ledger,
) -> None:
    opened = ledger.open("acme/a", "00000001", lists("a/all.1"), queue="fetch", region="us",
                         lanes=(4, 8), reopened=True)  # fmt: skip
    assert not ledger.refuse(take(ledger, opened.offers[0]), resource="x", sent=1).seal
    assert ledger.progress("acme/a").hold == "key"


def live_a_day(ledger: Ledger, most: int = 10) -> None:
    """Tick every five minutes for a day."""
    assert ledger.now_ms
    until = ledger.now_ms + GIVE_UP
    while ledger.now_ms < until:
        ledger.take(most)
        ledger.now_ms += 300_000


def test_a_run_without_any_success_for_a_day_is_sealed_as_it_stands(ledger: Ledger) -> None:
    begin(ledger, "a/all.1")
    live_a_day(ledger)
    assert ledger.take(10) == ["acme/a"]
    assert ledger.tend("acme/a").task == "seal"
    assert ledger.progress("acme/a").verdict == "silent"


def test_no_run_is_given_up_for_a_time_without_a_fleet(ledger: Ledger) -> None:
    """If the fleet was down or paused, the run hasn't had a chance yet."""
    begin(ledger, "a/all.1")
    ledger.take(10)
    ledger.now_ms = START_MS + 2 * GIVE_UP
    ledger.take(10)
    assert ledger.tend("acme/a").task is None
    live_a_day(ledger, most=0)
    ledger.take(10)
    assert ledger.tend("acme/a").task is None
    live_a_day(ledger)
    assert ledger.tend("acme/a").task == "seal"


def test_a_paused_source_is_never_given_up(ledger: Ledger) -> None:
    begin(ledger, "a/all.1")
    ledger.hold("acme/a", "paused")
    for _ in range(3):
        live_a_day(ledger)
        assert ledger.tend("acme/a").task is None
    assert ledger.resume("acme/a").offers


def test_a_run_that_waits_for_its_seal_is_not_looked_at_without_end(
    ledger: Ledger, redis: Redis
) -> None:
    (offer,) = begin(ledger, "a/all.1").offers
    ledger.close(take(ledger, offer), [], resource="x", sent=1, settle=True)
    ledger.now_ms = START_MS + 2 * GIVE_UP
    ledger.tend("acme/a")
    assert (redis.zscore("p:due", "acme/a") or 0) > ledger.now_ms
    assert not ledger.progress("acme/a").verdict


def test_progress_says_since_when_the_oldest_page_waits(ledger: Ledger) -> None:
    """A repeated offer counts from the first one. A claim, or the end of a claim, starts a new wait."""
    first, _ = begin(ledger, "a/all.1", "b/all.1").offers
    ledger.now_ms = START_MS + OFFER_LIFE
    assert len(ledger.tend("acme/a").offers) == 2, "both offers were lost"
    claim = take(ledger, Offer(first.page, 3))
    ledger.now_ms += 500
    found = ledger.progress("acme/a")
    assert (found.offered, found.offered_at) == (1, START_MS)
    assert (found.claimed, found.claimed_at) == (1, START_MS + OFFER_LIFE)
    assert found.now == START_MS + OFFER_LIFE + 500
    assert found.look_at == START_MS + 2 * OFFER_LIFE
    ledger.close(claim, [], resource="x", sent=1, settle=True)
    ledger.close(take(ledger, Offer("b/all.1/000000", 4)), [], resource="x", settle=True)
    assert ledger.seal("acme/a", "00000001", "one")
    ledger.now_ms += SEAL_LEASE
    assert ledger.seal("acme/a", "00000001", "other")
    found = ledger.progress("acme/a")
    assert (found.offered_at, found.claimed_at) == (None, None)
    assert (found.pages, found.empty_at) == (0, START_MS + OFFER_LIFE + 500)
    assert found.seals == 2
    ledger.finish("acme/a", "00000001", START_MS, "ended")
    assert ledger.progresses(["acme/b", "acme/a"]) == [
        ledger.progress("acme/b"), ledger.progress("acme/a")]  # fmt: skip
    assert ledger.progress("acme/a").due_at == START_MS


def test_pages_foreseen_are_counted_until_they_are_open(ledger: Ledger) -> None:
    (offer,) = ledger.open("acme/a", "00000001", [Opening("a/all.1/000000", "", "a/all.1", unsure=True)],
                           queue="fetch", region="us", lanes=(4, 8)).offers  # fmt: skip
    assert ledger.progress("acme/a").unsure["a"] == 1
    more = Opening("a/all.1/000100", "", "a/all.1")
    (last,) = ledger.close(take(ledger, offer), [more], resource="x", sent=1, ahead=150).offers
    found = ledger.progress("acme/a")
    assert (found.unsure["a"], found.ahead["a"]) == (0, 150)
    ledger.close(take(ledger, last), [], resource="x", sent=1, settle=True, ahead=0)
    assert ledger.progress("acme/a").ahead["a"] == 0


def test_tasks_of_many_sources_are_taken_longest_due_first(ledger: Ledger) -> None:
    for n in range(5):
        ledger.schedule(f"acme/{n}", START_MS - n)
    assert ledger.take(2) == ["acme/4", "acme/3"]
    assert ledger.take(9) == ["acme/2", "acme/1", "acme/0"]
    assert ledger.take(9) == []


def test_absurd_waits_and_clocks_set_back_do_not_delay_a_run_for_long(ledger: Ledger) -> None:
    for clock in (START_MS, START_MS - HOUR):
        ledger.now_ms = START_MS
        (offer,) = begin(ledger, "a/all.1").offers
        ledger.give_back(take(ledger, offer), why="budget", delay_seconds=10**9, resource="x")
        ledger.now_ms = clock
        ledger.tend("acme/a")
        ledger.now_ms = clock + 120_000
        assert [offer.page for offer in ledger.tend("acme/a").offers] == ["a/all.1/000000"]
        ledger.finish("acme/a", "00000001", None, "")


@pytest.mark.parametrize(
    ("dated", "ahead"),
    [
        ((-900, -100), -100),  # a second that was cut, then one that wasn't
        ((-100, -900), -100),
        ((-100, -2_900, 0), 0),  # an answer that took long to be stored
        ((60_000, 0), 0),  # a clock that was set back
    ],
)
def test_the_newest_date_is_taken_for_the_clock_of_the_answers(
    ledger: Ledger, dated: tuple[int, ...], ahead: int
) -> None:
    """A run reads up to that time. If it is too early, records are missing until the next run."""
    offers = begin(ledger, *(f"{letter}/all.1" for letter in "abcd")).offers
    for offer, off in zip(offers, dated, strict=False):
        ledger.close(
            take(ledger, offer), [], resource="x", sent=1, settle=True, date_ms=ledger.now_ms + off
        )
    assert ledger.time("acme/a").ahead_ms == ahead


PARTS = ("run", "pages", "ready", "later", "offered", "claimed", "groups")


@pytest.mark.parametrize("size", range(1, len(PARTS) + 1))
def test_a_run_that_lost_any_part_to_eviction_is_due_again_and_is_not_sealed(
    ledger: Ledger, redis: Redis, size: int
) -> None:
    """The remaining parts prove nothing. Without its pages, a run would look as if it had read them all."""
    tried = 0
    for lost in combinations(PARTS, size):
        redis.flushall()
        offers = begin(ledger, *(f"{letter}/all.1" for letter in "abcdefghijkl")).offers
        claim = take(ledger, offers[0])
        ledger.give_back(
            take(ledger, offers[1]), why="budget", delay_seconds=9, resource="x", alone=True
        )
        assert all(redis.exists(f"p:{part}:acme/a") for part in PARTS), "each part is there"
        redis.delete(*(f"p:{part}:acme/a" for part in lost))
        assert bool(ledger.progress("acme/a").run) is ("run" not in lost)
        assert not ledger.seal("acme/a", "00000001", "sealer")
        assert ledger.close(claim, [], resource="x", settle=True).status == "stale"
        assert ledger.tend("acme/a").task == "plan"
        assert not any(redis.exists(f"p:{part}:acme/a") for part in PARTS)
        assert begin(ledger, "a/all.1").status == "opened"
        tried += 1
    assert tried


def test_a_late_report_of_the_end_of_an_older_run_changes_nothing(
    ledger: Ledger, redis: Redis
) -> None:
    """A worker that restores a run may be slower than the run that follows."""
    newer = '{"run": "00000002"}'
    ledger.finish("acme/a", "00000002", START_MS + 9_000, newer)
    ledger.finish("acme/a", "00000001", START_MS, '{"run": "00000001"}')
    assert ledger.lasts(["acme/a"]) == [newer]
    assert redis.zscore("p:schedule", "acme/a") == START_MS + 9_000
    ledger.finish("acme/a", "00000002", None, newer)
    assert redis.zscore("p:schedule", "acme/a") is None
