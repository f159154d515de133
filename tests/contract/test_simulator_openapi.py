"""Sampled answers of every endpoint, checked against PagerDuty's own API description.

The description belongs to PagerDuty and isn't part of this project. If it is absent, the tests are skipped.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from jsonschema import Draft4Validator, validators
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from simulator.api import ROUTES
from simulator.changes import CHANGES
from tests.simulator_process import ROOT, SimulatorProcess, running_simulator

DESCRIPTION = ROOT.parent / "shared" / "pagerduty" / "openapi.json"
KEY = "openapi-account-key"
USER_KEY = "openapi-user-key"
ACCOUNT = {
    "subdomain": "described", "incidents": 120, "days": 60, "log_entries_per_incident": 9,
    "services": 12, "users": 14, "teams": 3, "schedules": 4, "shift_schedules": 3, "audit_records": 400,
    "keys": [{"key": KEY, "limit": 100_000}, {"key": USER_KEY, "kind": "user", "user": 3}],
}  # fmt: skip
# How answers may differ from the description, and why. `Tolerant` below implements each of these.
TOLERANCES = {
    "a null property is valid": "the texts say 'may be null' where the types do not",
    "oneOf is read as anyOf": "the kinds of log entry and of target overlap, so several match",
    "an integer may be any number": "coverage is a percentage with a fraction in real answers",
    "`thing` passes for `thing_reference`": "an include puts the whole object where the schema has a reference",
    "a documented slip in a type's name passes": "the description contradicts itself, see SLIPS",
}
SLIPS = {"acknowledge_log_entry": "acknowledgement_log_entry"}  # its own list has the former
UNFIT = {
    "/vendors/{id}": "described as a list of vendors under the key of one",
    "/incidents/custom_fields": "requires a `namespace` which its own example lacks",
    "/incidents/{id}/custom_fields/values": "wraps the value once more than its own example does",
}
# Parameters of further sampled calls. The period from since to until has half of the account's incidents.
PARAMETERS = {
    "/incidents": "?limit=100&date_range=all&include[]=conference_bridge",
    "/incidents/{id}": "?include[]=custom_fields&include[]=services&include[]=assignees",
    "/log_entries": "?limit=100&include[]=channels&include[]=services",
    "/services": "?limit=100&include[]=integrations&time_zone=UTC",
    "/users": "?limit=100&include[]=contact_methods&include[]=notification_rules&include[]=teams",
    "/escalation_policies": "?limit=100",
    "/audit/records": "?limit=100&since={month}",
    "/schedules": "?since={since}&until={until}&include[]=schedule_layers&include[]=final_schedule",
    "/schedules/{id}": "?since={since}&until={until}",
    "/schedules/{id}/overrides": "?since={since}&until={until}",
    "/v3/schedules/{id}": "?since={since}&until={until}&include[]=final_schedule",
    "/oncalls": "?limit=100",
    "/notifications": "?since={since}&until={until}",
}
NOT_JSON = {"/abilities/{id}"}

pytestmark = pytest.mark.skipif(
    not DESCRIPTION.exists(), reason=f"PagerDuty's API description is not at {DESCRIPTION}"
)


def is_number(_: object, instance: object) -> bool:
    """Say whether a value is a number of any kind."""
    return isinstance(instance, int | float) and not isinstance(instance, bool)


def properties(validator: Any, known: Any, instance: Any, _: Any) -> Iterator[Any]:
    """Check the properties that are not null."""
    shown = instance if isinstance(instance, dict) else {}
    for name, schema in known.items():
        if shown.get(name) is not None:
            yield from validator.descend(shown[name], schema, path=name, schema_path=name)


def enum(_: Any, known: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Check a value against a list. Whole objects pass as references."""
    if not {instance, f"{instance}_reference", SLIPS.get(instance)} & set(known):
        yield ValidationError(f"{instance!r} is not one of {known!r}")


Tolerant: Any = validators.extend(
    Draft4Validator,  # the dialect of OpenAPI 3.0 schemas
    validators={
        "oneOf": Draft4Validator.VALIDATORS["anyOf"], "properties": properties, "enum": enum,
    },
    type_checker=Draft4Validator.TYPE_CHECKER.redefine("integer", is_number),
)  # fmt: skip


@cache
def description() -> Any:
    """Return PagerDuty's description."""
    return json.loads(DESCRIPTION.read_text("utf-8"))


def schema_of(path: str) -> dict[str, Any]:
    """Return a schema that refers to the documented answer of a path."""
    answers = description()["paths"][path]["get"]["responses"]
    status = next(s for s in answers if s.startswith("2"))
    whole = f"#/paths/{path.replace('/', '~1')}/get/responses/{status}"
    pointer = f"{answers[status].get('$ref', whole)}/content/application~1json/schema"
    return {"$ref": f"urn:pagerduty{pointer}"}


def documented() -> list[str]:
    """Return the paths that both the description and the simulator have."""
    if not DESCRIPTION.exists():
        return []
    return sorted(set(ROUTES) & set(description()["paths"]) - NOT_JSON - set(UNFIT))


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    """A simulator with one small account of every kind of record."""
    with running_simulator([ACCOUNT]) as process:
        for do in sorted(CHANGES):  # a changed record must fit too
            process.mutate("described", do)
        yield process


def ask(simulator: SimulatorProcess, path: str) -> httpx.Response:
    """Request one path of the account."""
    key = USER_KEY if path.startswith("/users/me") else KEY
    headers = {
        "Authorization": f"Token token={key}",
        "Accept": "application/vnd.pagerduty+json;version=2",
    }
    return simulator.http.get(f"{simulator.region('us')}{path}", headers=headers)


def ids_for(simulator: SimulatorProcess, path: str) -> list[str]:
    """Return the path several times, each time with another real id."""
    if "{id}" not in path:
        return [path]
    collection = path.partition("/{id}")[0]
    listed = ask(simulator, f"{collection}?limit=5&date_range=all").json()
    wrapper = next(k for k, v in listed.items() if isinstance(v, list))
    return [path.replace("{id}", item["id"], 1) for item in listed[wrapper]]


@pytest.mark.parametrize("path", documented())
def test_every_answer_fits_the_api_description(simulator: SimulatorProcess, path: str) -> None:
    """An endpoint answers as PagerDuty documents it, within the tolerances."""
    incidents = list(simulator.truth("described", "incidents"))
    since, until = incidents[len(incidents) // 2]["created_at"], incidents[-1]["created_at"]
    month = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    query = PARAMETERS.get(path, "").format(since=since, until=until, month=month)
    status = 201 if path == "/schedules/{id}/overrides" else 200
    registry: Registry[Any] = Registry().with_resource(
        "urn:pagerduty", Resource(contents=description(), specification=DRAFT4)
    )
    validator = Tolerant(schema_of(path), registry=registry)
    for one in ids_for(simulator, path):
        answer = ask(simulator, one + query)
        assert answer.status_code == status, answer.text
        error = best_match(validator.iter_errors(answer.json()))
        assert error is None, f"{error.json_path}: {error.message[:400]}"


def test_the_description_covers_most_of_the_served_paths() -> None:
    """Few served paths lack a description, so the check above is meaningful."""
    assert len(documented()) >= 60
