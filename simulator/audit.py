"""Audit records: who changed which object, newest first, kept for twelve months."""

import random
from typing import Any

from simulator.names import Names
from simulator.records import Record, make_id
from simulator.times import DAY_SECONDS, iso_millis

Body = dict[str, Any]
KEPT_MONTHS = 12
SUBJECTS = ("users", "services", "teams", "schedules", "escalation_policies")
ACTIONS = ("update", "create", "update", "delete", "update")
METHODS = ("api_token", "browser", "identity_provider", "oauth", "browser")


def generate(account: Names) -> list[Record]:
    """Return the generated records: 13 months of them, so that some are older than PagerDuty keeps."""
    dice = random.Random(f"{account.spec.seed}/{account.spec.subdomain}/audit")
    span = 395 * DAY_SECONDS * 1_000
    ages = sorted((dice.randrange(span) for _ in range(account.spec.audit_records)), reverse=True)
    return [record(account, n, account.anchor - age / 1_000) for n, age in enumerate(ages)]


def record(account: Names, number: int, at: float, body: bytes | None = None) -> Record:
    """Return an audit record of the moment *at*, in milliseconds."""
    at = round(at * 1_000) / 1_000
    return Record(
        "audit_records", number, make_id("audit_records", number, "PDREC"), (at, number), at, body
    )


def body(account: Names, record: Record) -> Body:
    """Return a generated audit record. Every tenth has no actors, and pairs share a request."""
    n = record.number
    subject = SUBJECTS[n % len(SUBJECTS)]
    stores = account.spec
    count: int = getattr(stores, subject)
    who = account.ref("users", n * 3 % stores.users if stores.users and n % 29 else 9_001)
    root = account.ref(subject, n % count if count and n % 31 else 9_000 + n % 3)
    return compose(
        account, record, who if n % 10 else None, root, ACTIONS[n % 5], METHODS[n // 2 % 5]
    )


def compose(
    account: Names, record: Record, who: Body | None, root: Body, action: str, method: str
) -> Body:
    """Return an audit record that says that *who* did *action* to *root*."""
    n = record.number
    bare = {"id": root["id"], "type": root["type"], "summary": root["summary"],
            "self": root["self"], "html_url": root["html_url"]}  # fmt: skip
    result: Body = {
        "id": record.id,
        "self": None,
        "execution_time": iso_millis(record.created),
        "execution_context": {"request_id": f"req-{account.spec.seed}-{n // 2}",
                              "remote_address": f"198.51.100.{n % 255}"} if n % 7 else None,
        "method": {"type": method, "description": None,
                   "truncated_token": f"{n % 36:x}tok" if method == "api_token" else None},
        "root_resource": bare,
        "action": action,
        "details": {
            "resource": bare,
            "fields": None if n % 11 == 0 else [
                {"name": "name", "description": None, "value": root["summary"],
                 "before_value": f"{root['summary']} (old) ✎" if action == "update" else None}],
            "references": [{"name": "teams", "description": None, "added": [bare], "removed": None}]
            if n % 4 == 0 else None,
        },
    }  # fmt: skip
    if who is not None:
        result["actors"] = [{"id": who["id"], "type": who["type"], "summary": who["summary"],
                             "self": who["self"], "html_url": who["html_url"]}]  # fmt: skip
    return result
