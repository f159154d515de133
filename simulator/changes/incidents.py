"""Changes of incidents and their notes, each with the log entry that PagerDuty would write."""

from __future__ import annotations

from bisect import insort
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from simulator import incidents, log, words
from simulator.changes.change import Change, ChangeError
from simulator.records import Incident, Note, Record
from simulator.times import iso

LIVE_LOG = 10**9  # log entries from this number on were written while serving
NOTES_FROM = 10**9  # the same of notes


def create(change: Change) -> Record:
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
    _write(change, incident, "trigger", at, incident.number * incidents.STORY_SLOTS)
    return incident


def _logged(change: Change, incident: Incident, what: str) -> None:
    """Write the log entry of a change, unless the account's habit is to write none for it."""
    if change.do not in change.account.spec.habits.unlogged:
        _write(change, incident, what, change.now, LIVE_LOG + change.live())


def _write(change: Change, incident: Incident, what: str, at: float, number: int) -> None:
    account, slot = change.account, number - incident.number * incidents.STORY_SLOTS
    entry = log.entry(incident, slot, what, at, incidents.responder(account, incident))
    of = account.log_of.setdefault(incident.id, [])
    account.log.add(entry, change.now)
    insort(of, entry, key=attrgetter("order"))


class Turn(NamedTuple):
    """A change of status: the statuses that it can follow, and its log entry."""

    fits: tuple[str, ...]
    what: str


TURNS = {
    "acknowledged": Turn(("triggered",), "acknowledge"),
    "resolved": Turn(("triggered", "acknowledged"), "resolve"),
    "triggered": Turn(("resolved",), "unacknowledge"),
}


def turn(status: str, change: Change) -> Record:
    """Give an incident another status. A resolved one can be reopened."""
    fits, what = TURNS[status]
    incident: Incident = change.chosen("incidents", lambda i: i.status in fits)
    if incident.status not in fits:
        raise ChangeError(f"{incident.id} is {incident.status}.")
    _turned(change, incident, status, what)
    return incident


def _turned(change: Change, incident: Incident, status: str, what: str, **more: Any) -> None:
    account = change.account
    store = account.stores["incidents"]
    old = store.body(incident)
    _ = account.log_of
    at = int(change.now)
    incident.status = status
    incident.resolved_at = at if status == "resolved" else None
    incident.acknowledged_at = at if status == "acknowledged" else incident.acknowledged_at
    body = orjson.loads(incidents.restated(account, incident, old, at)) | more
    store.change(incident, orjson.dumps(body), change.now)
    _logged(change, incident, what)


def merge(change: Change) -> Record:
    """Merge an open incident into another one: it is resolved, and says which incident took it."""
    source: Incident = change.chosen("incidents", lambda i: i.status != "resolved")
    target = change.chosen("incidents", lambda i: i is not source, "into")
    if source is target or source.status == "resolved":
        raise ChangeError(f"{source.id} can't be merged into {target.id}.")
    into = incidents.reference(change.account, target)
    reason = {"type": "merge_resolve_reason", "incident": into}
    _turned(change, source, "resolved", "resolve", resolve_reason=reason)
    return source


def retitle(change: Change) -> Record:
    """Give an incident another title."""
    incident: Incident = change.chosen("incidents")
    title = change.args.get("title") or f"Retitled {change.live()} ✎"
    summary = f"[#{incident.number}] {title}"
    _edited(change, incident, "field_value_change", title=title, summary=summary)
    return incident


def prioritise(change: Change) -> Record:
    """Give an incident another priority."""
    account, incident = change.account, change.chosen("incidents")
    now = (orjson.loads(account.stores["incidents"].body(incident))["priority"] or {}).get("id")
    others = [ref for ref in (account.ref("priorities", n) for n in range(5)) if ref["id"] != now]
    _edited(change, incident, "field_value_change", priority=change.dice.choice(others))
    return incident  # type: ignore[no-any-return]  # a store knows no types


def reassign(change: Change) -> Record:
    """Assign an open incident to another user."""
    account = change.account
    incident: Incident = change.chosen("incidents", lambda i: i.status != "resolved")
    if incident.status == "resolved":
        raise ChangeError(f"{incident.id} is resolved.")
    user = change.chosen("users", argument="to")
    name = orjson.loads(account.stores["users"].body(user))["name"]
    assignee = account.refer("users", user.id, name)
    assignments = [{"at": iso(change.now), "assignee": assignee}]
    _edited(change, incident, "assign", assignments=assignments)
    return incident


def _edited(change: Change, incident: Incident, what: str, **members: Any) -> None:
    store = change.account.stores["incidents"]
    _ = change.account.log_of
    body = orjson.loads(store.body(incident)) | members | {"updated_at": iso(change.now)}
    store.change(incident, orjson.dumps(body), change.now)
    _logged(change, incident, what)


def delete(change: Change) -> Record:
    """Delete an incident and its notes. No log entry says so; its entries stay or vanish, by the account's habit."""
    account, incident = change.account, change.chosen("incidents")
    entries, notes = list(account.log_of.get(incident.id, ())), account.notes_of(incident)
    account.stores["incidents"].remove(incident, change.now)
    for note in notes:
        account.notes.remove(note, change.now)
    if account.spec.habits.entries_of_deleted == "vanish":
        for entry in entries:
            account.log.remove(entry, change.now)
        account.log_of.pop(incident.id, None)
    return incident  # type: ignore[no-any-return]  # a store knows no types


def restrict(change: Change) -> Record:
    """Hide an incident from every key: lists leave it out without a word. No log entry says so."""
    account = change.account
    incident: Incident = change.chosen("incidents", lambda i: i.id not in account.restricted)
    account.restricted[incident.id] = change.now
    account.stores["incidents"].revision += 1
    return incident


def add_note(change: Change) -> Record:
    """Add a note to an incident."""
    account = change.account
    incident: Incident = change.chosen("incidents", argument="incident")
    note = incidents.note(account, incident, NOTES_FROM + change.live(), change.now)
    text = change.args.get("content") or change.dice.choice(words.NOTES)
    body = incidents.note_body(account, note) | {"content": text, "updated_at": iso(change.now)}
    note.body_ = orjson.dumps(body)
    _ = account.log_of
    account.notes.add(note, change.now)
    _logged(change, incident, "annotate")
    return note


def edit_note(change: Change) -> Record:
    """Change the text of a note. No log entry says so, and the incident stays as it was."""
    notes, note = change.account.notes, change.chosen("notes")
    text = change.args.get("content") or f"Edited {change.live()} ✎"
    body = orjson.loads(notes.body(note)) | {"content": text, "updated_at": iso(change.now)}
    notes.change(note, orjson.dumps(body), change.now)
    return note  # type: ignore[no-any-return]  # a store knows no types


def delete_note(change: Change) -> Record:
    """Delete a note. No log entry says so, and the entry about the note stays."""
    note: Note = change.chosen("notes")
    change.account.notes.remove(note, change.now)
    return note
