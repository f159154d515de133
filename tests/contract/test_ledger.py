"""The ledger's script does the same as a small model of it, in any order of events."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.ledger_model import GIVE_UP, OFFER_LIFE, PAGE_LEASE, SEAL_LEASE, Model
from workers.state.ledger import PAGE_QUEUES, Claim, Effect, Ledger, Offer, Opening

START_MS = 1_800_000_000_000
SOURCES = ("acme/a", "acme/b")
HOUR = 3_600_000


@dataclass(frozen=True)
class Message:
    """A message on its way to a worker."""

    source: str
    run: str
    page: str
    number: int
    queue: str


@dataclass
class Both:
    """Does every step on the script and on the model, and compares everything that is visible."""

    redis: Any  # the stubs don't say that its replies are bytes
    dice: random.Random
    now: int = START_MS
    messages: list[Message] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.redis.flushall()
        self.ledger = Ledger(self.redis, "p", now_ms=self.now)
        self.model = Model(self.now)

    def one(self, step: Callable[[Both], None]) -> None:
        before = {source: self.dump(source) for source in SOURCES}
        self.stale = False
        step(self)
        self.compare()
        self.hold_together()
        if self.stale:
            after = {source: self.dump(source) for source in SOURCES}
            assert after == before, "a token that isn't current changes nothing"

    def same(self, source: str, run: str, found: Effect, expected: Effect) -> Effect:
        assert replace(found, became="") == expected  # only metrics use this word
        for offer in found.offers:
            self.messages.append(Message(source, run, offer.page, offer.number, found.queue))
            self.redis.rpush(f"p:{found.queue}", f"{offer.number}")
            self.model.length[found.queue] += 1
        self.stale = found.status == "stale"
        return found

    def gone(self, message: Message) -> None:
        self.messages.remove(message)
        self.redis.lpop(f"p:{message.queue}")
        self.model.length[message.queue] -= 1

    def run_of(self, source: str) -> str:
        """Return the id of the open run, or sometimes that of a run that isn't open."""
        run = self.model.runs.get(source)
        return run.id if run and self.dice.random() < 0.9 else "00000000"

    def group(self) -> str:
        self.made += 1
        return f"g{self.made}/all.1"

    def look(self, source: str) -> int | None:
        """Return when the script will look at *source* next."""
        score = self.redis.zscore("p:due", source)
        return None if score is None else int(score)

    def dump(self, source: str) -> dict[str, Any]:
        """Return everything that the script stores about a source's run."""
        names = ("run", "pages", "ready", "later", "offered", "claimed", "groups")
        kept = {name: self.redis.dump(f"p:{name}:{source}") for name in names}
        return kept | {"due": self.redis.zscore("p:due", source)}

    def pages(self, source: str) -> dict[str, dict[str, Any]]:
        return {
            name.decode(): orjson.loads(text)
            for name, text in self.redis.hgetall(f"p:pages:{source}").items()
        }

    def places(self, source: str) -> dict[str, list[tuple[str, int]]]:
        """Return the place of each page: the sorted sets that have it, with its scores."""
        found: dict[str, list[tuple[str, int]]] = {name: [] for name in self.pages(source)}
        for state in ("ready", "later", "offered", "claimed"):
            for name, score in self.redis.zrange(f"p:{state}:{source}", 0, -1, withscores=True):
                found[name.decode()].append((state, int(score)))
        return found

    def compare(self) -> None:
        queues = {k.decode(): int(v) for k, v in self.redis.hgetall("p:queues").items()}
        for queue in PAGE_QUEUES:
            assert queues.get(f"{queue}:offered", 0) == self.model.offered[queue]
            assert queues.get(f"{queue}:seen", 0) == self.model.seen[queue]
        for source in SOURCES:
            self.compare_run(source)

    def compare_run(self, source: str) -> None:
        run, found = self.model.runs.get(source), self.ledger.progress(source)
        assert found.due_at == self.model.schedules.get(source)
        assert self.look(source) == self.model.due.get(source)
        assert (self.ledger.lasts([source])[0] or "") == self.model.last[source]
        if run is None:
            assert not found.run
            return
        expected = {
            "run": run.id,
            "hold": run.hold,
            "verdict": run.verdict,
            "lanes": run.lanes,
            "closed": run.closed,
            "wait_until": run.wait_until,
            "success_at": run.success_at,
            "seal_at": run.seal_at,
            "why": run.why,
            "why_at": run.why_at,
        }
        assert {k: getattr(found, k) or type(v)() for k, v in expected.items()} == expected
        assert found.requests.get("x", 0) == run.requests["x"]
        entries, places = self.pages(source), self.places(source)
        assert set(entries) == set(run.pages)
        for name, page in run.pages.items():
            score = page.sequence if page.state == "ready" else page.at
            assert places[name] == ([] if page.state == "held" else [(page.state, score)])
            entry = entries[name]
            assert entry["s"] == page.sequence
            assert (entry.get("t", ""), entry.get("a", 0)) == (page.token, page.attempts)
            assert (entry.get("r", 0), entry.get("o", 0)) == (page.requests, page.offers)

    def hold_together(self) -> None:
        """Check that the ledger agrees with itself, without the model."""
        for source in SOURCES:
            entries, places = self.pages(source), self.places(source)
            groups = self.redis.hgetall(f"p:groups:{source}")
            sizes = Counter(entry["g"] for entry in entries.values())
            counts = {k.decode(): int(v) for k, v in groups.items() if not k.startswith(b"held:")}
            assert counts == sizes
            for name, entry in entries.items():
                assert len(places[name]) == (0 if entry.get("h") else 1), "it is in one state"
                if entry.get("h"):
                    assert sizes[entry["g"]] > 1, "held without another open page"
                assert bool(entry.get("t")) == (places[name][:1] != [] and
                                                places[name][0][0] == "claimed")  # fmt: skip
            assert self.redis.hexists("p:open", source) == self.redis.exists(f"p:run:{source}")
            if self.redis.exists(f"p:run:{source}"):
                held = sum("h" in entry for entry in entries.values())
                counts = self.redis.hmget(f"p:run:{source}", "open", "held")
                assert [int(n or 0) for n in counts] == [len(entries), held]
                look, run = self.look(source), self.ledger.progress(source)
                unsure = Counter(n.partition("/")[0] for n, e in entries.items() if e.get("u"))
                counted = {feed: count for feed, count in run.unsure.items() if count}
                assert counted == unsure or not entries
                apart = [name for name, entry in entries.items() if entry.get("b")]
                assert run.apart == len(apart)
                assert {places[name][0][0] for name in apart} <= {"later"}
                assert look is not None, "an open run is always looked at again"
                assert look <= self.now + GIVE_UP


