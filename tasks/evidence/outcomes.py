"""The results of a run, sealed or open, in the few numbers that people and programs ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tasks.reading.catalog import CATALOG
from tasks.reading.plans import Plan
from tasks.reading.sealed import Manifest
from tasks.reading.windows import rfc3339


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a resource's period that nothing proves."""

    since: str
    until: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResourceOutcome:
    """One resource of a run, or of several runs that belong together."""

    state: str  # complete, partial, unavailable or failed; open while the run is
    reason: str  # why it is not complete: plan, role, key, unproved, backlog, vanished or error; else ""
    words: str  # PagerDuty's own about that
    records: int  # in its artifacts
    requests: int
    withheld: Mapping[str, str] = field(
        default_factory=dict
    )  # lists the plan lacks -> PagerDuty's words
    period: tuple[str, str] | None = None  # to be read by this run or earlier ones
    outside: tuple[Gap, ...] = ()
    vanished: tuple[str, ...] = ()  # ids that a list names, and whose own address answers 404
    denied: tuple[str, ...] = ()  # ids known from earlier runs, for which PagerDuty answers 404


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """One run of a source."""

    run: str
    state: str  # complete, partial, failed or cancelled; open until it is sealed; damaged: its manifest is
    since: datetime
    until: datetime
    opened_at: datetime
    sealed_at: datetime | None
    backlog: bool  # later runs read more of its period
    resources: Mapping[str, ResourceOutcome]
    seal: str | None = None  # the digest of its seal; None while it is unsealed

    @property
    def records(self) -> int:
        return sum(each.records for each in self.resources.values())

    @property
    def requests(self) -> int:
        return sum(each.requests for each in self.resources.values())


@dataclass(frozen=True, slots=True)
class Artifact:
    """One sealed object of a resource: its key, and the size, digest and records it must have."""

    resource: str
    key: str
    bytes: int
    sha256: str
    records: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A resource that a run has no artifact of. The state is `unplanned` if the run was not to read it."""

    resource: str
    state: str
    reason: str
    words: str  # PagerDuty's
    why: str  # the same for a person


_WHY_MISSING = {
    "plan": "the account's plan lacks it",
    "role": "the key may not read it",
    "key": "PagerDuty refused the key",
}


def missing_of(manifest: Manifest) -> list[Missing]:
    """Return each resource of the catalog that a run has no artifact of, and why."""
    found = [
        Missing(name, each.state, each.reason, each.words, _why_missing(manifest, each.reason))
        for name, each in manifest.resources.items()
        if not each.has_artifact
    ]
    why = "the run was not to read it: its source leaves it out"
    unplanned = (name for name in CATALOG if name not in manifest.resources)
    return found + [Missing(name, "unplanned", "", "", why) for name in unplanned]


def _why_missing(manifest: Manifest, reason: str) -> str:
    if manifest.ended == "cancelled" and reason not in _WHY_MISSING:
        return "the run was cancelled before it was read"
    return _WHY_MISSING.get(reason, "it could not be read")


def with_requests(run: RunOutcome, requests: Mapping[str, int]) -> RunOutcome:
    """Return the outcome of an open run with the *requests* that were sent per resource so far."""
    counted = {
        name: replace(each, requests=requests.get(name, 0)) for name, each in run.resources.items()
    }
    return replace(run, resources=counted)


def sealed_outcome(manifest: Manifest, seal: str | None = None) -> RunOutcome:
    """Return the results of a run that has ended. *seal* is the digest of its seal."""
    return RunOutcome(
        run=manifest.run,
        state=manifest.state,
        since=manifest.period.since,
        until=manifest.period.until,
        opened_at=manifest.opened_at,
        sealed_at=manifest.sealed_at,
        backlog=bool(manifest.backlog),
        seal=seal,
        resources={
            resource: ResourceOutcome(
                each.state,
                each.reason,
                each.words,
                each.records,
                each.requests,
                each.withheld,
                (rfc3339(each.period.since), rfc3339(each.period.until)) if each.period else None,
                tuple(Gap(rfc3339(o.since), rfc3339(o.until), o.reason) for o in each.outside),
                each.vanished,
                tuple(manifest.denied.get(resource, ())),
            )
            for resource, each in manifest.resources.items()
        },
    )


def open_outcome(plan: Plan) -> RunOutcome:
    """Return the outcome of a run that has not ended, as far as storage knows it."""
    return RunOutcome(
        run=plan.run,
        state="open",
        since=plan.period.since,
        until=plan.period.until,
        opened_at=plan.opened_at,
        sealed_at=None,
        backlog=False,
        resources={name: ResourceOutcome("open", "", "", 0, 0) for name in plan.resources},
    )


def damaged_outcome(plan: Plan) -> RunOutcome:
    """Return the plan's part of a run whose manifest is damaged."""
    return replace(open_outcome(plan), state="damaged", resources={})


def artifacts_of(manifest: Manifest) -> list[Artifact]:
    """Return every artifact of a run."""
    return [
        Artifact(resource, part.key, part.bytes, part.sha256, part.records)
        for resource, each in manifest.resources.items()
        for part in each.artifacts
    ]
