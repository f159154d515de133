"""The lists whose records have a history, as data: paths, wrappers, paging, windows, gates."""

from dataclasses import dataclass
from typing import Literal

CAP = 10_000  # maximum of offset + limit


@dataclass(frozen=True, slots=True)
class Listing:
    """One list endpoint, and with *item* also the endpoint of one record."""

    path: str
    kind: str  # kind of the records, which names the store
    wrapper: str
    item: str | None = None
    window: Literal["incidents", "log_entries", "audit"] | None = None
    zone: Literal["utc", "account"] = "utc"  # time zone of the answer, unless time_zone is sent
    filters: tuple[str, ...] = ()
    sorts: tuple[str, ...] = ()
    ability: str | None = None
    limit_default: int = 25
    limit_max: int = 100
    cap: int | None = CAP
    has_total: bool = True


INCIDENTS = Listing(
    "/incidents", "incidents", "incidents", "incident", window="incidents",
    filters=("statuses[]", "urgencies[]", "service_ids[]", "team_ids[]", "user_ids[]", "incident_key"),
    sorts=("incident_number", "created_at", "resolved_at", "urgency"),
)  # fmt: skip
LOG_ENTRIES = Listing(
    "/log_entries", "log_entries", "log_entries", "log_entry", window="log_entries", zone="account",
    filters=("team_ids[]", "is_overview"),
)  # fmt: skip
AUDIT = Listing(
    "/audit/records", "audit_records", "records", window="audit", ability="audit",
    filters=("root_resource_types[]", "actor_type", "actor_id", "method_type",
             "method_truncated_token", "actions[]"),
)  # fmt: skip
SERVICES = Listing(
    "/services", "services", "services", "service", zone="account",
    filters=("query", "name", "team_ids[]"), sorts=("name",),
)  # fmt: skip
TEAMS = Listing("/teams", "teams", "teams", "team", filters=("query",), ability="teams")
USERS = Listing("/users", "users", "users", "user", filters=("query", "team_ids[]"))
POLICIES = Listing(
    "/escalation_policies", "escalation_policies", "escalation_policies", "escalation_policy",
    filters=("query", "team_ids[]", "user_ids[]"), sorts=("name",),
)  # fmt: skip
SCHEDULES = Listing("/schedules", "schedules", "schedules", filters=("query", "team_ids[]"))
V3_SCHEDULES = Listing(
    "/v3/schedules", "v3_schedules", "schedules", filters=("query", "team_ids[]"),
    limit_default=100, limit_max=1_000, cap=None, has_total=False, ability="shift_schedules",
)  # fmt: skip
ONCALLS = Listing("/oncalls", "none", "oncalls")
MEMBERS = Listing("/teams/{id}/members", "members", "members", ability="teams")
STORY = Listing(
    "/incidents/{id}/log_entries", "log_entries", "log_entries", zone="account",
    filters=("is_overview",),
)  # fmt: skip

LISTINGS = (INCIDENTS, LOG_ENTRIES, SERVICES, TEAMS, USERS, POLICIES)  # same for list and item
# Resources that have an audit trail of their own.
AUDITED = ("users", "teams", "services", "schedules", "escalation_policies", "v3/schedules")
