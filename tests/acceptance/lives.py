"""Compares an export with the history of an account that changes while it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.acceptance.evidence import SECRETS, Evidence, Record, canonical, read_as, redacted
from tests.acceptance.fleet import Fleet
from tests.simulator_process import SimulatorProcess

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A period in the test in which something was read."""

    began: datetime
    ended: datetime

    @classmethod
    def since(cls, began: datetime) -> Span:
        return cls(began, datetime.now(UTC))

    def meets(self, version: Mapping[str, Any]) -> bool:
        """Say whether a version was current at any moment of this period."""
        since, until = _moment(version["from"]), _moment(version["to"])
        return (not since or since <= self.ended) and (not until or until >= self.began)

    def lies_in(self, version: Mapping[str, Any]) -> bool:
        """Say whether a version was current for all of this period."""
        since, until = _moment(version["from"]), _moment(version["to"])
        return (not since or since < self.began) and (not until or until > self.ended)


def assert_as_it_was(
    fleet: Fleet,
    simulator: SimulatorProcess,
    source: str,
    resource: str,
    during: Span,
    *,
    all_of_it: bool = True,
) -> int:
    """Compare an export with the history of all records. Return how many of them changed *during* it.

    Every record must come once, as it was at some moment of the reading. With *all_of_it*, every record
    that existed unchanged all the time must be there.
    """
    got: dict[Key, str] = {}
    for record in fleet.export(source, resource):
        assert _key(record) not in got, f"{resource}: more than once: {record}"
        got[_key(record)] = canonical(record)
    was: dict[Key, set[str]] = {}
    stayed: dict[Key, str] = {}
    restless = 0
    for versions in _lives(fleet, simulator, source, resource):
        meant = [(v, canonical(v["record"])) for v in versions if during.meets(v)]
        restless += len(meant) > 1 or not all(during.lies_in(v) for v, _ in meant)
        for version, text in meant:
            was.setdefault(_key(version["record"]), set()).add(text)
            if during.lies_in(version):
                stayed[_key(version["record"])] = text
    for key, text in got.items():
        assert text in was.get(key, ()), f"{resource}: it was never like this: {text}"
    if all_of_it:
        lost = [text for key, text in stayed.items() if got.get(key) != text]
        assert not lost, f"{resource}: {len(lost)} lost or changed: {lost[0]}"
    return restless


def _lives(
    fleet: Fleet, simulator: SimulatorProcess, source: str, resource: str
) -> Iterator[list[dict[str, Any]]]:
    """Yield the versions of every record, with secrets redacted."""
    recipe, redactions = read_as(Evidence(fleet.runs, source), resource)
    secrets = SECRETS | redactions.keys()
    account = source.partition("/")[0]
    for life in simulator.truth(account, resource, recipe, history=True):
        yield [v | {"record": redacted(v["record"], secrets)} for v in life["versions"]]


def _key(record: Record) -> Key:
    """Return the key that distinguishes records of one resource."""
    if "id" in record:  # an upgraded schedule keeps its id and changes its type
        return str(record.get("type")), str(record["id"])
    return tuple(str(each["id"]) for _, each in sorted(record.items()) if isinstance(each, dict))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
