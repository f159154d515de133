"""Changes records while serving: one on demand, or many as churn. Earlier versions are kept."""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import orjson

from simulator import audit, config, incidents, log
from simulator.records import Incident, Record
from simulator.world import Account

SETTINGS = {
    "service": "services",
    "user": "users",
    "team": "teams",
    "schedule": "schedules",
    "shift_schedule": "v3_schedules",
    "escalation_policy": "escalation_policies",
}
LIVE_LOG = 10**9  # log entries from this number on were written while serving


class ChangeError(ValueError):
    """Says in one sentence why a change can't be made."""


@dataclass(slots=True)
class Change:
    """The account to change, the time, the dice, and the arguments that were sent."""

    account: Account
    now: float
    dice: random.Random
    args: dict[str, Any]

    def chosen(self, kind: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return the record with the id that was sent, or any record that fits."""
        store = self.account.store(kind)
        if (id := self.args.get("id")) is not None:
            if id not in store.by_id:
                raise ChangeError(f"{kind} has no {id!r}.")
            return store.by_id[id]
        for _ in range(20 if store.rows else 0):  # cheaper than filtering thousands of incidents
            if fits(found := self.dice.choice(store.rows)):
                return found
        if fitting := [record for record in store.rows if fits(record)]:
            return self.dice.choice(fitting)
        raise ChangeError(f"{kind} has no record to choose.")

    def live(self) -> int:
        """Return the next number for a record that is created while serving."""
        self.account.next_live += 1
        return self.account.next_live


def create(kind: str, change: Change) -> Record:
    """Add a record of a setting, with the name that was sent or a generated one."""
    account, number = change.account, change.live()
    generated = account.name(kind, number)
    name = change.args.get("name") or generated
    record = account.named(kind, number, name, None)
    if name != generated:
        record.body_ = config.renamed(account.store(kind).render(record), name)
    account.store(kind).add(record, change.now)
    _audited(change, kind, record, "create")
    return record


def rename(kind: str, change: Change) -> Record:
    """Give a setting another name, which moves it in lists that are sorted by name."""
    record: Record = change.chosen(kind)
    store = change.account.store(kind)
    name = change.args.get("name") or f"{change.dice.choice('ABMXZé')}-renamed {change.live()}"
    body = config.renamed(store.body(record), name)
    store.change(record, body, change.now, (name.casefold(), record.id))
    if kind == "users":
        members = change.account.stores["members"]
        for membership in [m for m in members.rows if m.id.endswith(f":{record.id}")]:
            known = orjson.loads(members.body(membership))
            known["user"]["summary"] = name
            members.change(membership, orjson.dumps(known), change.now)
    _audited(change, kind, record, "update")
    return record


def delete(kind: str, change: Change) -> Record:
    """Delete a setting. References to it stay, and its memberships are deleted too."""
    record: Record = change.chosen(kind)
    _audited(change, kind, record, "delete")
    change.account.store(kind).remove(record, change.now)
    members = change.account.stores["members"]
    if kind in ("users", "teams"):
        for membership in [m for m in members.rows if record.id in m.id.split(":")]:
            members.remove(membership, change.now)
    return record


def _audited(change: Change, kind: str, root: Record, action: str) -> None:
    account = change.account
    name = orjson.loads(account.store(kind).body(root))["summary"]
    _add_audit(change, account.refer(kind, root.id, name), action)


def _add_audit(change: Change, root: dict[str, Any], action: str) -> Record:
    account = change.account
    record = audit.record(account, change.live(), change.now)
    body = audit.compose(account, record, account.ref("users", 0), root, action, "api_token")
    record.body_ = orjson.dumps(body)
    account.stores["audit_records"].add(record, change.now)
    return record


def add_audit_record(change: Change) -> Record:
    """Add an audit record about some user."""
    return _add_audit(change, change.account.ref("users", 0), "update")


def add_member(change: Change) -> Record:
    """Add a user to a team that doesn't have this user yet."""
    account = change.account
    members = account.stores["members"]
    for _ in range(200 if account.stores["teams"].rows and account.stores["users"].rows else 0):
        team = change.dice.choice(account.stores["teams"].rows)
        user = change.dice.choice(account.stores["users"].rows)
        if f"{team.id}:{user.id}" not in members.by_id:
            record = account.membership(team, user.number, change.live())
            members.add(record, change.now)
            return record
    raise ChangeError("found no user who could join a team.")


def remove_member(change: Change) -> Record:
    """Remove a user from a team."""
    record: Record = change.chosen("members")
    change.account.stores["members"].remove(record, change.now)
    return record


def upgrade_schedule(change: Change) -> Record:
    """Turn a layer-based schedule into a shift-based one: same id, other list, other type."""
    account = change.account
    old: Record = change.chosen("schedules")
    known = orjson.loads(account.stores["schedules"].body(old))
    account.stores["schedules"].remove(old, change.now)
    new = Record("v3_schedules", old.number, old.id, old.order, old.created)
    body = config.v3_schedule(account, new)
    new.body_ = orjson.dumps(body | {"name": known["name"], "summary": known["name"]})
    account.stores["v3_schedules"].add(new, change.now)
    return new


def create_incident(change: Change) -> Record:
    """Open an incident now, or at `created_at` (epoch seconds): a record written late."""
    account = change.account
    services = account.stores["services"].rows
    service = change.dice.choice(services).number if services else 9_000
    account.next_incident_number += 1
    at = int(change.args.get("created_at") or change.now)
    incident = incidents.open_incident(account, account.next_incident_number, at, service)
    if title := change.args.get("title"):
        body = orjson.loads(account.stores["incidents"].render(incident))
        incident.body_ = orjson.dumps(
            body | {"title": title, "summary": f"[#{incident.number}] {title}"}
        )
    # Built before the new entry is added, because it is made from the existing ones.
    _ = account.log_of
    account.stores["incidents"].add(incident, change.now)
    _logged(change, incident, "trigger", at, incident.number * incidents.STORY_SLOTS)
    return incident


def _logged(
    change: Change,
    incident: Incident,
    what: str,
    at: float | None = None,
    number: int | None = None,
) -> None:
    account = change.account
    slot = (LIVE_LOG + change.live() if number is None else number) - (
        incident.number * incidents.STORY_SLOTS
    )
    who = incidents.responder(account, incident)
    entry = log.entry(incident, slot, what, change.now if at is None else at, who)
    of = account.log_of.setdefault(incident.id, [])
    account.log.add(entry, change.now)
    insort(of, entry, key=attrgetter("order"))


def _turn(status: str, what: str, fits: Sequence[str], change: Change) -> Record:
    """Give an incident another status, and add its log entry."""
    account = change.account
    incident: Incident = change.chosen("incidents", lambda i: i.status in fits)
    if incident.status not in fits:
        raise ChangeError(f"{incident.id} is {incident.status}.")
    store = account.stores["incidents"]
    old = store.body(incident)
    _ = account.log_of
    at = int(change.now)
    incident.status = status
    incident.resolved_at = at if status == "resolved" else None
    incident.acknowledged_at = at if status == "acknowledged" else incident.acknowledged_at
    store.change(incident, incidents.restated(account, incident, old, at), change.now)
    _logged(change, incident, what)
    return incident


CHANGES: dict[str, Callable[[Change], Record]] = {
    "create_incident": create_incident,
    "resolve_incident": lambda c: _turn("resolved", "resolve", ("triggered", "acknowledged"), c),
    "acknowledge_incident": lambda c: _turn("acknowledged", "acknowledge", ("triggered",), c),
    "reopen_incident": lambda c: _turn("triggered", "unacknowledge", ("resolved",), c),
    "upgrade_schedule": upgrade_schedule,
    "add_audit_record": add_audit_record,
    "add_member": add_member,
    "remove_member": remove_member,
}
for _word, _kind in SETTINGS.items():
    CHANGES[f"create_{_word}"] = lambda c, kind=_kind: create(kind, c)  # type: ignore[misc]  # the default binds
    CHANGES[f"rename_{_word}"] = lambda c, kind=_kind: rename(kind, c)  # type: ignore[misc]  # the default binds
    CHANGES[f"delete_{_word}"] = lambda c, kind=_kind: delete(kind, c)  # type: ignore[misc]  # the default binds


def apply(account: Account, do: str, dice: random.Random, args: dict[str, Any]) -> Record:
    """Make one change now; ChangeError if it can't be made."""
    if do not in CHANGES:
        raise ChangeError(f"do must be one of {', '.join(sorted(CHANGES))}.")
    return CHANGES[do](Change(account, account.now(), dice, args))


@dataclass(slots=True)
class Churn:
    """A number of changes that happen by themselves while an account is read."""

    account: Account
    operations: tuple[str, ...]
    count: int
    every_requests: int | None = None
    every_ms: float | None = None
    seed: int = 0
    made: int = 0
    requests: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Check the operations and seed the dice."""
        if unknown := set(self.operations) - set(CHANGES):
            raise ChangeError(f"{min(unknown)} isn't a change.")
        self.dice = random.Random(f"churn/{self.seed}")

    def request(self) -> None:
        """Count a request of the account, and make a change if one is due."""
        self.requests += 1
        if self.every_requests and self.requests % self.every_requests == 0:
            self.step()

    def step(self) -> None:
        """Make the next change. Skip a change that can't be made, for example because nothing is left to delete."""
        if self.made >= self.count:
            return
        self.made += 1
        try:
            apply(self.account, self.dice.choice(self.operations), self.dice, {})
        except ChangeError:
            self.made -= 1
            self.count -= 1
