"""The bodies of an account's settings: services, users, teams, policies, schedules, members."""

import random
from collections.abc import Callable
from typing import Any

import orjson

from simulator import words
from simulator.names import Names
from simulator.records import Record, make_id
from simulator.times import iso

Body = dict[str, Any]


def _head(account: Names, kind: str, type_: str, record: Record, name: str | None = None) -> Body:
    name = account.name(kind, record.number) if name is None else name
    return {"id": record.id, "type": type_, "summary": name, **account.links(kind, record.id),
            "name": name}  # fmt: skip


def _secret(dice: random.Random, length: int = 32) -> str:
    return "".join(dice.choices("0123456789abcdef", k=length))


def _some(dice: random.Random, count: int, wanted: int) -> list[int]:
    return dice.sample(range(count), min(count, wanted))


def service(account: Names, record: Record) -> Body:
    """Return a service. Its integrations are references, unless they are asked for."""
    n, dice = record.number, account.rng("services", record.number)
    support = dice.random() < 0.4
    hours = {"type": "fixed_time_per_day", "time_zone": dice.choice(words.ZONES),
             "start_time": "09:00:00", "end_time": "17:00:00", "days_of_week": [1, 2, 3, 4, 5]}  # fmt: skip
    plain: Body = {"type": "constant", "urgency": dice.choice(("high", "low", "severity_based"))}
    split = {"type": "use_support_hours",
             "during_support_hours": {"type": "constant", "urgency": "high"},
             "outside_support_hours": {"type": "constant", "urgency": "low"}}  # fmt: skip
    return _head(account, "services", "service", record) | {
        "description": dice.choice((None, "", dice.choice(words.SENTENCES))),
        "created_at": iso(record.created),
        "updated_at": iso(record.created + 86_400),
        "status": dice.choice(("active", "active", "warning", "critical", "maintenance", "disabled")),
        "auto_resolve_timeout": dice.choice((None, 14_400)),
        "acknowledgement_timeout": dice.choice((None, 600, 1_800)),
        "last_incident_timestamp": iso(account.anchor - 3_600 * (n + 1)) if n % 4 else None,
        "teams": [account.ref("teams", t) for t in account.teams_of("services", n)],
        "escalation_policy": account.ref("escalation_policies", policy_of(account, n)),
        "incident_urgency_rule": split if support else plain,
        "support_hours": hours if support else None,
        "scheduled_actions": [
            {"type": "urgency_change", "at": {"type": "named_time", "name": "support_hours_start"},
             "to_urgency": "high"}
        ] if support else [],
        "addons": [],
        "alert_creation": "create_alerts_and_incidents",
        "alert_grouping_parameters": {"type": "intelligent" if n % 3 else None, "config": {}},
        "integrations": [_reference_of(i) for i in service_more(account, record)["integrations"]],
        "response_play": None,
    }  # fmt: skip


def policy_of(account: Names, service_number: int) -> int:
    """Return the number of a service's escalation policy. A few services name a deleted policy."""
    count = account.spec.escalation_policies
    return service_number % count if count and service_number % 23 != 22 else 9_000 + service_number


def _reference_of(body: Body) -> Body:
    return {"id": body["id"], "type": f"{body['type']}_reference", "summary": body["summary"],
            "self": body["self"], "html_url": body["html_url"]}  # fmt: skip


def service_more(account: Names, record: Record) -> Body:
    """Return the parts of a service that are only shown on request. Integration keys and addresses are secrets."""
    dice = account.rng("integrations", record.number)
    kinds = ("events_api_v2_inbound_integration", "generic_email_inbound_integration",
             "aws_cloudwatch_inbound_integration")  # fmt: skip
    made = []
    for slot in range(dice.randint(1, 3)):
        id, kind = make_id("integrations", record.number * 8 + slot), kinds[slot]
        links = {
            k: v and f"{v}/integrations/{id}"
            for k, v in account.links("services", record.id).items()
        }
        email = kind.startswith("generic_email")
        made.append({
            "id": id, "type": kind, "summary": f"{kind.split('_')[0]} {slot}", **links,
            "name": f"{kind.split('_')[0]} {slot}",
            "service": account.ref("services", record.number),
            "created_at": iso(record.created + 60),
            "vendor": None,
            "integration_key": _secret(dice),
            **({"integration_email": f"{_secret(dice, 10)}@{account.spec.subdomain}.pagerduty.com",
                "email_incident_creation": "on_new_email_subject", "email_filter_mode": "all-email"}
               if email else {}),
        })  # fmt: skip
    pause = {"enabled": record.number % 2 == 0, "timeout": 300 if record.number % 2 == 0 else None}
    return {"integrations": made, "auto_pause_notifications_parameters": pause}


