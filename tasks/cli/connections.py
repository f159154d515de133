"""What the source commands do: registry first, then the ledger; no word to a person."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tasks.probe import Identity, Verdict
from workers.errors import Exists, Fault, KeyRefused, NotFound
from workers.ledger import Outcome
from workers.runtime import Runtime
from workers.sources import Source, State


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asks of a new source."""

    since: datetime | None
    every_seconds: int | None
    resources: tuple[str, ...] | None
    reserve: float | None
    allow_user_key: bool


def refuse_taken(fleet: Runtime, source_id: str) -> None:
    """Raise `Exists` if *source_id* is connected, or a `Fault` if it couldn't be kept anyway."""
    try:
        fleet.storage.check()
        found = fleet.sources.get(source_id)
    except NotFound:
        return
    if found.state is not State.DISCONNECTED:
        raise Exists(
            f"{source_id} is connected already: `pagetrail source rotate {source_id}` changes its "
            f"key, `pagetrail source disconnect {source_id}` ends it."
        )


def refuse_user_key(identity: Identity, *, allowed: bool) -> None:
    """Raise `KeyRefused` for a user's key unless *allowed*."""
    if identity.credential == "user" and not allowed:
        raise KeyRefused(
            "This key belongs to a user: PagerDuty silently leaves out what that user can't see, "
            "and the key dies when the user leaves. Use a General Access key, or accept that runs "
            "are never better than partial with --allow-user-key."
        )


def connect(fleet: Runtime, source_id: str, key: str, verdict: Verdict, wishes: Wishes) -> Source:
    """Register a source and schedule its first run one interval from now."""
    identity, now = verdict.identity, _now(fleet)
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
            reserve=fleet.settings.reserve if wishes.reserve is None else wishes.reserve,
            allow_user_key=wishes.allow_user_key,
            access=verdict.access,
        )
    )
    _schedule(fleet, source, now)
    return source


def record_access(fleet: Runtime, source: Source, verdict: Verdict) -> Source:
    """Keep what a check found; `KeyRefused` if the key now speaks for another account."""
    _same_account(source, verdict.identity)
    if dict(source.access) == verdict.access:
        return source
    return fleet.sources.save(replace(source, access=verdict.access))


def rotate(fleet: Runtime, source: Source, key: str, verdict: Verdict) -> Source:
    """Replace the key by one of the same account, and wake a run that waits for it."""
    _same_account(source, verdict.identity)
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


def pause(fleet: Runtime, source: Source) -> Source:
    """Send nothing for *source* until it is resumed; repeatable."""
    refuse_disconnected(source)
    saved = _in_state(fleet, source, State.PAUSED)
    fleet.ledger.schedule(saved.id, None)
    fleet.ledger.hold(saved.id, State.PAUSED)
    return saved


def resume(fleet: Runtime, source: Source) -> Source:
    """Let *source* go on: its open run at once, its next one when it is due; repeatable."""
    refuse_disconnected(source)
    saved = _in_state(fleet, source, State.ACTIVE)
    _schedule(fleet, saved, _now(fleet))
    _publish(fleet, saved, fleet.ledger.resume(saved.id))
    return saved


def disconnect(fleet: Runtime, source: Source) -> Source:
    """Destroy the key and the schedule of *source*, cancel its open run, keep its evidence."""
    saved = source
    if source.state is not State.DISCONNECTED:
        saved = fleet.sources.save(replace(source, state=State.DISCONNECTED, sealed_key=None))
    fleet.ledger.schedule(saved.id, None)
    if run := fleet.ledger.progress(saved.id).get("run"):
        _publish(fleet, saved, fleet.ledger.cancel(saved.id, run))
    return saved


@dataclass(slots=True)
class Resealed:
    """What sealing every key again came to."""

    resealed: int = 0
    already: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # source -> why


def reseal_all(fleet: Runtime) -> Resealed:
    """Seal every key with the first vault key, those Redis has lost included; repeatable."""
    result = Resealed()
    for key in fleet.sources.restore().unreadable:
        result.failed[key] = "This source document can't be read: restore it from a copy."
    for source in fleet.sources.list():
        try:
            if fleet.sources.reseal(source):
                result.resealed += 1
            else:
                result.already += 1
        except Fault as fault:
            result.failed[source.id] = str(fault)
    return result


def _in_state(fleet: Runtime, source: Source, state: State) -> Source:
    return source if source.state is state else fleet.sources.save(replace(source, state=state))


def _now(fleet: Runtime) -> datetime:
    """Return the time of Redis's clock in whole seconds."""
    return datetime.fromtimestamp(fleet.ledger.time().now_ms // 1000, UTC)


def _schedule(fleet: Runtime, source: Source, after: datetime) -> None:
    from tasks.plan import schedule  # brings Celery, which commands that only look do without

    schedule(fleet, source, after)


def _publish(fleet: Runtime, source: Source, outcome: Outcome) -> None:
    """Send what a step of the ledger asked for; the beat would do it half a minute later."""
    from tasks import messages

    if run := fleet.ledger.progress(source.id).get("run"):
        messages.publish(source.id, run, outcome)


def refuse_disconnected(source: Source) -> None:
    """Raise `Fault` if *source* has no key any more."""
    if source.state is State.DISCONNECTED:
        raise Fault(f"{source.id} is disconnected: `pagetrail source connect {source.id}` first.")


def _same_account(source: Source, found: Identity) -> None:
    if (found.region, found.subdomain) != (source.region, source.subdomain):
        raise KeyRefused(
            f"This key belongs to {found.subdomain} in region {found.region}, but {source.id} "
            f"holds evidence of {source.subdomain} in region {source.region}: nothing was changed."
        )
