"""Schedules of events for a ledger: steps that its script and the model of it take together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from hypothesis import strategies as st

from tests.ledger_model import GIVE_UP, OFFER_LIFE, PAGE_LEASE, SEAL_LEASE, Model
from workers.state.ledger import PAGE_QUEUES, Claim, Effect, Ledger, Opening
from workers.state.progress import Progress

START_MS = 1_800_000_000_000
HOUR = 3_600_000
SOURCES = ("acme/a", "acme/b")
STATES = ("ready", "later", "offered", "claimed")


@dataclass(frozen=True)
class Message:
    """A message on its way to a worker."""

    source: str
    run: str
    page: str
    number: int
    queue: str


@dataclass(frozen=True)
class Kept:
    """What the script stores about the run of a source."""

    entries: dict[str, dict[str, Any]]  # by the names of pages
    places: dict[str, list[tuple[str, int]]]  # the sorted sets that have a page, with its scores
    groups: dict[str, int]
    listed: bool  # among the open runs
    exists: bool
    counts: list[int]  # of open and of held pages
    look: int | None  # when the script will look at the source next


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
        before = self.dump()
        self.stale = False
        step(self)
        self.compare()
        if self.stale:
            assert self.dump() == before, "a token that isn't current changes nothing"

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

    def dump(self) -> list[Any]:
        """Return everything that the script stores about the runs of the sources."""
        with self.redis.pipeline(transaction=False) as pipe:
            for source in SOURCES:
                for name in ("run", "pages", *STATES, "groups"):
                    pipe.dump(f"p:{name}:{source}")
                pipe.zscore("p:due", source)
            return list(pipe.execute())

    def kept(self, source: str) -> Kept:
        """Read what the script stores about a source, in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(f"p:pages:{source}")
            pipe.hgetall(f"p:groups:{source}")
            pipe.hexists("p:open", source)
            pipe.exists(f"p:run:{source}")
            pipe.hmget(f"p:run:{source}", "open", "held")
            pipe.zscore("p:due", source)
            for state in STATES:
                pipe.zrange(f"p:{state}:{source}", 0, -1, withscores=True)
            pages, groups, listed, exists, counts, look, *states = pipe.execute()
        places: dict[str, list[tuple[str, int]]] = {name.decode(): [] for name in pages}
        for state, members in zip(STATES, states, strict=True):
            for name, score in members:
                places[name.decode()].append((state, int(score)))
        return Kept(
            entries={name.decode(): orjson.loads(text) for name, text in pages.items()},
            places=places,
            groups={k.decode(): int(v) for k, v in groups.items() if not k.startswith(b"held:")},
            listed=bool(listed),
            exists=bool(exists),
            counts=[int(number or 0) for number in counts],
            look=None if look is None else int(look),
        )

    def compare(self) -> None:
        queues = {k.decode(): int(v) for k, v in self.redis.hgetall("p:queues").items()}
        for queue in PAGE_QUEUES:
            assert queues.get(f"{queue}:offered", 0) == self.model.offered[queue]
            assert queues.get(f"{queue}:seen", 0) == self.model.seen[queue]
        for source in SOURCES:
            kept, found = self.kept(source), self.ledger.progress(source)
            self.compare_run(source, kept, found)
            self.hold_together(kept, found)

    def compare_run(self, source: str, kept: Kept, found: Progress) -> None:
        run = self.model.runs.get(source)
        assert found.due_at == self.model.schedules.get(source)
        assert kept.look == self.model.due.get(source)
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
        entries, places = kept.entries, kept.places
        assert set(entries) == set(run.pages)
        for name, page in run.pages.items():
            score = page.sequence if page.state == "ready" else page.at
            assert places[name] == ([] if page.state == "held" else [(page.state, score)])
            entry = entries[name]
            assert entry["s"] == page.sequence
            assert (entry.get("t", ""), entry.get("a", 0)) == (page.token, page.attempts)
            assert (entry.get("r", 0), entry.get("o", 0)) == (page.requests, page.offers)

    def hold_together(self, kept: Kept, run: Progress) -> None:
        """Check that the ledger agrees with itself, without the model."""
        entries, places = kept.entries, kept.places
        sizes = Counter(entry["g"] for entry in entries.values())
        assert kept.groups == sizes
        for name, entry in entries.items():
            assert len(places[name]) == (0 if entry.get("h") else 1), "it is in one state"
            if entry.get("h"):
                assert sizes[entry["g"]] > 1, "held without another open page"
            assert bool(entry.get("t")) == (
                places[name][:1] != [] and places[name][0][0] == "claimed"
            )
        assert kept.listed == kept.exists
        if kept.exists:
            held = sum("h" in entry for entry in entries.values())
            assert kept.counts == [len(entries), held]
            unsure = Counter(n.partition("/")[0] for n, e in entries.items() if e.get("u"))
            counted = {feed: count for feed, count in run.unsure.items() if count}
            assert counted == unsure or not entries
            apart = [name for name, entry in entries.items() if entry.get("b")]
            assert run.apart == len(apart)
            assert {places[name][0][0] for name in apart} <= {"later"}
            assert kept.look is not None, "an open run is always looked at again"
            assert kept.look <= self.now + GIVE_UP


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
