"""What Pagetrail can be asked to do: functions for the command line, and for a backend in the same environment.

    from tasks import api
    from workers.runtime import runtime

    fleet = runtime()  # settings come from the environment, as for every process of the fleet
    api.connect(fleet, "acme/main", key, api.Wishes(every_seconds=3600))
    api.collect(fleet, "acme/main")

A source is named `tenant/name`. Everything that goes in or comes out is a frozen dataclass. What goes wrong is a
`workers.errors.Fault` whose text is one sentence for a person and never holds a key: `UsageFault` (what was given
can't be right; nothing was done), `NotFound`, `Exists`, `KeyRefused`, `Busy` (trying again later helps),
`RedisUnreachable`, `StorageUnreachable`, `StorageConflict`, `VaultFault`. Nothing here prints or asks.

Every change of a source is one conditional write of its document in storage, which happens whole or not at all; of two
changes at once one raises `Busy`. What follows from it in Redis is repeated by the fleet where it got lost. Functions
that take a `Storage` need storage alone, neither Redis nor vault keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypedDict, Unpack

from tasks.answers import Answer, read_answer, well_formed
from tasks.catalog import CATALOG
from tasks.census import Census, census
from tasks.estimates import Estimate
from tasks.estimates import estimate as estimated
from tasks.exports import Choice, choose, sealed
from tasks.exports import records as exported
from tasks.manifests import (
    account_of,
    nothing_sealed,
    read_manifest,
    read_plan,
    runs_of,
    sealed_runs,
)
from tasks.outcomes import Artifact, RunOutcome, artifacts_of, open_outcome, sealed_outcome
from tasks.pages import Page, Request
from tasks.probe import Identity, Verdict, answered, asker, probe, still_known
from tasks.purges import Purge, wants_look
from tasks.verify import Report
from tasks.verify import verify as verified
from workers.errors import Exists, Fault, KeyRefused, NotFound, UsageFault
from workers.events import START, Event
from workers.ledger import Outcome
from workers.limiter import BudgetState, budget_name
from workers.runtime import Runtime
from workers.sources import Source, State, parse_source_id
from workers.storage import Storage

if TYPE_CHECKING:
    from tasks.plan import Opened

DAY_SECONDS = 86_400
LEAST_SECONDS = 60
MOST_MONTHS = 1200
MOST_RESERVE = 0.9
_READERS = 8
_LOOK_BACK = 10
"""Manifests in which an estimate looks for lists that don't tell how long they are."""

Agree = Callable[[Verdict], object]
"""Is shown whose key it is and what it can read, before anything is kept; raises a `Fault` to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked of a new source."""

    region: str = "us"
    since: datetime | None = None  # None: as far back as PAGETRAIL_DEFAULT_SINCE_DAYS says
    every_seconds: int | None = DAY_SECONDS  # None: runs only when asked to
    resources: tuple[str, ...] | None = None  # None: all of the catalog
    reserve: float | None = (
        None  # share of the key's limit left to the customer; None: PAGETRAIL_RESERVE
    )
    allow_user_key: bool = False
    retention_months: int | None = None  # age at which a sealed run is erased; None: never


class Changes(TypedDict, total=False):
    """What can be changed of a source; what is left out stays."""

    every_seconds: int | None
    resources: tuple[str, ...] | None
    reserve: float
    retention_months: int | None


@dataclass(frozen=True, slots=True)
class Export:
    """Records of a resource, one line of JSON each, and the readings they come from.

    Without readings no run could read the resource: `choice.newest` says why.
    """

    choice: Choice
    records: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Resealed:
    """What sealing every key again came to."""

    resealed: int
    already: int
    failed: Mapping[str, str]  # source, or key of its document -> why


def _agreed(_: Verdict) -> None:
    """Agree to any key."""