def user(account: Names, record: Record) -> Body:
    """Return a user. Contact methods and notification rules are references, unless they are asked for."""
    n, dice = record.number, account.rng("users", record.number)
    more = user_more(account, record)
    return _head(account, "users", "user", record) | {
        "email": f"person{n}.{_secret(dice, 4)}@{account.spec.subdomain}.example",
        "time_zone": dice.choice(words.ZONES),
        "color": dice.choice(words.COLORS),
        "avatar_url": f"https://secure.gravatar.example/avatar/{_secret(dice)}.png?d=mm&r=PG",
        "billed": True,
        "role": "owner" if n == 0 else words.ROLES[n % len(words.ROLES)],
        "description": dice.choice((None, "On leave until further notice – écrire à l’équipe", "")),
        "invitation_sent": n % 13 == 12,
        "job_title": dice.choice(words.JOB_TITLES),
        "locale": None,
        "created_via_sso": n % 3 == 0,
        "teams": [account.ref("teams", t) for t in account.teams_of("users", n)],
        "contact_methods": [_reference_of(m) for m in more["contact_methods"]],
        "notification_rules": [_reference_of(r) for r in more["notification_rules"]],
        "coordinated_incidents": [],
    }  # fmt: skip


def user_more(account: Names, record: Record) -> Body:
    """Return the parts of a user that are only shown on request: addresses, rules, subdomains, calendar secrets."""
    dice = account.rng("contacts", record.number)
    base = f"https://api.pagerduty.com/users/{record.id}"
    phone = f"555{dice.randint(1_000_000, 9_999_999)}"
    shapes: list[tuple[str, str, str, Body]] = [
        ("email_contact_method", "Default", f"person{record.number}@home.example",
         {"send_short_email": False, "send_html_email": True, "enabled": True}),
        ("phone_contact_method", "Móvil", phone,
         {"country_code": 44, "enabled": True, "blacklisted": False}),
        ("sms_contact_method", "Móvil", phone,
         {"country_code": 44, "enabled": True, "blacklisted": False}),
        ("push_notification_contact_method", "Pixel 9", _secret(dice, 64),
         {"device_type": "android", "device_id": _secret(dice, 16), "sounds": [],
          "created_at": iso(record.created), "blacklisted": False}),
    ]  # fmt: skip
    methods = []
    for slot, (kind, label, address, rest) in enumerate(shapes[: dice.randint(1, 4)]):
        id = make_id("contact_methods", record.number * 8 + slot)
        methods.append({"id": id, "type": kind, "summary": label, "html_url": None,
                        "self": f"{base}/contact_methods/{id}", "label": label,
                        "address": address} | rest)  # fmt: skip
    rules = []
    for slot, method in enumerate(methods):
        id = make_id("notification_rules", record.number * 8 + slot)
        rules.append({"id": id, "type": "assignment_notification_rule", "html_url": None,
                      "summary": f"{slot * 5} minutes: channel {method['id']}",
                      "self": f"{base}/notification_rules/{id}",
                      "start_delay_in_minutes": slot * 5, "contact_method": _reference_of(method),
                      "urgency": "low" if slot == 3 else "high"})  # fmt: skip
    calendar = f"{account.spec.subdomain}.pagerduty.com/private/{_secret(dice, 40)}/feed"
    return {"contact_methods": methods, "notification_rules": rules,
            "subdomains": [account.spec.subdomain],
            "http_cal_url": f"https://{calendar}", "web_cal_url": f"webcal://{calendar}"}  # fmt: skip


