"""Changes of settings: services, users, teams and their members, schedules and escalation policies."""

from __future__ import annotations

from typing import Any

import orjson

from simulator import audit, config
from simulator.changes.change import Change, ChangeError
from simulator.records import Record
from simulator.schedules import Duty, overlay

HOUR_SECONDS = 3_600
SETTINGS = {
    "service": "services",
    "user": "users",
    "team": "teams",
    "schedule": "schedules",
    "shift_schedule": "v3_schedules",
    "escalation_policy": "escalation_policies",
}


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


def add_override(change: Change) -> Record:
    """Put a user on call in a schedule for some hours, by default in the last three weeks: a late override."""
    account, schedule = change.account, change.chosen("schedules")
    ago = change.dice.randrange(1, 21 * 24) * HOUR_SECONDS
    start = int(change.args.get("start") or change.now // HOUR_SECONDS * HOUR_SECONDS - ago)
    end = int(change.args.get("end") or start + 4 * HOUR_SECONDS)
    duty = Duty(start, end, change.chosen("users", argument="user").number)
    made = account.late_overrides.setdefault(schedule.id, [])
    made[:] = overlay(made, [duty])
    account.stores["schedules"].revision += 1
    return schedule  # type: ignore[no-any-return]  # a store knows no types