def connect(
    fleet: Runtime, source_id: str, key: str, wishes: Wishes, *, agree: Agree = _agreed
) -> Source:
    """Try *key*, register the source with it, and schedule the first run one interval from now.

    Sends a few GETs under the key's budget. Raises `Exists`, `KeyRefused`, `Busy` while the key's budget is used up,
    and whatever *agree* raises; then nothing was kept.
    """
    check_wishes(fleet, wishes)
    refuse_taken(fleet, source_id)
    reserve = fleet.settings.reserve if wishes.reserve is None else wishes.reserve
    verdict = probe(fleet, wishes.region, key, reserve=reserve, resources=wishes.resources)
    identity = verdict.identity
    _refuse_other_account(identity, source_id, account_of(fleet.storage, source_id))
    _refuse_user_key(identity, allowed=wishes.allow_user_key)
    agree(verdict)
    now = _now(fleet)
    back = timedelta(days=fleet.settings.default_since_days)
    source = fleet.sources.add(
        Source(
            id=source_id,
            region=identity.region,
            subdomain=identity.subdomain,
            credential=identity.credential,
            fingerprint=identity.fingerprint,
            sealed_key=fleet.sources.seal(source_id, key),
            keyed_at=now,
            connected_at=now,
            since=wishes.since or (now - back).replace(hour=0, minute=0, second=0),
            every_seconds=wishes.every_seconds,
            resources=wishes.resources,
            reserve=reserve,
            allow_user_key=wishes.allow_user_key,
            retention_months=wishes.retention_months,
            access=verdict.access,
        )
    )
    fleet.daily.begin(source_id)
    _schedule(fleet, source, now)
    return source


def refuse_taken(fleet: Runtime, source_id: str) -> None:
    """Raise `Exists` if *source_id* is connected, or a `Fault` if it couldn't be kept anyway; sends nothing."""
    try:
        fleet.storage.check()
        found = get(fleet, source_id)
    except NotFound:
        return
    if found.state is not State.DISCONNECTED:
        raise Exists(
            f"{source_id} is connected already: `pagetrail source rotate {source_id}` changes its "
            f"key, `pagetrail source disconnect {source_id}` ends it."
        )


def get(fleet: Runtime, source_id: str) -> Source:
    """Return a source; `NotFound` if there is none of that name."""
    return fleet.sources.get(parse_source_id(source_id))


def sources(fleet: Runtime) -> list[Source]:
    """Return every source, in the order of their ids."""
    return fleet.sources.list()


def check(fleet: Runtime, source_id: str) -> tuple[Source, Verdict]:
    """Try the key of a source again, and keep what it can read now.

    Raises `KeyRefused`, also if the key now speaks for another account, `VaultFault` without a key, `Busy`.
    """
    source = get(fleet, source_id)
    key = fleet.sources.key_of(source)
    verdict = _probe(fleet, source, key)
    if dict(source.access) == verdict.access:
        return source, verdict
    return fleet.sources.save(replace(source, access=verdict.access)), verdict


def rotate(
    fleet: Runtime,
    source_id: str,
    key: str,
    *,
    allow_user_key: bool = False,
    agree: Agree = _agreed,
) -> Source:
    """Try *key*, put it in place of the one the source has, and wake a run that waits for it.

    Raises `KeyRefused` also for a key of another account, `Busy`, and whatever *agree* raises; then the old key stays.
    """
    source = get_connected(fleet, source_id)
    fleet.storage.check()
    verdict = _probe(fleet, source, key)
    _refuse_user_key(verdict.identity, allowed=allow_user_key or source.allow_user_key)
    agree(verdict)
    saved = fleet.sources.save(
        replace(
            source,
            credential=verdict.identity.credential,
            fingerprint=verdict.identity.fingerprint,
            sealed_key=fleet.sources.seal(source.id, key),
            keyed_at=_now(fleet),
            access=verdict.access,
            allow_user_key=source.allow_user_key or verdict.identity.credential == "user",
        )
    )
    if saved.state is State.ACTIVE:
        _publish(fleet, saved, fleet.ledger.resume(saved.id))
    return saved


def change(fleet: Runtime, source_id: str, **changes: Unpack[Changes]) -> Source:
    """Change settings of a source: its next run follows them, and so does the next one's time."""
    _check_settings(changes)
    saved = fleet.sources.save(replace(get(fleet, source_id), **changes))
    if "every_seconds" in changes:
        _schedule(fleet, saved, _now(fleet))
    if "retention_months" in changes:
        fleet.daily.within(saved.id, 0)
    return saved


def hold(fleet: Runtime, source_id: str) -> Source:
    """Put a source under legal hold: neither `purge` nor its retention erases anything. Repeatable.

    What a record says is erased stays so. `Busy` while such a record is being stored.
    """
    with fleet.sources.alone(parse_source_id(source_id)):
        source = fleet.sources.fresh(source_id)
        if source.held_since:
            return source
        return fleet.sources.save(replace(source, held_since=_now(fleet)))


