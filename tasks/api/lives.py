"""Change a source: connect it, change its key or settings, pause, hold, disconnect."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Unpack

from tasks.accounts import renaming
from tasks.accounts.examining import Identity, KeyReport, examine_key
from tasks.accounts.keys import key_of
from tasks.api.wishes import Changes, Wishes, check_settings, check_wishes
from tasks.runs import messages
from tasks.runs.erasing import is_recorded, wants_look
from tasks.runs.opening import schedule_next
from workers.errors import Exists, Fault, KeyRefused, NotFound
from workers.runtime import Runtime
from workers.state.ledger import Effect
from workers.storage.registry import Source, SourceState, parse_source_id

Agree = Callable[[KeyReport], object]
"""A function that is told a key's account and access before anything is kept. If it raises a `Fault`, nothing is."""


def connect(
    fleet: Runtime,
    source_id: str,
    key: str,
    wishes: Wishes,
    *,
    agree: Agree = lambda _: None,
    renamed_by: str | None = None,
) -> Source:
    """Try *key*, register the source with it, and schedule the first run one interval from now.

    *renamed_by* is the person who confirms that the account was renamed; None if nobody does. Sends a few GETs under
    the key's budget. Raises `Exists`, `KeyRefused`, `Busy` while the key's budget is used up, and any `Fault` of
    *agree*. After an error nothing is kept.
    """
    check_wishes(fleet, wishes)
    refuse_taken(fleet, source_id)
    reserve = fleet.settings.reserve if wishes.reserve is None else wishes.reserve
    verdict = examine_key(fleet, wishes.region, key, reserve=reserve, resources=wishes.resources)
    identity = verdict.identity
    now = _now(fleet)
    renamings = renaming.confirmed(
        fleet, source_id, key, identity, _registered(fleet, source_id), at=now, by=renamed_by
    )
    _refuse_user_key(identity, allowed=wishes.allow_user_key)
    agree(verdict)
    back = timedelta(days=fleet.settings.default_since_days)
    since = wishes.since or (now - back).replace(hour=0, minute=0, second=0)
    source = fleet.sources.add(
        Source(
            id=source_id,
            region=identity.region,
            subdomain=identity.subdomain,
            credential=identity.credential,
            fingerprint=identity.fingerprint,
            sealed_key=fleet.vault.seal(key, source_id),
            keyed_at=now,
            connected_at=now,
            # The names of windows have whole seconds.
            since=since.astimezone(UTC).replace(microsecond=0),
            every_seconds=wishes.every_seconds,
            resources=wishes.resources,
            reserve=reserve,
            allow_user_key=wishes.allow_user_key,
            retention_months=wishes.retention_months,
            access=verdict.access,
            renamings=renamings,
        )
    )
    fleet.daily.begin(source_id)
    schedule_next(fleet, source, now)
    return source


def refuse_taken(fleet: Runtime, source_id: str) -> None:
    """Raise `Exists` if *source_id* is connected, or a `Fault` if storage couldn't keep it; sends nothing."""
    fleet.storage.check()
    found = _registered(fleet, source_id)
    if found and found.state is not SourceState.DISCONNECTED:
        raise Exists(
            f"{source_id} is connected already: `pagetrail source rotate {source_id}` changes its "
            f"key, `pagetrail source disconnect {source_id}` ends it."
        )


def get(fleet: Runtime, source_id: str) -> Source:
    """Return a source; `NotFound` if there isn't one of that name."""
    return fleet.sources.get(parse_source_id(source_id))


def get_connected(fleet: Runtime, source_id: str) -> Source:
    """Return a source that has a key; `Fault` if it is disconnected, `NotFound` if there isn't one of that name."""
    source = get(fleet, source_id)
    if source.state is SourceState.DISCONNECTED:
        raise Fault(f"{source.id} is disconnected: `pagetrail source connect {source.id}` first.")
    return source


def sources(fleet: Runtime) -> list[Source]:
    """Return every source, in the order of their ids."""
    return fleet.sources.list()


def check(
    fleet: Runtime, source_id: str, *, renamed_by: str | None = None
) -> tuple[Source, KeyReport]:
    """Try the key of a source again, and keep its present access.

    *renamed_by* is the person who confirms that the account was renamed; None if nobody does. The renaming is kept with
    its proof. Raises `KeyRefused` (also if the key now belongs to another account), `VaultFault` without a key, `Busy`.
    """
    source = get(fleet, source_id)
    key = key_of(fleet.vault, source)
    tried, verdict = _tried(fleet, source, key, renamed_by)
    return (source if tried == source else fleet.sources.save(tried)), verdict


def rotate(
    fleet: Runtime,
    source_id: str,
    key: str,
    *,
    allow_user_key: bool = False,
    agree: Agree = lambda _: None,
    renamed_by: str | None = None,
) -> Source:
    """Try *key*, put it in place of the source's key, and resume a run that waits for a key.

    *renamed_by* is the person who confirms that the account was renamed; None if nobody does. Raises `KeyRefused` (also
    for a key of another account), `Busy`, and any `Fault` of *agree*. After an error the source keeps its old key.
    """
    source = get_connected(fleet, source_id)
    fleet.storage.check()
    tried, verdict = _tried(fleet, source, key, renamed_by)
    _refuse_user_key(verdict.identity, allowed=allow_user_key or source.allow_user_key)
    agree(verdict)
    saved = fleet.sources.save(
        replace(
            tried,
            credential=verdict.identity.credential,
            fingerprint=verdict.identity.fingerprint,
            sealed_key=fleet.vault.seal(key, source.id),
            keyed_at=_now(fleet),
            allow_user_key=source.allow_user_key or verdict.identity.credential == "user",
        )
    )
    if saved.state is SourceState.ACTIVE:
        _publish(fleet, saved, fleet.ledger.resume(saved.id))
    return saved


