"""Log entries of each incident, made from the status changes in its body."""

from typing import Any

from simulator import incidents, words
from simulator.names import Names
from simulator.records import Incident, LogEntry, make_id
from simulator.times import iso

Body = dict[str, Any]
FILLERS = ("assign", "notify", "notify", "annotate", "escalate", "urgency_change", "snooze")
SUMMARIES = {
    "trigger": "Triggered through the API.",
    "assign": "Assigned to {who}.",
    "notify": "Notified {who} by SMS.",
    "acknowledge": "Acknowledged by {who}.",
    "annotate": "Note added by {who}.",
    "escalate": "Escalated to {who}.",
    "urgency_change": "Urgency changed.",
    "snooze": "Snoozed by {who} for 1 hour.",
    "resolve": "Resolved by {who}.",
    "unacknowledge": "Reopened by {who}.",
    "field_value_change": "A field was changed by {who}.",
}


def entry(incident: Incident, slot: int, what: str, at: float, who: int) -> LogEntry:
    """Return entry number *slot* of an incident."""
    number = incident.number * incidents.STORY_SLOTS + slot
    id = make_id("log_entries", number, "R")
    made = LogEntry("log_entries", number, id, (int(at), number), int(at))
    made.incident, made.what, made.who = incident, what, who
    return made


def story(account: Names, incident: Incident) -> list[LogEntry]:
    """Return the generated entries of an incident: every status change, with fillers in between."""
    who = incidents.responder(account, incident)
    events: list[tuple[float, str]] = [(incident.created, "trigger")]
    if incident.acknowledged_at:
        events.append((incident.acknowledged_at, "acknowledge"))
    if incident.resolved_at:
        events.append((incident.resolved_at, "resolve"))
    wanted = account.spec.log_entries_per_incident - 2.7  # number of status changes, on average
    extra = max(0, int(wanted + (incident.number * 37 % 100) / 100))
    until = min(incident.resolved_at or account.anchor, account.anchor)
    for slot in range(min(extra, incidents.STORY_SLOTS // 2)):
        # The first one is in the same second as the trigger.
        at = min(incident.created + slot * slot * 11, until)
        events.append((at, FILLERS[(incident.number + slot) % len(FILLERS)]))
    events.sort(key=lambda event: event[0])
    return [entry(incident, slot, what, at, who) for slot, (at, what) in enumerate(events)]


def body(account: Names, entry: LogEntry) -> Body:
    """Return a log entry as lists show it. The raw event is left out, unless it is asked for."""
    incident = entry.incident
    who = account.ref("users", entry.who)
    machine = entry.what in ("trigger", "assign", "notify", "escalate")
    page = f"https://{account.spec.subdomain}.pagerduty.com/incidents/{incident.id}"
    result: Body = {
        "id": entry.id,
        "type": f"{entry.what}_log_entry",
        "summary": SUMMARIES[entry.what].format(who=who["summary"]),
        "self": f"https://api.pagerduty.com/log_entries/{entry.id}",
        "html_url": f"{page}/log_entries/{entry.id}",
        "created_at": iso(entry.created),
        "agent": account.fragment("services", incident.service) if machine else who,
        "channel": {"type": _channel(entry.what)},
        "service": account.fragment("services", incident.service),
        "incident": incidents.reference(account, incident),
        "teams": [account.fragment("teams", t) for t in account.teams_of("services", incident.service)],
        "contexts": [],
    }  # fmt: skip
    if entry.what == "trigger":
        result["event_details"] = {"description": incidents.title(incident)}
    if entry.what in ("assign", "escalate"):
        result["assignees"] = [who]
    if entry.what == "notify":
        result["user"] = who
    if entry.what == "annotate":
        result["note"] = words.NOTES[entry.number % len(words.NOTES)]
    return result


def _channel(what: str) -> str:
    return {"trigger": "api", "annotate": "note", "notify": "auto"}.get(what, "web_ui")


def more(account: Names, entry: LogEntry) -> Body:
    """Return the raw event behind a log entry, as `include[]=channels` shows it."""
    channel: Body = {"type": _channel(entry.what)}
    if entry.what == "trigger":
        channel |= {"summary": incidents.title(entry.incident), "subject": None,
                    "details": {"class": "synthetic", "raw": words.SENTENCES[entry.number % 6],
                                "client": "probe-7", "cef_details": None}}  # fmt: skip
    elif entry.what == "notify":
        channel["notification"] = {"type": "sms_notification", "status": "success",
                                   "address": f"+44 555{entry.number % 10_000_000:07d}"}  # fmt: skip
    elif entry.what == "annotate":
        channel["summary"] = words.NOTES[entry.number % len(words.NOTES)]
    elif entry.what == "snooze":
        channel["duration"] = 3_600
    return {"channel": channel}