def release(fleet: Runtime, source_id: str) -> Source:
    """End the legal hold of a source; its retention goes on. Repeatable."""
    source = fleet.sources.fresh(parse_source_id(source_id))
    if source.held_since:
        source = fleet.sources.save(replace(source, held_since=None))
    fleet.daily.within(source_id, 0)
    return source


def pause(fleet: Runtime, source_id: str) -> Source:
    """Send nothing for a source until it is resumed: its open run waits. Repeatable."""
    saved = _in_state(fleet, get_connected(fleet, source_id), State.PAUSED)
    fleet.ledger.schedule(saved.id, None)
    fleet.ledger.hold(saved.id, State.PAUSED)
    return saved


def resume(fleet: Runtime, source_id: str) -> Source:
    """Let a paused or suspended source go on: its open run at once, its next one when due. Repeatable."""
    saved = _in_state(fleet, get_connected(fleet, source_id), State.ACTIVE)
    _schedule(fleet, saved, _now(fleet))
    _publish(fleet, saved, fleet.ledger.resume(saved.id))
    return saved


def pause_all(fleet: Runtime) -> None:
    """Let no process send a request until `resume_all`, whatever its source; those under way end by themselves.

    Every process knows within two seconds. What was due meanwhile is done afterwards. Survives an emptied Redis.
    Repeatable.
    """
    fleet.switch.pause()


def resume_all(fleet: Runtime) -> None:
    """Let requests be sent again; a source that was paused by itself stays so. Repeatable."""
    fleet.switch.resume()


def disconnect(fleet: Runtime, source_id: str) -> Source:
    """Destroy the key and the schedule of a source, cancel its open run, keep its evidence. Repeatable."""
    saved = get(fleet, source_id)
    if saved.state is not State.DISCONNECTED:
        saved = fleet.sources.save(replace(saved, state=State.DISCONNECTED, sealed_key=None))
    fleet.ledger.schedule(saved.id, None)
    if not wants_look(saved):
        fleet.daily.end(saved.id)
    if run := fleet.ledger.progress(saved.id).get("run"):
        _publish(fleet, saved, fleet.ledger.cancel(saved.id, run))
    return saved


def purge(fleet: Runtime, source_id: str, by: str) -> Purge | None:
    """Erase all evidence of a paused or disconnected source, on behalf of *by*; return the record of it.

    The record (which runs, their digests, how much, when and by whom) is stored first and stays, outside the evidence;
    from then on nothing of those runs counts as evidence. Interrupted, it is safe to repeat, and goes on. None if there
    never was any evidence. Raises `Fault` for an active source or one under legal hold, `Busy` while a run is open.
    """
    from tasks.purge import purge as erase

    return erase(fleet, parse_source_id(source_id), by)


def get_connected(fleet: Runtime, source_id: str) -> Source:
    """Return a source that has a key; `Fault` if it is disconnected, `NotFound` if it isn't there."""
    source = get(fleet, source_id)
    if source.state is State.DISCONNECTED:
        raise Fault(f"{source.id} is disconnected: `pagetrail source connect {source.id}` first.")
    return source


def reseal_all(fleet: Runtime) -> Resealed:
    """Seal every key with the first vault key, those Redis has lost included; repeatable."""
    unreadable = "This source document can't be read: restore it from a copy."
    failed = dict.fromkeys(fleet.sources.restore().unreadable, unreadable)
    changed: list[bool] = []
    for source in fleet.sources.list():
        try:
            changed.append(fleet.sources.reseal(source))
        except Fault as fault:
            failed[source.id] = str(fault)
    return Resealed(changed.count(True), changed.count(False), failed)


def status(fleet: Runtime, chosen: Iterable[Source] | None = None) -> Census:
    """Return what the fleet and the *chosen* sources (default: all) are doing now, in a few round trips to Redis."""
    return census(fleet, fleet.sources.list() if chosen is None else chosen)


def budget(fleet: Runtime, source: Source) -> BudgetState:
    """Return how many requests the key of a source may send, and what others send with it."""
    reserve = fleet.sources.reserve_for(source.fingerprint)
    return fleet.limiter.state(
        budget_name(source.region, source.fingerprint), reserve_share=reserve
    )


