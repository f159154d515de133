"""One account, with the stores of its records and its other state."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice, takewhile
from operator import attrgetter
from typing import Any

import orjson

from simulator import audit, config, incidents, log
from simulator.accounts import AccountSpec, KeySpec
from simulator.names import KIND_OF_TYPE, LIVE, Names
from simulator.records import Incident, LogEntry, Note, Record, Store
from simulator.schedules import Duty
from simulator.times import DAY_SECONDS, Clock

BODIES: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    **config.BODIES,
    "incidents": incidents.body,
    "notes": incidents.note_body,
    "log_entries": log.body,
    "audit_records": audit.body,
}


class Account(Names):
    """An account as it is now, with every earlier version of its records."""

    def __init__(self, spec: AccountSpec, started: float, clock: Clock | None = None) -> None:
        super().__init__(spec, started)
        self.clock = clock or Clock()
        self.keys: dict[str, KeySpec] = {key.key: key for key in spec.keys}
        self.next_live = LIVE
        self.next_incident_number = 1_000 + spec.incidents
        self.restricted: dict[str, float] = {}  # ids of incidents that no key sees, and since when
        self.late_overrides: dict[str, list[Duty]] = {}  # schedule id -> those made while serving
        self.selections: dict[Any, Sequence[Any]] = {}  # recent results of lists.select
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

    @cached_property
    def log(self) -> Store:
        """All log entries. They are made on first use, because there are several per incident."""
        entries = [e for i in self.stores["incidents"].rows for e in log.story(self, i)]
        return Store(self._renderer("log_entries"), entries, keep=False)

    @cached_property
    def log_of(self) -> dict[str, list[LogEntry]]:
        """The log entries of each incident, oldest first."""
        entries: dict[str, list[LogEntry]] = {}
        for entry in self.log.rows:
            entries.setdefault(entry.incident.id, []).append(entry)
        return entries

    @cached_property
    def notes(self) -> Store:
        """All notes of incidents, by incident and time. They are made on first use."""
        made = [n for i in self.stores["incidents"].rows for n in incidents.notes(self, i)]
        return Store(self._renderer("notes"), made)

    def notes_of(self, incident: Incident) -> list[Note]:
        """Return the notes of an incident, oldest first."""
        rows = self.notes.rows
        first = bisect_left(rows, (incident.number,), key=attrgetter("order"))
        return list(takewhile(lambda n: n.incident is incident, islice(rows, first, None)))

    def store(self, kind: str) -> Store:
        """Return the store of *kind*."""
        late = {"log_entries": "log", "notes": "notes"}  # made on first use
        return getattr(self, late[kind]) if kind in late else self.stores[kind]

    def named(self, kind: str, number: int, name: str, body: bytes | None) -> Record:
        """Return a record that lists sort by its name."""
        id = self.id(kind, number)
        created = self.anchor - (400 + number % 700) * DAY_SECONDS
        return Record(kind, number, id, (name.casefold(), id), created, body)

    def _memberships(self) -> list[Record]:
        return [
            self.membership(self.stores["teams"].by_id[self.ref("teams", t)["id"]], u, u)
            for u in range(self.spec.users)
            for t in self.teams_of("users", u)
        ]

    def membership(self, team: Record, user: int, place: int) -> Record:
        """Return the record of a user in a team. The API doesn't show its id."""
        user_id = self.id("users", user)
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
        """Return the kind whose records have *type_*, or None if the account has no such kind."""
        return "log_entries" if type_.endswith("_log_entry") else KIND_OF_TYPE.get(type_)

    def has_user(self, number: int) -> bool:
        """Say whether the generated user *number* still exists. A user's key stops working without the user."""
        return self.id("users", number) in self.stores["users"].by_id

    def relinked(self, body: bytes) -> bytes:
        """Return *body* with links that have the account's current subdomain."""
        if self.subdomain == self.spec.subdomain:
            return body
        before, now = (f"//{name}.pagerduty.com/" for name in (self.spec.subdomain, self.subdomain))
        return body.replace(before.encode(), now.encode())

    def now(self) -> float:
        """Return the time of the account's clock."""
        return self.clock.now()
