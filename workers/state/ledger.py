"""The open pages of each run, and when each source must be looked at next. Page ids are opaque here.

The script `ledger.lua` does the work, with one call per step. This module gives its operations names and types. None of
this has to survive: if Redis loses a run, the run is opened again from storage.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import orjson
from redis import Redis

from workers.decoding import decode
from workers.state.progress import Progress, read_progress

PAGE_QUEUES = ("fetch", "backfill")
_LISTS = (*PAGE_QUEUES, "plan", "seal")
_STILL_CLAIMED = ("last", "exhausted", "lonely")
_MANY = 200
"""Sources asked for in one round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long things may take before the tick looks again, in seconds."""

    page_lease: float = 40.0  # longer than any page may take
    # The fields below are in the order that the script expects.
    offer_lost: float = 30.0
    probe_first: float = 60.0
    probe_most: float = 900.0
    give_up: float = 86_400.0
    seal_lease: float = 60.0


@dataclass(frozen=True, slots=True)
class Opening:
    """A page to open: an id that begins with `group/`, and the payload for its worker."""

    id: str
    payload: str
    group: str
    held: bool = False  # not offered while its group has another open page
    delay_seconds: float = 0.0
    unsure: bool = False  # its answer tells how many pages follow


class Offer(NamedTuple):
    """A message to publish: the page, and its number in the queue."""

    page: str
    number: int


@dataclass(frozen=True, slots=True)
class Effect:
    """The result of an operation, and the messages that its caller must publish."""

    status: str
    offers: tuple[Offer, ...] = ()
    queue: str = ""
    seal: bool = False
    task: Literal["plan", "seal", "probe"] | None = None
    run: str = ""
    became: str = ""  # one word for the fate of a page that left its worker's hands


@dataclass(frozen=True, slots=True)
class Claim:
    """A page in this worker's hands until its lease ends."""

    source: str
    run: str
    page: str
    token: str
    payload: str
    attempts: int
    requests: int  # sent for this page before
    stored: bool  # an answer may be stored already
    at_ms: int = 0  # time of the claim, by Redis's clock


