"""An account's names: the names of its records, and their references to one another."""

import random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from simulator.accounts import AccountSpec
from simulator.records import make_id
from simulator.times import parse
from simulator.words import FIRST_NAMES, LAST_NAMES, LAYERS, SYSTEMS, TEAM_NAMES

GHOSTS = 9_000  # records from this number on are deleted, but references to them remain
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
KIND_OF_TYPE = {kind.type: name for name, kind in KINDS.items() if name != "priorities"}


class Names:
    """The parts of an account that follow from its description alone."""

    def __init__(self, spec: AccountSpec, started: float) -> None:
        self.spec = spec
        self.zone = ZoneInfo(spec.time_zone)
        self.started = started
        self.anchor = int(parse(spec.anchor, self.zone) if spec.anchor else started)
        self.subdomain = spec.subdomain  # the one in links; elsewhere the spec's is used
        self._references: dict[tuple[str, int], dict[str, Any]] = {}
        self._fragments: dict[tuple[str, int], orjson.Fragment] = {}

    def rng(self, kind: str, number: int) -> random.Random:
        """Return the dice of one record, which are the same at every start."""
        return random.Random(f"{self.spec.seed}/{self.spec.subdomain}/{kind}/{number}")

    def name(self, kind: str, number: int) -> str:
        """Return the generated name of a record. The same number always has the same name."""
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

    def id(self, kind: str, number: int, prefix: str = "P") -> str:
        """Return the id of a record. Accounts with different `ids_from` have different ids."""
        shift = 500_000 * kind.startswith("v3_") + self.spec.ids_from
        return make_id(kind.removeprefix("v3_"), number + shift, prefix)

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
        """Return the reference to a generated record, as it was at the start. Never change the result."""
        reference = self._references.get((kind, number))
        if reference is None:
            name = self.name(kind, number)
            reference = self.refer(kind, self.id(kind, number), name)
            if GHOSTS <= number < LIVE and number % 2:  # some deleted records have no links
                reference |= {"self": None, "html_url": None}
            self._references[kind, number] = reference
        return reference

    def fragment(self, kind: str, number: int) -> orjson.Fragment:
        """Return the reference to a generated record as JSON, for records that are made by the thousand."""
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

    def has(self, ability: str) -> bool:
        """Say whether the account's plan has *ability*."""
        return ability not in self.spec.abilities_off