def team(account: Names, record: Record) -> Body:
    """Return a team."""
    about = (None, "Owns what nobody else owns", "Équipe d’astreinte", "")[record.number % 4]
    return _head(account, "teams", "team", record) | {
        "description": about, "default_role": "none" if record.number % 5 == 4 else "manager",
        "parent": None}  # fmt: skip


def member(account: Names, record: Record) -> Body:
    """Return a membership: a user and a role, without an id."""
    return {"user": account.ref("users", record.number),
            "role": ("manager", "responder", "observer")[record.number % 3]}  # fmt: skip


def escalation_policy(account: Names, record: Record) -> Body:
    """Return an escalation policy. Some end with a deleted user, some name people directly."""
    spec, n = account.spec, record.number
    dice = account.rng("escalation_policies", n)
    rules = []
    for level in range(dice.randint(1, 3)):
        targets = [account.ref("users", u) for u in _some(dice, spec.users, 1 + level % 2)]
        if level == 0 and spec.schedules:
            targets = [account.ref("schedules", n % spec.schedules)]
        if level == 1 and spec.shift_schedules:
            targets.append(account.ref("v3_schedules", n % spec.shift_schedules))
        if level == 2 and n % 4 == 0:
            targets = [account.ref("users", 9_000 + n)]
        rules.append({"id": make_id("escalation_rules", n * 4 + level),
                      "escalation_delay_in_minutes": 15 * (level + 1),
                      "targets": targets or [account.ref("users", 9_000 + n)]})  # fmt: skip
    owned = (
        range(n, spec.services, spec.escalation_policies) if n < spec.escalation_policies else ()
    )
    return _head(account, "escalation_policies", "escalation_policy", record) | {
        "escalation_rules": rules,
        "services": [account.ref("services", s) for s in owned if policy_of(account, s) == n],
        "num_loops": n % 4,
        "teams": [account.ref("teams", t) for t in account.teams_of("escalation_policies", n)],
        "description": (None, "Nachts nur Stufe 1", "")[n % 3],
        "on_call_handoff_notifications": "if_has_services" if n % 2 else "always",
        "privilege": None,
    }  # fmt: skip


def schedule(account: Names, record: Record) -> Body:
    """Return a layer-based schedule without anything rendered."""
    n = record.number
    return _head(account, "schedules", "schedule", record) | {
        "time_zone": words.ZONES[n % len(words.ZONES)],
        "description": (None, "Two weeks each, handover on Monday 09:00", "")[n % 3],
        **_used_by(account, "schedules", n),
    }  # fmt: skip


def v3_schedule(account: Names, record: Record) -> Body:
    """Return a shift-based schedule without anything rendered."""
    n = record.number
    return _head(account, "v3_schedules", "schedule_v3", record) | {
        "time_zone": words.ZONES[n % len(words.ZONES)],
        "description": "Shifts, several people at once" if n % 2 else "",
        **_used_by(account, "v3_schedules", n),
    }  # fmt: skip


def _used_by(account: Names, kind: str, n: int) -> Body:
    spec = account.spec
    count = spec.schedules if kind == "schedules" else spec.shift_schedules
    policies = range(n, spec.escalation_policies, count) if n < count else ()
    return {
        "users": [account.ref("users", u) for u in crew(account, kind, n)],
        "escalation_policies": [account.ref("escalation_policies", p) for p in policies],
        "teams": [account.ref("teams", t) for t in account.teams_of(kind, n)],
    }


def crew(account: Names, kind: str, n: int) -> list[int]:
    """Return the numbers of the users in a schedule's rotation. Every seventh schedule has a deleted user."""
    people = _some(account.rng(f"crew/{kind}", n), account.spec.users, 4)
    return [*people, 9_000 + n] if n % 7 == 6 or not people else people


BODIES: dict[str, Callable[[Any, Any], Body]] = {
    "services": service,
    "users": user,
    "teams": team,
    "members": member,
    "escalation_policies": escalation_policy,
    "schedules": schedule,
    "v3_schedules": v3_schedule,
}
MORE: dict[str, Callable[[Any, Any], Body]] = {"services": service_more, "users": user_more}


def renamed(body: bytes, name: str) -> bytes:
    """Return a body under another name."""
    changed = orjson.loads(body)
    changed["name"] = changed["summary"] = name
    return orjson.dumps(changed)
