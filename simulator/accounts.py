"""Reads descriptions of accounts from JSON: size, period, plan, keys and habits."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

REGIONS = ("us", "eu")
LIMIT = 960  # requests per minute and key: PagerDuty's published limit


class SpecError(ValueError):
    """Says in one sentence which part of an account description is wrong."""


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A credential, with its rights and its budget per minute."""

    key: str
    kind: Literal["account", "user"] = "account"
    read_only: bool = True
    disabled: bool = False
    limit: int = LIMIT
    first_reset_seconds: float | None = None  # when the first minute ends; None: at a random time
    others_after: int | None = None  # requests before the customer's own tools use the key
    others_leave: int = 20  # what these tools leave of that minute, in requests
    others_reset_seconds: float = 7  # when that minute then ends
    oncalls_limit: int = 120  # an additional limit for /oncalls; PagerDuty does not publish it
    user: int = 0  # for user keys: the user's number
    sees: float = 1.0  # for user keys: share of incidents, schedules and teams they may see
    forbidden: tuple[str, ...] = ()  # paths (fnmatch) that answer 403, because of role or scope


@dataclass(frozen=True, slots=True)
class Habits:
    """How the service behaves where its documentation says nothing, and how fast it answers."""

    limit_window: Literal["fixed", "sliding"] = "fixed"
    over_limit: Literal["clamp", "refuse"] = "clamp"  # a `limit` above the maximum
    cap_body: Literal["auto", "2001", "2002"] = "auto"  # which of the two known 400 bodies
    served: Mapping[str, int] = field(default_factory=dict)  # path -> most items per page
    ties: bool = False  # records with equal sort keys change their order at each request
    gzip: bool = False
    cursor_seconds: float | None = None  # lifetime of a cursor; None: unlimited
    log_default_days: float = 31
    log_max_days: float | None = None
    unlogged: tuple[str, ...] = ()  # changes of incidents that leave no log entry
    entries_of_deleted: Literal["stay", "vanish"] = "stay"  # log entries of a deleted incident
    restricted_status: Literal[403, 404] = 403  # of a restricted incident's own address
    fresh_404_seconds: float = 0  # how long a new record's own address answers 404
    latency_ms: float = 0
    jitter_ms: float = 0


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """One account. The same spec and anchor always give the same records."""

    subdomain: str
    region: Literal["us", "eu"] = "us"
    seed: int = 1
    time_zone: str = "America/New_York"
    anchor: str | None = None  # ISO 8601 end of the generated period; None: the start of the server
    days: float = 90  # incidents are spread over this many days before the anchor
    dense_days: float = 0  # length of a busy time in the middle of the period
    dense_share: float = 0  # share of all incidents that are in the busy time
    incidents: int = 200
    log_entries_per_incident: float = 4
    services: int = 12
    users: int = 10
    teams: int = 4
    escalation_policies: int = 5
    schedules: int = 3
    shift_schedules: int = 2
    audit_records: int = 300
    ids_from: int = 0  # accounts with different numbers have different record ids
    abilities_off: tuple[str, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    habits: Habits = Habits()


def _build(cls: type[Any], data: Any, where: str) -> Any:
    """Return *cls* made from a JSON object, refusing unknown names."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{where} must be a JSON object.")
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise SpecError(
            f"{where} has no field {unknown[0]!r}; it can have {', '.join(sorted(known))}."
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise SpecError(f"{where} is incomplete: {error}.") from None


def account_from(data: Any, where: str = "account") -> AccountSpec:
    """Return the account that a JSON object describes; SpecError if it is wrong."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{where} must be a JSON object.")
    values = dict(data)
    values["habits"] = _build(Habits, values.get("habits", {}), f"{where}.habits")
    values["keys"] = [
        _build(KeySpec, key, f"{where}.keys[{i}]") for i, key in enumerate(values.get("keys", ()))
    ]
    spec: AccountSpec = _build(AccountSpec, values, where)
    if spec.region not in REGIONS:
        raise SpecError(f"{where}.region must be one of {', '.join(REGIONS)}.")
    try:
        ZoneInfo(spec.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SpecError(f"{where}.time_zone {spec.time_zone!r} isn't a time zone.") from None
    return spec


def read_accounts(path: Path) -> tuple[AccountSpec, ...]:
    """Return the accounts of a JSON file: a list of objects, or {"accounts": [...]}."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"{path} can't be read ({error.strerror}): name another file.") from None
    except ValueError as error:
        raise SpecError(f"{path} can't be read as JSON: {error}.") from None
    if isinstance(data, Mapping):
        data = data.get("accounts")
    if not isinstance(data, list) or not data:
        raise SpecError(f"{path} must hold a list of accounts.")
    return tuple(account_from(entry, f"accounts[{i}]") for i, entry in enumerate(data))


def demo_accounts() -> tuple[AccountSpec, ...]:
    """Return the demo's three accounts: one is too big for one window or one budget, one lacks parts of the plan."""
    return (
        AccountSpec(
            "northwind", "us", seed=11, days=90, dense_days=5, dense_share=0.88,
            incidents=12_600, log_entries_per_incident=2, services=60, users=45, teams=9,
            escalation_policies=24, schedules=10, shift_schedules=5, audit_records=2_400,
            # The customer's own tools use up the rest of a minute, so the collector has to wait.
            keys=(KeySpec("demo-northwind-key+1", others_after=150, others_leave=0),),
            habits=Habits(latency_ms=40, jitter_ms=30),
        ),
        AccountSpec(
            "globex", "us", seed=12, days=365, incidents=1_800, services=18, users=20, teams=3,
            escalation_policies=8, schedules=4, shift_schedules=0, audit_records=0,
            abilities_off=("teams", "audit"), keys=(KeySpec("demo-globex-key_0002"),),
            habits=Habits(latency_ms=40, jitter_ms=30),
        ),
        AccountSpec(
            "umbrella", "eu", seed=13, time_zone="Europe/Berlin", days=365, incidents=2_600,
            services=25, users=30, teams=6, escalation_policies=10, schedules=5,
            shift_schedules=4, audit_records=900, keys=(KeySpec("demo-umbrella-key-03"),),
            habits=Habits(latency_ms=90, jitter_ms=60),
        ),
    )  # fmt: skip
