"""Incidents: their times, their statuses, and their bodies of about 2.5 KB."""

import random
from typing import Any

import orjson

from simulator import config, words
from simulator.names import Names
from simulator.records import Incident, Note, make_id
from simulator.times import DAY_SECONDS, iso

Body = dict[str, Any]
STORY_SLOTS = 64  # log entry numbers reserved for each incident


def generate(account: Names) -> list[Incident]:
    """Return the account's incidents, numbered in order of creation. Their bodies are made later."""
    spec, dice = account.spec, random.Random(f"{account.spec.seed}/{account.spec.subdomain}/times")
    period, dense = spec.days * DAY_SECONDS, spec.dense_days * DAY_SECONDS
    first, middle = account.anchor - period, account.anchor - period / 2
    moments = sorted(
        int(middle - dense / 2 + dice.random() * dense)
        if dice.random() < spec.dense_share
        else int(first + dice.random() * (period - 60))
        for _ in range(spec.incidents)
    )
    return [_incident(account, 1_001 + n, at, dice) for n, at in enumerate(moments)]


def _incident(account: Names, number: int, at: int, dice: random.Random) -> Incident:
    incident = open_incident(account, number, at, dice.randrange(max(1, account.spec.services)))
    incident.urgency = "low" if dice.random() < 0.35 else "high"
    chatty = account.spec.log_entries_per_incident > 2.5
    if dice.random() < (0.7 if chatty else 0.1):
        incident.acknowledged_at = at + dice.randint(20, 900)
        incident.status = "acknowledged"
    ends = (incident.acknowledged_at or at) + dice.randint(60, 6 * 3_600)
    if dice.random() < 0.98 and ends < account.anchor:
        incident.resolved_at, incident.status = ends, "resolved"
    elif (incident.acknowledged_at or 0) >= account.anchor:
        incident.acknowledged_at, incident.status = None, "triggered"
    return incident


def open_incident(account: Names, number: int, at: int, service: int) -> Incident:
    """Return a triggered incident of *service*, created at *at*."""
    id = account.id("incidents", number, "Q")
    incident = Incident("incidents", number, id, (at, number), at)
    incident.status, incident.urgency, incident.service = "triggered", "high", service
    incident.acknowledged_at = incident.resolved_at = None
    return incident


def title(incident: Incident) -> str:
    """Return the incident's title, the same at every start."""
    n = incident.number
    system = words.SYSTEMS[n * 7 % len(words.SYSTEMS)]
    return f"{words.SYMPTOMS[n * 13 % len(words.SYMPTOMS)]} on {system}-{n % 97:02d}"


def reference(account: Names, incident: Incident) -> Body:
    """Return the reference to an incident."""
    return account.refer("incidents", incident.id, f"[#{incident.number}] {title(incident)}")


def responder(account: Names, incident: Incident) -> int:
    """Return the number of the user who works on an incident. A few of these users were deleted."""
    n = incident.number
    return n * 17 % account.spec.users if account.spec.users and n % 41 else 9_000 + n % 5


def first_entry(incident: Incident) -> str:
    """Return the id of the incident's trigger log entry."""
    return make_id("log_entries", incident.number * STORY_SLOTS, "R")


def body(account: Names, incident: Incident) -> Body:
    """Return the incident as the list shows it."""
    n, dice = incident.number, random.Random(account.spec.seed << 32 | incident.number)
    service, who = account.fragment("services", incident.service), responder(account, incident)
    teams = account.teams_of("services", incident.service)
    policy = config.policy_of(account, incident.service)
    name, links = title(incident), account.links("incidents", incident.id)
    trigger = first_entry(incident)
    alerts = dice.randint(1, 4)
    created = iso(incident.created)
    result: Body = {
        "incident_number": n,
        "title": name,
        "description": name,
        "created_at": created,
        "incident_key": f"{dice.getrandbits(128):032x}",
        "service": service,
        "assigned_via": "direct_assignment" if n % 19 == 0 else "escalation_policy",
        "first_trigger_log_entry": {
            "id": trigger, "type": "trigger_log_entry_reference",
            "summary": "Triggered through the API.",
            "self": f"https://api.pagerduty.com/log_entries/{trigger}",
            "html_url": f"{links['html_url']}/log_entries/{trigger}"},
        "alert_counts": {"all": alerts, "triggered": alerts, "resolved": 0},
        "is_mergeable": True,
        "incident_type": {"name": "incident_default"},
        "escalation_policy": account.fragment("escalation_policies", policy),
        "teams": [account.fragment("teams", t) for t in teams],
        "impacted_services": [service],
        "priority": account.ref("priorities", n % 5) if n % 3 and account.has("priorities") else None,
        "resolve_reason": None,
        "alert_grouping": {"grouping_type": "advanced", "started_at": created, "ended_at": None,
                           "alert_grouping_active": True} if n % 6 == 0 else None,
        "incidents_responders": [],
        "responder_requests": [],
        "subscriber_requests": [],
        "urgency": incident.urgency,
        "id": incident.id,
        "type": "incident",
        "summary": f"[#{n}] {name}",
        **links,
        "body": {"type": "incident_body", "details": _details(dice, n)},
    }  # fmt: skip
    return result | _state(account, incident, alerts, who)