def change(fleet: Runtime, source_id: str, **changes: Unpack[Changes]) -> Source:
    """Change settings of a source. They apply from its next run, and decide when that run is due."""
    check_settings(changes)
    saved = fleet.sources.save(replace(get(fleet, source_id), **changes))
    if "every_seconds" in changes:
        schedule_next(fleet, saved, _now(fleet))
    if "retention_months" in changes:
        fleet.daily.within(saved.id, 0)
    return saved


def hold(fleet: Runtime, source_id: str) -> Source:
    """Put a source under legal hold: neither `purge` nor its retention erases anything. Safe to repeat.

    It calls off a purge that waits for its record. Runs whose erasure is already recorded stay erased. Raises `Busy`
    while such a record is being stored.
    """
    with fleet.sources.alone(parse_source_id(source_id)):
        source = fleet.sources.fresh(source_id)
        if source.held_since:
            return source
        purge = source.purge if is_recorded(fleet.storage, source) else None
        return fleet.sources.save(replace(source, held_since=_now(fleet), purge=purge))


def release(fleet: Runtime, source_id: str) -> tuple[Source, datetime | None]:
    """End the legal hold of a source; return the source and when the hold began (None: it was not held).

    The retention of the source applies again. Safe to repeat.
    """
    source = fleet.sources.fresh(parse_source_id(source_id))
    held_since = source.held_since
    if held_since:
        source = fleet.sources.save(replace(source, held_since=None))
    fleet.daily.within(source_id, 0)
    return source, held_since


def pause(fleet: Runtime, source_id: str) -> Source:
    """Send nothing for a source until it is resumed: its open run waits. Safe to repeat."""
    saved = _in_state(fleet, get_connected(fleet, source_id), SourceState.PAUSED)
    fleet.ledger.schedule(saved.id, None)
    fleet.ledger.hold(saved.id, SourceState.PAUSED)
    return saved


def resume(fleet: Runtime, source_id: str) -> Source:
    """Let a paused or suspended source go on: its open run at once, its next run when due. Safe to repeat."""
    saved = _in_state(fleet, get_connected(fleet, source_id), SourceState.ACTIVE)
    schedule_next(fleet, saved, _now(fleet))
    _publish(fleet, saved, fleet.ledger.resume(saved.id))
    return saved


def pause_all(fleet: Runtime) -> None:
    """Stop all requests of all sources until `resume_all`; requests under way are finished.

    Every process knows within two seconds. Runs that come due in the meantime are opened afterwards. The pause survives
    an emptied Redis. Safe to repeat.
    """
    fleet.switch.pause()


def resume_all(fleet: Runtime) -> None:
    """Let requests be sent again; sources that were paused one by one stay paused. Safe to repeat."""
    fleet.switch.resume()


def disconnect(fleet: Runtime, source_id: str) -> Source:
    """Destroy the key and the schedule of a source, cancel its open run, keep its evidence. Safe to repeat."""
    saved = get(fleet, source_id)
    if saved.state is not SourceState.DISCONNECTED:
        saved = fleet.sources.save(replace(saved, state=SourceState.DISCONNECTED, sealed_key=None))
    fleet.ledger.schedule(saved.id, None)
    if not wants_look(saved):
        fleet.daily.end(saved.id)
    if run := fleet.ledger.progress(saved.id).run:
        _publish(fleet, saved, fleet.ledger.cancel(saved.id, run))
    return saved


def _tried(
    fleet: Runtime, source: Source, key: str, renamed_by: str | None
) -> tuple[Source, KeyReport]:
    """Return *source* with the access of *key* and the account's present name, not saved yet, and the report.

    Raises `KeyRefused` unless the key belongs to the account whose evidence the source holds.
    """
    verdict = examine_key(
        fleet, source.region, key, reserve=source.reserve, resources=source.resources
    )
    identity, now = verdict.identity, _now(fleet)
    renamings = renaming.confirmed(fleet, source.id, key, identity, source, at=now, by=renamed_by)
    tried = replace(
        source, access=verdict.access, subdomain=identity.subdomain, renamings=renamings
    )
    return tried, verdict


def _registered(fleet: Runtime, source_id: str) -> Source | None:
    try:
        return get(fleet, source_id)
    except NotFound:
        return None


def _refuse_user_key(identity: Identity, *, allowed: bool) -> None:
    if identity.credential == "user" and not allowed:
        raise KeyRefused(
            "This key belongs to a user: PagerDuty silently leaves out records that the user can't see, "
            "and the key stops working when the user leaves. Use a General Access key, or add "
            "--allow-user-key and accept that runs are never better than partial."
        )


def _in_state(fleet: Runtime, source: Source, state: SourceState) -> Source:
    return source if source.state is state else fleet.sources.save(replace(source, state=state))


def _now(fleet: Runtime) -> datetime:
    """Return the time of Redis's clock in whole seconds."""
    return fleet.ledger.time().now


def _publish(fleet: Runtime, source: Source, outcome: Effect) -> None:
    """Send the messages that a step of the ledger asked for. Otherwise the tick would send them half a minute later."""
    if run := fleet.ledger.progress(source.id).run:
        messages.publish(fleet, source.id, run, outcome)
