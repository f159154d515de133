"""One account's records: the stores, and the references between what is in them."""

import random
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from simulator import audit, config, incidents, log
from simulator.accounts import AccountSpec, KeySpec
from simulator.records import Incident, LogEntry, Record, Store, make_id
from simulator.times import DAY_SECONDS, parse
from simulator.words import FIRST_NAMES, LAST_NAMES, LAYERS, SYSTEMS, TEAM_NAMES

GHOSTS = 9_000  # records from this number on are deleted ones: references to them remain
LIVE = 10_000  # records from this number on were created while serving


class Kind(NamedTuple):
    """How references to a kind of record look."""

    type: str
    path: str
    page: str | None  # path on the account's own site


KINDS = {
    "services": Kind("service", "services", "service-directory"),
    "users": Kind("user", "users", "users"),
    "teams": Kind("team", "teams", "teams"),
    "escalation_policies": Kind("escalation_policy", "escalation_policies", "escalation_policies"),
    "schedules": Kind("schedule", "schedules", "schedules"),
    "v3_schedules": Kind("schedule_v3", "v3/schedules", "schedules"),
    "incidents": Kind("incident", "incidents", "incidents"),
    "priorities": Kind("priority", "priorities", None),
}
BODIES: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    **config.BODIES,
    "incidents": incidents.body,
    "log_entries": log.body,
    "audit_records": audit.body,
}
KIND_OF_TYPE = {kind.type: name for name, kind in KINDS.items() if name != "priorities"}