def _details(dice: random.Random, n: int) -> Body:
    return {
        "environment": ("prod", "staging", "prod-eu")[n % 3],
        "host": f"ip-10-{n % 200}-{n % 7}-{n % 250}.internal",
        "remote_ip": f"203.0.113.{n % 255}",
        "reported_by": f"person{n % 9}@{('example.net', 'bücher.example')[n % 2]}",
        "ratio": round(dice.random(), 4),
        "null": None,
        "notes": " ".join(dice.choices(words.SENTENCES, k=2)),
    }


def _state(account: Names, incident: Incident, alerts: int, who: int) -> Body:
    """Return the fields that follow the incident's status."""
    user, resolved = account.fragment("users", who), incident.status == "resolved"
    service = account.fragment("services", incident.service)
    last = incident.resolved_at or incident.acknowledged_at or incident.created
    acknowledged = incident.status == "acknowledged"
    return {
        "status": incident.status,
        "updated_at": iso(last),
        "resolved_at": iso(incident.resolved_at) if incident.resolved_at else None,
        "last_status_change_at": iso(last),
        "last_status_change_by": service if incident.status == "triggered" else user,
        "assignments": [] if resolved else [{"at": iso(incident.created), "assignee": user}],
        "acknowledgements": [{"at": iso(last), "acknowledger": user}] if acknowledged else [],
        "pending_actions": [] if resolved else [
            {"type": "unacknowledge", "at": iso(last + 1_800)} if acknowledged
            else {"type": "escalate", "at": iso(last + 900)},
            {"type": "resolve", "at": iso(last + 14_400)},
        ],
        "alert_counts": {"all": alerts, "triggered": 0 if resolved else alerts,
                         "resolved": alerts if resolved else 0},
    }  # fmt: skip


def restated(account: Names, incident: Incident, old: bytes, at: float) -> bytes:
    """Return a body with the current status of *incident*; `updated_at` is *at*."""
    known = orjson.loads(old)
    state = _state(account, incident, known["alert_counts"]["all"], responder(account, incident))
    state["updated_at"] = state["last_status_change_at"] = iso(at)
    return orjson.dumps(known | state)


def more(account: Names, incident: Incident) -> Body:
    """Return the parts of an incident that are only shown on request."""
    bridge = {"conference_number": f"+1-415-555-{incident.number % 10_000:04d},,,,1234#",
              "conference_url": f"https://meet.example/{incident.id.lower()}"}  # fmt: skip
    return {"conference_bridge": bridge, "custom_fields": custom_fields(incident)}


def custom_fields(incident: Incident) -> list[Body]:
    """Return the values of the incident's custom fields."""
    value = f"/var/log/{incident.id.lower()}.log" if incident.number % 2 else None
    return [{"id": make_id("custom_fields", 1), "type": "field_value", "name": "log_path",
             "display_name": "Log path", "description": "Where to look first",
             "data_type": "string", "field_type": "single_value", "value": value}]  # fmt: skip


def alerts(account: Names, incident: Incident, current: Body) -> list[Body]:
    """Return the incident's alerts; they follow its status."""
    made = []
    for slot in range(current["alert_counts"]["all"]):
        id = make_id("alerts", incident.number * 8 + slot, "Q")
        status = "resolved" if incident.status == "resolved" else "triggered"
        made.append({
            "id": id, "type": "alert", "summary": title(incident),
            "self": f"https://api.pagerduty.com/incidents/{incident.id}/alerts/{id}",
            "html_url": f"https://{account.spec.subdomain}.pagerduty.com/alerts/{id}",
            "created_at": iso(incident.created + slot * 7), "status": status,
            "resolved_at": current["resolved_at"], "updated_at": current["updated_at"],
            "alert_key": f"{incident.id}-{slot}", "suppressed": slot == 3, "severity": "critical",
            "service": current["service"], "incident": reference(account, incident),
            "first_trigger_log_entry": current["first_trigger_log_entry"], "integration": None,
            "body": {"type": "alert_body", "contexts": [], "details": {"slot": slot, "note": None}},
        })  # fmt: skip
    return made


def note(account: Names, incident: Incident, number: int, at: float) -> Note:
    """Return note *number* of the account, written on an incident."""
    made = Note("notes", number, make_id("notes", number), (incident.number, int(at), number), at)
    made.incident = incident
    return made


def notes(account: Names, incident: Incident) -> list[Note]:
    """Return the generated notes of an incident, up to two."""
    slots = range(incident.number % 3)
    return [
        note(account, incident, incident.number * 4 + n, incident.created + 300 * (n + 1))
        for n in slots
    ]


def note_body(account: Names, note: Note) -> Body:
    """Return a note. A bot edited every second one."""
    incident, slot = note.incident, note.number % 4
    user = account.ref("users", responder(account, incident))
    if slot:
        user = user | {"type": "bot_user_reference", "summary": "Runbook bot"}
    return {"id": note.id, "user": user,
            "channel": {"summary": "The PagerDuty website or APIs"},
            "content": words.NOTES[incident.number % len(words.NOTES)],
            "created_at": iso(note.created), "updated_at": iso(note.created + 60 * slot)}  # fmt: skip