# Steps: each does one thing to the script and to the model.

Step = Callable[[Both], None]


def opens(source: str, lists: int, lanes: int, *, reopened: bool, hold: str) -> Step:
    def step(both: Both) -> None:
        groups = [both.group() for _ in range(lists)]
        pages = [Opening(f"{group}/000000", "", group, unsure=True) for group in groups]
        both.made += 1
        run = f"{both.made:08d}"
        given: dict[str, Any] = {
            "queue": PAGE_QUEUES[both.made % 2],
            "lanes": (min(lanes, 4), max(lanes, 4)),
            "reopened": reopened,
        }
        found = both.ledger.open(source, run, pages, region="us", hold=hold or None, **given)
        both.same(source, run, found, both.model.open(source, run, pages, hold=hold, **given))

    return step


def delivers(which: int, *, keeps: bool) -> Step:
    """A message arrives. If it is kept, it will arrive again."""

    def step(both: Both) -> None:
        if not both.messages:
            return
        message = both.messages[which % len(both.messages)]
        if not keeps:
            both.gone(message)
        claim = both.ledger.claim(
            message.source, message.run, message.page, message.number, message.queue
        )
        expected = both.model.claim(
            message.source,
            message.run,
            message.page,
            message.number,
            message.queue,
            claim.token if claim else "-",
        )
        assert (claim and (claim.attempts, claim.requests, claim.stored)) == expected
        if claim:
            both.claims.append(claim)

    return step


def loses(which: int) -> Step:
    def step(both: Both) -> None:
        if both.messages:
            both.gone(both.messages[which % len(both.messages)])

    return step


def closes(which: int, how: str, sent: int, *, settle: bool, failed: bool, date: int) -> Step:
    def step(both: Both) -> None:
        if not both.claims:
            return
        claim = both.claims[-1 - which % len(both.claims)]
        group, number = claim.page.rsplit("/", 1)
        run = both.model.runs.get(claim.source)
        waits = any(page.state == "held" for page in run.members(group)) if run else False
        followers = follow(both, how, group, int(number), holds=not waits)
        given: dict[str, Any] = {
            "sent": sent,
            "settle": settle,
            "supersede": how == "again",
            "failed": failed,
        }
        when = both.now + date if date else None
        found = both.ledger.close(claim, followers, resource="x", date_ms=when, **given)
        expected = both.model.close(*names(claim), followers, date=when, **given)
        both.same(claim.source, claim.run, found, expected)

    return step