class Account:
    """An account as it stands now, with everything it ever held while serving."""

    def __init__(self, spec: AccountSpec, started: float) -> None:
        self.spec = spec
        self.zone = ZoneInfo(spec.time_zone)
        self.started = started
        self.anchor = int(parse(spec.anchor, self.zone) if spec.anchor else started)
        self.keys: dict[str, KeySpec] = {key.key: key for key in spec.keys}
        self.next_live = LIVE
        self.next_incident_number = 1_000 + spec.incidents
        self._references: dict[tuple[str, int], dict[str, Any]] = {}
        self._fragments: dict[tuple[str, int], orjson.Fragment] = {}
        self.selections: dict[
            Any, Sequence[Any]
        ] = {}  # what lists selected lately; see lists.select
        self.stores: dict[str, Store] = {}
        for kind, count in (
            ("services", spec.services),
            ("users", spec.users),
            ("teams", spec.teams),
            ("escalation_policies", spec.escalation_policies),
            ("schedules", spec.schedules),
            ("v3_schedules", spec.shift_schedules),
        ):
            made = (self.named(kind, n, self.name(kind, n), None) for n in range(count))
            self.stores[kind] = Store(self._renderer(kind), made)
        self.stores["members"] = Store(self._renderer("members"), self._memberships())
        self.stores["incidents"] = Store(self._renderer("incidents"), incidents.generate(self))
        self.stores["audit_records"] = Store(
            self._renderer("audit_records"), audit.generate(self), keep=False
        )

    def _renderer(self, kind: str) -> Callable[[Any], bytes]:
        body = BODIES[kind]
        return lambda record: orjson.dumps(body(self, record))

    def rng(self, kind: str, number: int) -> random.Random:
        """Return the dice of one record: the same ones at every start."""
        return random.Random(f"{self.spec.seed}/{self.spec.subdomain}/{kind}/{number}")

    @cached_property
    def log(self) -> Store:
        """All log entries; made at first use, since there are several per incident."""
        entries = [e for i in self.stores["incidents"].rows for e in log.story(self, i)]
        return Store(self._renderer("log_entries"), entries, keep=False)

    @cached_property
    def log_of(self) -> dict[str, list[LogEntry]]:
        """The log entries of each incident, oldest first."""
        entries: dict[str, list[LogEntry]] = {}
        for entry in self.log.rows:
            entries.setdefault(entry.incident.id, []).append(entry)
        return entries

    def store(self, kind: str) -> Store:
        """Return the store of *kind*."""
        return self.log if kind == "log_entries" else self.stores[kind]

    def named(self, kind: str, number: int, name: str, body: bytes | None) -> Record:
        """Return a record that lists order by its name."""
        id = make_id(kind.removeprefix("v3_"), number + 500_000 * kind.startswith("v3_"))
        created = self.anchor - (400 + number % 700) * DAY_SECONDS
        return Record(kind, number, id, (name.casefold(), id), created, body)

    def name(self, kind: str, number: int) -> str:
        """Return the generated name of a record; the same number has always the same name."""
        if kind == "users":
            first = FIRST_NAMES[number * 7 % len(FIRST_NAMES)]
            return f"{first} {LAST_NAMES[number * 11 % len(LAST_NAMES)]} {number}"
        if kind == "teams":
            return f"{TEAM_NAMES[number % len(TEAM_NAMES)]} {number}"
        if kind == "priorities":
            return f"P{number + 1}"
        system = SYSTEMS[number * 5 % len(SYSTEMS)]
        if kind == "services":
            return f"{system} {LAYERS[number * 3 % len(LAYERS)]} {number}"
        if kind == "escalation_policies":
            return f"{system} – escalation {number}"
        return f"{system} {'shift' if kind == 'v3_schedules' else 'on-call'} rota {number}"

    def links(self, kind: str, id: str) -> dict[str, str | None]:
        """Return `self` and `html_url` of a record."""
        shape = KINDS[kind]
        page = shape.page and f"https://{self.spec.subdomain}.pagerduty.com/{shape.page}/{id}"
        return {"self": f"https://api.pagerduty.com/{shape.path}/{id}", "html_url": page}

    def refer(self, kind: str, id: str, summary: str) -> dict[str, Any]:
        """Return a reference to a record."""
        type_ = f"{KINDS[kind].type}_reference"
        return {"id": id, "type": type_, "summary": summary, **self.links(kind, id)}

    def ref(self, kind: str, number: int) -> dict[str, Any]:
        """Return the reference to a generated record, as it was at the start; never change it."""
        reference = self._references.get((kind, number))
        if reference is None:
            name = self.name(kind, number)
            id = make_id(kind.removeprefix("v3_"), number + 500_000 * kind.startswith("v3_"))
            reference = self.refer(kind, id, name)
            if GHOSTS <= number < LIVE and number % 2:  # some traces of deleted records are barer
                reference |= {"self": None, "html_url": None}
            self._references[kind, number] = reference
        return reference

    def fragment(self, kind: str, number: int) -> orjson.Fragment:
        """Return the reference to a generated record as JSON, for records made by the thousand."""
        fragment = self._fragments.get((kind, number))
        if fragment is None:
            fragment = orjson.Fragment(orjson.dumps(self.ref(kind, number)))
            self._fragments[kind, number] = fragment
        return fragment

    def teams_of(self, kind: str, number: int) -> list[int]:
        """Return the numbers of the teams that own a generated record."""
        teams = self.spec.teams
        if not teams or number >= GHOSTS:
            return []
        if kind == "users":
            return sorted({number % teams, number * 7 % teams})
        return [] if number % 9 == 8 else [number % teams]

    def _memberships(self) -> list[Record]:
        return [
            self.membership(self.stores["teams"].by_id[self.ref("teams", t)["id"]], u, u)
            for u in range(self.spec.users)
            for t in self.teams_of("users", u)
        ]

    def membership(self, team: Record, user: int, place: int) -> Record:
        """Return the record of a user in a team; the API shows no id for it."""
        user_id = make_id("users", user)
        id = f"{team.id}:{user_id}"
        return Record("members", user, id, (team.id, place, id), self.started)

    def incident(self, id_or_number: str) -> Incident | None:
        """Return an incident by id or by number."""
        store = self.stores["incidents"]
        found = store.by_id.get(id_or_number)
        if found is None and id_or_number.isdecimal():
            number = int(id_or_number)
            found = next((i for i in store.rows if i.number == number), None)
        return found

    def kind_of_type(self, type_: str) -> str | None:
        """Return the kind whose records have *type_*, or None if none is held here."""
        return "log_entries" if type_.endswith("_log_entry") else KIND_OF_TYPE.get(type_)

    def has_user(self, number: int) -> bool:
        """Tell whether the generated user *number* is still there; user keys end with their user."""
        return make_id("users", number) in self.stores["users"].by_id

    def has(self, ability: str) -> bool:
        """Tell whether the account's plan has *ability*."""
        return ability not in self.spec.abilities_off

    def now(self) -> float:
        """Return the time, as the account's clock shows it."""
        return time.time()