def collect(fleet: Runtime, source_id: str) -> Opened:
    """Start a run now, or join the open one; the fleet carries it out. `Busy` unless the source is active."""
    from tasks.plan import collect_now

    return collect_now(fleet, get(fleet, source_id))


def estimate(fleet: Runtime, source_id: str) -> Estimate:
    """Return how many requests a run would send if it began now, having asked each list how long it is.

    Sends a GET per list and window, under the limiter. `Busy` where `collect` would open no run; `KeyRefused`.
    """
    from tasks.plan import next_plan

    source = get(fleet, source_id)
    plan = next_plan(fleet, source)
    ask = asker(fleet, fleet.sources.key_of(source), source.reserve)

    def look(page: Page, request: Request) -> Answer:
        reply = still_known(
            ask(source.region, request.path, request.params, request.endpoint_class)
        )
        answered(reply, source.region)
        assert reply.status is not None
        answer = read_answer(page, reply.status, reply.date, reply.members or {}, {})
        if not well_formed(page, answer):
            raise Fault(f"PagerDuty's answer to {request.path} is none that can be read.")
        return answer

    before = islice(sealed(fleet.storage, source_id), _LOOK_BACK) if plan.previous else ()
    return estimated(plan, before, look)


def cancel(fleet: Runtime, source_id: str, run: str | None = None) -> str:
    """End the open run, whose id is returned: what it has read is sealed as cancelled. Repeatable until then."""
    from tasks import messages
    from tasks.plan import reopen

    source = get(fleet, source_id)
    chosen = _newest(fleet.storage, source_id, run)
    if read_manifest(fleet.storage, source_id, chosen):
        raise Fault(f"Run {chosen} of {source_id} is sealed: there is nothing to cancel.")
    reopen(fleet, source, chosen)  # Redis may have lost it
    messages.publish(source_id, chosen, fleet.ledger.cancel(source_id, chosen))
    return chosen


def runs(fleet: Runtime, source_id: str) -> list[RunOutcome]:
    """Return the runs of a source, oldest first; the last may be open."""
    get(fleet, source_id)
    with ThreadPoolExecutor(_READERS) as readers:
        found = runs_of(fleet.storage, source_id)
        return list(readers.map(lambda run: _outcome(fleet, source_id, run), found))


def run(fleet: Runtime, source_id: str, run: str | None = None) -> RunOutcome:
    """Return one run of a source (default: the newest); `NotFound` if it isn't there."""
    get(fleet, source_id)
    return _outcome(fleet, source_id, _newest(fleet.storage, source_id, run))


def artifacts(
    storage: Storage, source_id: str, run: str | None = None
) -> tuple[RunOutcome, list[Artifact]]:
    """Return a sealed run (default: the newest) and its artifacts; `NotFound` if there is none."""
    manifest = next(sealed(storage, parse_source_id(source_id), run))
    return sealed_outcome(manifest), artifacts_of(manifest)


def export(storage: Storage, source_id: str, resource: str, run: str | None = None) -> Export:
    """Return the records of a resource: the newest version of each, or those of one run.

    They are read while they are used, and `StorageConflict` ends them where an artifact isn't what was sealed.
    `NotFound` without a sealed run, or if none was to read the resource.
    """
    _check_resources([resource])
    manifests = sealed(storage, parse_source_id(source_id), run)
    choice = choose(manifests, source_id, resource, run)
    return Export(choice, exported(storage, choice))


def events(fleet: Runtime, after: str = START, *, follow: bool = False) -> Iterator[Event]:
    """Yield what happened after a position (default: all that is kept), oldest first; with *follow* wait for more.

    Each event comes at least once, and repeats have the same `id`: keep the `position` of the last one that was dealt
    with, and ids for a day. docs/events.md has every kind. Raises `RedisUnreachable`.
    """
    return fleet.events.read(after, follow=follow)


def verify(storage: Storage, source_id: str, run: str | None = None) -> Report:
    """Recompute every digest and count of a source, or of one run, and name every difference.

    `NotFound` without a sealed run. What is wrong is no exception: it is in the report.
    """
    report = Report()
    for grown in verified(storage, parse_source_id(source_id), run):
        report = grown
    if not report.runs:
        raise nothing_sealed(storage, source_id, run)
    return report