def follow(both: Both, how: str, group: str, number: int, *, holds: bool) -> list[Opening]:
    """Return the pages that a page opens: more of its list, its next pass, other lists, or none.

    *holds*: the last page of the list is held. A list never has two pages that wait for each other.
    """
    match how:
        case "more":
            last = number + 2 + both.dice.randrange(3)
            return [
                Opening(f"{group}/{n:06d}", "", group, held=holds and n == last, unsure=n % 2 == 0)
                for n in range(number + 1, last + 1)
            ]
        case "again":
            stem, _, pass_ = group.rpartition(".")
            following = f"{stem}.{int(pass_) + 1}"
            return [Opening(f"{following}/000000", "", following, delay_seconds=1.5)]
        case "lists":
            return [Opening(f"{g}/000000", "", g) for g in (both.group(), both.group())]
    return []


def names(claim: Claim) -> tuple[str, str, str, str]:
    return claim.source, claim.run, claim.page, claim.token


def gives_back(which: int, why: str, delay: int, sent: int, **how: Any) -> Step:
    def step(both: Both) -> None:
        if not both.claims:
            return
        claim = both.claims[-1 - which % len(both.claims)]
        how.update(why=why, sent=sent)
        found = both.ledger.give_back(claim, delay_seconds=delay, resource="x", **how)
        expected = both.model.give_back(*names(claim), delay=delay * 1000, **how)
        both.same(claim.source, claim.run, found, expected)

    return step


def renews(which: int) -> Step:
    def step(both: Both) -> None:
        if both.claims:
            claim = both.claims[-1 - which % len(both.claims)]
            renewed = both.ledger.renew(claim)
            assert renewed == both.model.renew(*names(claim))
            both.stale = not renewed

    return step


def refuses(which: int) -> Step:
    def step(both: Both) -> None:
        if both.claims:
            claim = both.claims[-1 - which % len(both.claims)]
            found = both.ledger.refuse(claim, resource="x", sent=1)
            both.same(claim.source, claim.run, found, both.model.refuse(*names(claim)))

    return step


def probes(source: str, *, ok: bool) -> Step:
    def step(both: Both) -> None:
        run = both.run_of(source)
        found = both.ledger.probed(source, run, ok=ok, resource="x", sent=1)
        both.same(source, run, found, both.model.probed(source, run, ok=ok))

    return step


def orders(source: str, what: str) -> Step:
    """A person holds, resumes or cancels a run."""

    def step(both: Both) -> None:
        run, (ledger, model) = both.run_of(source), (both.ledger, both.model)
        match what:
            case "hold":
                both.same(source, run, ledger.hold(source, "paused"), model.hold(source, "paused"))
            case "resume":
                both.same(source, run, ledger.resume(source), model.resume(source))
            case "cancel":
                both.same(source, run, ledger.cancel(source, run), model.cancel(source, run))

    return step


def schedules(source: str, delay: int | None) -> Step:
    def step(both: Both) -> None:
        at = None if delay is None else both.now + delay
        both.same(source, "", both.ledger.schedule(source, at), both.model.schedule(source, at))

    return step


def ticks(most: int) -> Step:
    def step(both: Both) -> None:
        taken = both.ledger.take(most)
        assert taken == both.model.take(most)
        for source in taken:
            found, expected = both.ledger.tend(source), both.model.tend(source)
            both.same(source, found.run, found, expected)

    return step


def seals(source: str, token: str) -> Step:
    def step(both: Both) -> None:
        run = both.run_of(source)
        assert both.ledger.seal(source, run, token) == both.model.seal(source, run, token)

    return step


def finishes(source: str, delay: int | None) -> Step:
    def step(both: Both) -> None:
        run = both.run_of(source)
        at = None if delay is None else both.now + delay
        found = both.ledger.finish(source, run, at, f"{run} ended")
        both.same(source, run, found, both.model.finish(source, run, at, f"{run} ended"))

    return step


def crowds(queue: str, messages: int) -> Step:
    """Let so many messages of other sources wait in *queue*."""

    def step(both: Both) -> None:
        both.redis.delete(f"p:{queue}")
        if messages:
            both.redis.rpush(f"p:{queue}", *range(messages))
        both.model.length[queue] = messages

    return step