@dataclass(frozen=True, slots=True)
class Clock:
    """Redis's time in ms, how far PagerDuty's clock is ahead of it, and the last tick (None: not known)."""

    now_ms: int
    ahead_ms: int | None
    tick_ms: int | None

    @property
    def now(self) -> datetime:
        """The time in whole seconds."""
        return datetime.fromtimestamp(self.now_ms // 1000, UTC)


class Ledger:
    """The open runs of all sources. Every method is one atomic script call."""

    def __init__(
        self, redis: Redis, prefix: str, times: Times | None = None, *, now_ms: int | None = None
    ) -> None:
        self._lease, *self._times = map(_ms, astuple(times or Times()))
        self._redis = redis
        self._prefix = prefix
        self._script = redis.register_script(
            files(__package__).joinpath("ledger.lua").read_text("utf-8")
        )
        self.now_ms = now_ms  # only tests set it, to control the clock

    def open(
        self,
        source: str,
        run: str,
        pages: Iterable[Opening],
        *,
        queue: str,
        region: str,
        lanes: tuple[int, int],
        reopened: bool = False,
        hold: str | None = None,
    ) -> Effect:
        """Open *run* with its first pages: `opened`, or `joined` with the id of the run that is open already."""
        return self._do(
            "open",
            source,
            run=run,
            pages=list(pages),
            queue=queue,
            region=region,
            lanes=lanes[0],
            lanes_max=lanes[1],
            reopened=reopened,
            hold=hold,
        )

    def claim(self, source: str, run: str, page: str, number: int, queue: str) -> Claim | None:
        """Take an offered page until its lease ends; None means that the message is out of date: drop it."""
        token = secrets.token_hex(8)
        given = {"number": number, "queue": queue, "lease": self._lease}
        reply = self._call("claim", source, run=run, page=page, token=token, **given)
        if reply.pop("status") != "claimed":
            return None
        return Claim(source, run, page, token, **reply)

    def renew(self, claim: Claim) -> bool:
        """Keep a claimed page for another lease; False if the caller no longer holds it."""
        renewed = self._do("renew", claim.source, **_fence(claim), lease=self._lease)
        return renewed.status == "renewed"

    def give_back(
        self,
        claim: Claim,
        *,
        why: str,
        delay_seconds: float,
        resource: str,
        sent: int = 0,
        failed: bool = False,
        slow: bool = False,
        most: int | None = None,
        probed: bool = False,
        alone: bool = False,
    ) -> Effect:
        """Give a page back: `back` or `stale`. With `lonely` or `exhausted` the caller still holds the page.

        The whole run waits, unless the page *failed* or only this page waits (*alone*). An answer may have been stored
        only if *why* is "error", a fault of ours.

        A failure counts as an attempt only if the source answered since the page's last failure. If it didn't, only a
        probe can tell a dead page from a dead source. The status is then `lonely`: send a probe and call again with
        *probed*. A page's first failure needs no probe unless it was *slow*. `exhausted` means that the page has had
        *most* attempts.
        """
        return self._with_claim(
            "give_back",
            claim,
            why=why,
            delay=_ms(delay_seconds),
            resource=resource,
            sent=sent,
            failed=failed,
            slow=slow,
            most=most,
            probed=probed,
            alone=alone,
            stored=why == "error",
            lease=self._lease,
        )

    def close(
        self,
        claim: Claim,
        followers: Iterable[Opening],
        *,
        resource: str,
        sent: int = 0,
        settle: bool = False,
        supersede: bool = False,
        failed: bool = False,
        date_ms: int | None = None,
        ahead: int | None = None,
    ) -> Effect:
        """Close a page and open its followers: `closed`, `last` (see ledger.lua) or `stale`.

        *ahead* is the number of further pages expected of its feed; None leaves it as it is.
        """
        return self._with_claim(
            "close",
            claim,
            followers=list(followers),
            resource=resource,
            sent=sent,
            settle=settle or supersede,
            supersede=supersede,
            failed=failed,
            date=date_ms,
            ahead=ahead,
        )

    def refuse(self, claim: Claim, *, resource: str, sent: int) -> Effect:
        """Record that PagerDuty refused the key: the run ends or is suspended."""
        return self._with_claim("refuse", claim, resource=resource, sent=sent)

    def probed(self, source: str, run: str, *, ok: bool, resource: str, sent: int) -> Effect:
        return self._do("probed", source, run=run, ok=ok, resource=resource, sent=sent)

    def hold(self, source: str, why: str) -> Effect:
        """Stop the requests of *source* until `resume`; requests that were already sent may finish."""
        return self._do("hold", source, hold=why)

    def resume(self, source: str) -> Effect:
        return self._do("resume", source)

    def cancel(self, source: str, run: str) -> Effect:
        return self._do("cancel", source, run=run)

    def schedule(self, source: str, at_ms: int | None) -> Effect:
        """Set when the next run of *source* is due (Redis's clock); None: never."""
        return self._do("schedule", source, at=at_ms)

    def take(self, most: int) -> list[str]:
        """Return up to *most* sources that are due, longest due first."""
        return list(self._call("take", "", most=most).get("sources", ()))

    def near(self, within_seconds: float, most: int) -> list[str]:
        """Return up to *most* sources to be looked at within *within_seconds*, longest due first.

        Every source with something to do is among them.
        """
        until = self.time().now_ms + _ms(within_seconds)
        due = f"{self._prefix}:due"
        names: Any = self._redis.zrangebyscore(due, "-inf", until, start=0, num=most)
        return [name.decode() for name in names]

    def tend(self, source: str) -> Effect:
        """Do the work that is due for *source*; returns the offers and the task to publish."""
        return self._do("tend", source)

    def seal(self, source: str, run: str, token: str) -> bool:
        """Become the sealer of *run* for one lease, or renew it; False if pages are open or another worker seals."""
        return self._do("seal", source, run=run, token=token).status == "sealing"

    def finish(self, source: str, run: str, next_ms: int | None, summary: str) -> Effect:
        """Forget *run* after its manifest was stored, keep its *summary*, and schedule the next run."""
        return self._do("finish", source, run=run, at=next_ms, summary=summary)

    def forget(self, source: str) -> None:
        """Forget the summary of the last run of *source*, and the difference of PagerDuty's clock."""
        self._redis.hdel(f"{self._prefix}:last", source)
        self._redis.hdel(f"{self._prefix}:clocks", source)

    def time(self, source: str = "") -> Clock:
        """Return Redis's time, and how far the clock of the answers to *source* is ahead of it."""
        reply = self._call("time", source)
        return Clock(int(reply["now"]), reply.get("ahead"), reply.get("tick_at"))

    def lasts(self, sources: Sequence[str]) -> list[str | None]:
        """Return the summary that `finish` kept of the last run of each of *sources*."""
        if not sources:
            return []
        texts: Any = self._redis.hmget(f"{self._prefix}:last", list(sources))
        return [None if text is None else text.decode() for text in texts]

    def progress(self, source: str) -> Progress:
        """Return the present state of *source* and its open run."""
        return read_progress(self._send("progress", source))

    def progresses(self, sources: Sequence[str]) -> list[Progress]:
        """Return the states of many sources, in one round trip per 200 of them."""
        found: list[Progress] = []
        for start in range(0, len(sources), _MANY):
            with self._redis.pipeline(transaction=False) as pipe:
                for source in sources[start : start + _MANY]:
                    self._send("progress", source, pipe)
                found += map(read_progress, pipe.execute())
        return found

    def _with_claim(self, operation: str, claim: Claim, **arguments: Any) -> Effect:
        effect = self._do(operation, claim.source, **_fence(claim), **arguments)
        if effect.status in _STILL_CLAIMED:
            return effect
        return replace(effect, became=_became(operation, effect.status, arguments))

    def _do(self, operation: str, source: str, **arguments: Any) -> Effect:
        return decode(self._send(operation, source, **arguments), Effect)

    def _call(self, operation: str, source: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(self._send(operation, source, **arguments))
        return answer

    def _send(self, operation: str, source: str, client: Redis | None = None, **given: Any) -> Any:
        given = {name: value for name, value in given.items() if value is not None}
        given |= {"source": source, "queues": _LISTS, "times": self._times}
        now = "" if self.now_ms is None else self.now_ms
        args = [operation, orjson.dumps(given), now]
        return self._script(keys=self._keys(source), args=args, client=client)

    def _keys(self, source: str) -> list[str]:
        shared = ("due", "schedule", "queues", "clocks", "last", "open")
        own = ("run", "pages", "ready", "later", "offered", "claimed", "groups")
        return [
            *(f"{self._prefix}:{name}" for name in shared),
            *(f"{self._prefix}:{name}:{source}" for name in own),
            *(f"{self._prefix}:{queue}" for queue in _LISTS),
        ]


def _fence(claim: Claim) -> dict[str, str]:
    """Return the arguments by which the script sees whether the caller still holds the page."""
    return {"run": claim.run, "page": claim.page, "token": claim.token}


def _became(operation: str, status: str, arguments: Mapping[str, Any]) -> str:
    """Return one word for the fate of a page that leaves its worker's hands."""
    if status == "stale":
        return status
    if operation == "close":
        return "failed" if arguments["failed"] else "closed"
    return str(arguments.get("why", "key"))  # given back, or its key was refused


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
