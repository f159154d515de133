"""Find out which account an API key belongs to, and which resources it can read.

This takes a few GETs of one record each, under the limiter.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tasks.reading.answers import subdomain_of
from tasks.reading.catalog import CATALOG, Call, Feed, with_parents
from tasks.reading.pages import path_of
from tasks.reading.windows import is_plain, rfc3339
from workers import exact
from workers.errors import Busy, Fault, KeyRefused
from workers.pagerduty.keys import fingerprint
from workers.pagerduty.replies import Outcome, Reply
from workers.runtime import Runtime
from workers.state.limiter import Permit, budget_name


class Ask(Protocol):
    """Sends one GET."""

    def __call__(
        self,
        region: str,
        path: str,
        params: Sequence[tuple[str, str]],
        endpoint_class: str = "",
        /,
    ) -> Reply: ...


ATTEMPTS = 4
BUDGET_WAIT_SECONDS = 120.0
"""Longest total wait for budget while a key is examined: two windows of PagerDuty's limit."""
_ONE = ("limit", "1")
_RECENT = timedelta(days=1)
_NAMED_LISTS = ("users", "services", "teams", "escalation_policies", "schedules", "incidents")
"""Lists whose records link to the account's own host. The list that most keys can read comes first."""


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a key can read a resource; if not, the reason (`plan`, `role` or `error`) and PagerDuty's words."""

    reason: str = ""
    words: str = ""

    @property
    def readable(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Identity:
    """The account, or the user, that a key belongs to."""

    region: str
    subdomain: str
    credential: str  # "account" or "user"
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyReport:
    """The account of a key, and the access it gives to each resource."""

    identity: Identity
    resources: dict[str, Access] = field(default_factory=dict)

    @property
    def access(self) -> dict[str, str]:
        return {name: access.reason for name, access in self.resources.items()}


def asker(fleet: Runtime, key: str, reserve: float) -> Ask:
    """Return a function that sends GETs with *key*, each under the limiter. It repeats a GET that may work later.

    The function raises `Busy` if the key's budget stays used up, or if all requests are paused.
    """
    deadline = time.monotonic() + BUDGET_WAIT_SECONDS

    def ask(
        region: str, path: str, params: Sequence[tuple[str, str]], endpoint_class: str = "", /
    ) -> Reply:
        mark = fingerprint(region, key)
        share = max(reserve, fleet.sources.reserve_for(mark))
        for attempt in range(1, ATTEMPTS + 1):
            refuse_paused(fleet)
            permit = _permit(fleet, budget_name(region, mark), share, endpoint_class, deadline)
            reply = fleet.pagerduty.get(
                region, path, params, key, deadline_seconds=fleet.settings.request_timeout_seconds
            )
            fleet.limiter.observe(permit, reply)
            if reply.outcome not in (Outcome.RETRY, Outcome.WAIT):
                return reply
            if reply.outcome is Outcome.RETRY:
                time.sleep(random.uniform(0.5, 1.0) * attempt)  # noqa: S311 - spreads the load; it is not a secret
        return reply

    return ask


def refuse_paused(fleet: Runtime) -> None:
    """Raise `Busy` while all requests are paused."""
    if fleet.switch.paused():
        raise Busy("All requests are paused: `pagetrail source resume --all` resumes them.")


def _permit(
    fleet: Runtime, budget: str, share: float, endpoint_class: str, deadline: float
) -> Permit:
    while True:
        permit = fleet.limiter.acquire(budget, reserve_share=share, endpoint_class=endpoint_class)
        if permit.granted:
            return permit
        if time.monotonic() + permit.retry_after_seconds > deadline:
            raise Busy(
                "This key's request limit at PagerDuty is used up by others: try again in "
                f"{permit.retry_after_seconds:.0f} s."
            )
        time.sleep(permit.retry_after_seconds)


def identify(ask: Ask, region: str, regions: Iterable[str], key: str) -> Identity:
    """Return the account of *key* in *region*; `KeyRefused` says why the key can't be used there."""
    me = ask(region, "/users/me", ())
    if me.status == 401:
        raise _unknown_key(ask, region, [other for other in regions if other != region])
    require_answer(me, region)
    # PagerDuty answers 400 to the key of an account, because an account has no "me".
    credential = "user" if me.status == 200 else "account"
    return Identity(region, _subdomain(ask, region, me), credential, fingerprint(region, key))


def _unknown_key(ask: Ask, region: str, others: Sequence[str]) -> KeyRefused:
    for other in others:
        if ask(other, "/users/me", ()).status in (200, 400):
            return KeyRefused(
                f"401: PagerDuty does not know this key in region {region}; it answers in region "
                f"{other}: connect with --region {other}."
            )
    tried = ", ".join([region, *others])
    return KeyRefused(
        f"401: PagerDuty does not know this key in any region ({tried}): copy the whole key again, or check "
        "whether it was disabled or deleted under Integrations > API Access Keys."
    )


def require_known_key(reply: Reply) -> Reply:
    """Return *reply*; `KeyRefused` if it is a 401, although PagerDuty knew the key before."""
    if reply.status == 401:
        raise KeyRefused(
            "401: PagerDuty accepted the key at first, then refused it: was it disabled?"
        )
    return reply


def require_answer(reply: Reply, region: str) -> None:
    """Raise `Fault` if PagerDuty gave no usable answer after all attempts."""
    if reply.outcome in (Outcome.RETRY, Outcome.WAIT):
        came = f"status {reply.status}" if reply.status else "no answer"
        raise Fault(
            f"PagerDuty in region {region} gave {came} {ATTEMPTS} times: look at the network and "
            "at status.pagerduty.com, then try again."
        )


def _subdomain(ask: Ask, region: str, me: Reply) -> str:
    if name := subdomain_of(_record(me, "user")):
        return name
    refusals = []
    for wrapper in _NAMED_LISTS:
        reply = require_known_key(ask(region, f"/{wrapper}", (_ONE,)))
        require_answer(reply, region)
        if name := subdomain_of(_record(reply, wrapper)):
            return name
        if reply.status != 200:
            refusals.append(f"{wrapper}: {reply.status}")
    raise KeyRefused(
        "The key is valid, but no record that it can read shows which account it belongs to "
        f"({'; '.join(refusals) or 'every list is empty'}): use a General Access key."
    )


def records_in(reply: Reply, wrapper: str) -> Iterator[dict[str, Any]]:
    """Yield the records in the member *wrapper* of an answer, which is a list or a single record."""
    if reply.status != 200:
        return
    try:
        text = exact.members(reply.body, (wrapper,)).get(wrapper, b"null")
        listed = bytes(memoryview(text)[:1]) == b"["
        for each in exact.elements(text) if listed else [text]:
            if isinstance(record := exact.loads(bytes(each)), dict):
                yield record
    except ValueError:
        return


def _record(reply: Reply, wrapper: str) -> dict[str, Any]:
    """Return the first record in an answer; {} if there isn't one."""
    return next(records_in(reply, wrapper), {})


def survey(ask: Ask, region: str, names: Iterable[str], now: datetime) -> dict[str, Access]:
    """Return the access to each of *names*, and to the parent resources that they need."""
    seen: dict[str, tuple[Access, dict[str, Any]]] = {}  # feed -> access and its first record
    found = {}
    for name in sorted(with_parents(names), key=lambda name: bool(CATALOG[name].needs)):
        resource = CATALOG[name]
        for feed in resource.feeds:
            seen[feed.segment] = _try(ask, region, feed, seen, now)
        found[name] = _whole([seen[feed.segment][0] for feed in resource.feeds])
    return {name: found[name] for name in CATALOG if name in found}


def _whole(feeds: list[Access]) -> Access:
    """Return the access to a resource. A feed that the plan lacks doesn't count if other feeds can be read."""
    given = [access for access in feeds if access.reason != "plan"] or feeds
    return next((access for access in given if not access.readable), Access())


def _try(
    ask: Ask,
    region: str,
    feed: Feed,
    seen: dict[str, tuple[Access, dict[str, Any]]],
    now: datetime,
) -> tuple[Access, dict[str, Any]]:
    parent_id, call = "", feed.list
    if feed.parent:
        access, record = seen[feed.parent]
        if not record:  # the parent can't be read, or has no record
            return access, {}
        call, parent_id = feed.each, str(record.get("id", ""))
        if not is_plain(parent_id):
            return Access(
                "error", f"the first of {feed.parent} has an id that can't be part of a request"
            ), {}
    assert call, f"{feed.segment} has neither list nor parent"
    reply = require_known_key(
        ask(region, path_of(call, parent_id), _params(call, feed, now), call.endpoint_class)
    )
    return _access(reply, feed), _record(reply, call.wrapper)


def _params(call: Call, feed: Feed, now: datetime) -> list[tuple[str, str]]:
    bounds = [("since", rfc3339(now - _RECENT)), ("until", rfc3339(now))]
    return [*call.params, *(bounds if feed.window_days else []), _ONE]


def _access(reply: Reply, feed: Feed) -> Access:
    if reply.outcome is Outcome.OK:
        return Access()
    if reply.status is None:
        return Access("error", f"no answer, asked {ATTEMPTS} times")
    reason = reply.reason or "error"
    if reason == "gone":
        reason = "plan" if feed.missing_means_plan else "error"
    return Access(reason, reply.words or f"status {reply.status}")


def examine_key(
    fleet: Runtime, region: str, key: str, *, reserve: float, resources: Iterable[str] | None
) -> KeyReport:
    """Return the account of *key* and its access to *resources* (None: all of the catalog).

    Raises `KeyRefused`, and `Busy` or `Fault` when PagerDuty can't be asked now.
    """
    ask = asker(fleet, key, reserve)
    identity = identify(ask, region, fleet.settings.regions, key)
    return KeyReport(identity, survey(ask, region, resources or CATALOG, datetime.now(UTC)))