def passes(ms: int) -> Step:
    def step(both: Both) -> None:
        both.now += ms
        both.ledger.now_ms = both.model.now = both.now

    return step


_which = st.integers(0, 5)
_source = st.sampled_from(SOURCES)
_delay = st.sampled_from([None, 0, 5_000, 100_000])
_holds = st.sampled_from(["", "", "", "paused"])
_follow = st.sampled_from(["more", "more", "more", "none", "none", "again", "lists"])
_dates = st.sampled_from([0, 0, -300, 5_000, 6_000])
STEPS = st.one_of(
    st.builds(
        opens, _source, st.integers(1, 6), st.integers(1, 8), reopened=st.booleans(), hold=_holds
    ),
    *[st.builds(delivers, _which, keeps=st.booleans())] * 4,
    st.builds(loses, _which),
    *[
        st.builds(
            closes,
            _which,
            _follow,
            st.integers(0, 2),
            settle=st.booleans(),
            failed=st.sampled_from([False, False, False, True]),
            date=_dates,
        )
    ]
    * 4,
    st.builds(
        gives_back,
        _which,
        st.sampled_from(["budget", "error"]),
        st.sampled_from([0, 2, 50, 10**9]),
        st.integers(0, 1),
        failed=st.booleans(),
        slow=st.booleans(),
        most=st.sampled_from([2, 8]),
        probed=st.booleans(),
        alone=st.booleans(),
    ),
    st.builds(renews, _which),
    st.builds(refuses, _which),
    st.builds(probes, _source, ok=st.booleans()),
    st.builds(orders, _source, st.sampled_from(["hold", "resume", "resume", "cancel"])),
    st.builds(schedules, _source, _delay),
    *[st.builds(ticks, st.sampled_from([0, 1, 200, 200]))] * 3,
    st.builds(seals, _source, st.sampled_from(["s1", "s2"])),
    st.builds(crowds, st.sampled_from(["plan", "seal"]), st.sampled_from([0, 99, 100])),
    st.builds(finishes, _source, _delay),
    st.builds(passes, st.sampled_from([1, 900, 5_000, OFFER_LIFE, PAGE_LEASE, SEAL_LEASE])),
    st.builds(passes, st.sampled_from([0, 1_000, 11_000, HOUR, GIVE_UP])),
)
SCHEDULES = st.lists(STEPS, min_size=5, max_size=50)

many = settings(
    max_examples=200,
    deadline=None,
    # Each example empties Redis itself, and a round trip to it takes a while.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@many
@given(SCHEDULES, st.integers(0, 99))
def test_script_and_model_agree_on_any_schedule(redis: Redis, steps: list[Step], seed: int) -> None:
    """This holds whatever workers, clocks, messages and people do, in any order."""
    both = Both(redis, random.Random(seed))
    both.one(opens(SOURCES[0], 3, 4, reopened=False, hold=""))
    for step in steps:
        both.one(step)


@many
@given(SCHEDULES, st.integers(0, 99))
def test_nothing_is_ever_stuck(redis: Redis, steps: list[Step], seed: int) -> None:
    """From any state, ticks and successful workers bring every run to its end."""
    both = Both(redis, random.Random(seed))
    both.one(opens(SOURCES[0], 3, 4, reopened=False, hold=""))
    for step in steps:
        both.one(step)
    both.messages.clear()
    for queue in (*PAGE_QUEUES, "plan", "seal"):
        redis.delete(f"p:{queue}")
    both.model.length.clear()
    both.claims.clear()
    for source in SOURCES:
        both.one(orders(source, "resume"))
    for _ in range(200):
        if not both.model.runs:
            break
        work(both)
    assert both.model.runs == {}


def work(both: Both) -> None:
    """Go to the next due time, and do everything that is due."""
    both.one(passes(max(0, min(both.model.due.values()) - both.now)))
    both.one(ticks(200))
    while both.messages:
        both.one(delivers(0, keeps=False))
    for _ in range(len(both.claims)):
        for settle in (False, True):  # the last page of a group has to close a second time
            both.one(closes(0, "none", 1, settle=settle, failed=False, date=0))
        both.claims.pop()
    for source, run in list(both.model.runs.items()):
        if not run.pages and both.ledger.seal(source, run.id, "last"):
            assert both.model.seal(source, run.id, "last")
            found = both.ledger.finish(source, run.id, None, "")
            both.same(source, run.id, found, both.model.finish(source, run.id, None, ""))


# Behaviour that model and script could both have wrong.


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