def check_wishes(fleet: Runtime, wishes: Wishes) -> None:
    """Raise `UsageFault` if no account can be connected with *wishes*; sends nothing."""
    regions = fleet.settings.regions
    if wishes.region not in regions:
        raise UsageFault(
            f"{wishes.region[:40]!r} is no region: choose from {', '.join(regions)}, or add it to "
            "PAGETRAIL_REGIONS."
        )
    if wishes.since and wishes.since >= datetime.now(UTC):
        raise UsageFault(f"{wishes.since} is not in the past: give an earlier time.")
    _check_settings(
        {
            "every_seconds": wishes.every_seconds,
            "resources": wishes.resources,
            "reserve": wishes.reserve or 0.0,
            "retention_months": wishes.retention_months,
        }
    )


def _check_settings(settings: Changes) -> None:
    _check_resources(settings.get("resources") or ())
    every, months = settings.get("every_seconds"), settings.get("retention_months")
    if every is not None and every < LEAST_SECONDS:
        raise UsageFault(f"Runs are at least {LEAST_SECONDS} s apart, not {every}.")
    if months is not None and not 1 <= months <= MOST_MONTHS:
        raise UsageFault(f"A retention is 1 to {MOST_MONTHS} months, not {months}.")
    if not 0 <= settings.get("reserve", 0.0) <= MOST_RESERVE:
        raise UsageFault(f"A reserve is a share from 0 to {MOST_RESERVE}.")


def _check_resources(names: Iterable[str]) -> None:
    for name in names:
        if name not in CATALOG:
            raise UsageFault(f"{name[:40]!r} is no resource: choose from {', '.join(CATALOG)}.")


def _probe(fleet: Runtime, source: Source, key: str) -> Verdict:
    """Return what *key* can read; `KeyRefused` unless it is of the account whose evidence the source holds."""
    verdict = probe(fleet, source.region, key, reserve=source.reserve, resources=source.resources)
    for holds in ((source.region, source.subdomain), account_of(fleet.storage, source.id)):
        _refuse_other_account(verdict.identity, source.id, holds)
    return verdict


def _refuse_other_account(found: Identity, source_id: str, holds: tuple[str, str] | None) -> None:
    if holds and holds != (found.region, found.subdomain):
        raise KeyRefused(
            f"This key belongs to {found.subdomain} in region {found.region}, but {source_id} "
            f"holds evidence of {holds[1]} in region {holds[0]}: nothing was changed."
        )


def _refuse_user_key(identity: Identity, *, allowed: bool) -> None:
    if identity.credential == "user" and not allowed:
        raise KeyRefused(
            "This key belongs to a user: PagerDuty silently leaves out what that user can't see, "
            "and the key dies when the user leaves. Use a General Access key, or accept that runs "
            "are never better than partial with --allow-user-key."
        )


def _in_state(fleet: Runtime, source: Source, state: State) -> Source:
    return source if source.state is state else fleet.sources.save(replace(source, state=state))


def _now(fleet: Runtime) -> datetime:
    """Return the time of Redis's clock in whole seconds."""
    return datetime.fromtimestamp(fleet.ledger.time().now_ms // 1000, UTC)


def _schedule(fleet: Runtime, source: Source, after: datetime) -> None:
    from tasks.plan import schedule  # brings Celery, which whoever only looks does without

    schedule(fleet, source, after)


def _publish(fleet: Runtime, source: Source, outcome: Outcome) -> None:
    """Send what a step of the ledger asked for; the beat would do it half a minute later."""
    from tasks import messages

    if run := fleet.ledger.progress(source.id).get("run"):
        messages.publish(source.id, run, outcome)


def _newest(storage: Storage, source_id: str, run: str | None) -> str:
    found = sealed_runs(storage, source_id, run)
    if not found:
        raise NotFound(f"{source_id} has no run yet: `pagetrail collect {source_id}` starts one.")
    return found[-1]


def _outcome(fleet: Runtime, source_id: str, run: str) -> RunOutcome:
    if manifest := read_manifest(fleet.storage, source_id, run):
        return sealed_outcome(manifest)
    plan = read_plan(fleet.storage, source_id, run)
    return open_outcome(plan, fleet.ledger.progress(source_id))
