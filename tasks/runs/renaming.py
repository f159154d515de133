"""Whether an account that goes by another subdomain is still the one whose evidence a source holds.

PagerDuty gives no id of an account. What stays when it is renamed are the ids of its records, which are never
given twice (developer.pagerduty.com, "Types"), and their names. So what the account lists now is compared
with the newest evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.evidence.exports import choose, records, sealed
from tasks.evidence.manifests import account_of
from tasks.reading.catalog import CATALOG, PAGE_LIMIT
from tasks.runs.access import Ask, Identity, answered, asker, records_in, still_known
from workers import exact
from workers.errors import KeyRefused, NotFound
from workers.runtime import Runtime
from workers.storage import Storage
from workers.storage.registry import Source
from workers.storage.renamings import Renaming

COMPARED = ("users", "services", "teams", "escalation_policies", "schedules")
"""Lists whose records have names, and outlive the weeks between two runs."""
ENOUGH = 3
"""So many records with the same id and the same name are no accident; an account may have fewer."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much of what an account lists now is in the evidence."""

    run: str = ""  # the newest run that has any of it
    listed: int = 0  # records, of the first page of each list that the evidence has as well
    known: int = 0  # those whose id is in the evidence
    same: int = 0  # those whose name is the same, too

    @property
    def convinces(self) -> bool:
        return self.same >= max(1, min(ENOUGH, self.listed)) and 2 * self.same >= self.known

    def __str__(self) -> str:
        return (
            f"{self.same} of {self.listed} users, services, teams, escalation policies and schedules "
            f"that it lists have the id and the name they have in run {self.run}"
        )


def confirmed(
    fleet: Runtime,
    source_id: str,
    key: str,
    found: Identity,
    before: Source | None,
    *,
    at: datetime,
    by: str | None,
) -> tuple[Renaming, ...]:
    """Return the renamings of the source's account; one more where *by* confirms that it was renamed.

    *found* is whom *key* speaks for, *before* the source as it is registered. Raises `KeyRefused` where that is another
    account than the registry or the newest evidence names: unless somebody confirms, and then where too little of what
    the account lists is in the evidence.
    """
    renamings = before.renamings if before else ()
    registered = (before.region, before.subdomain) if before else None
    for holds in filter(None, (registered, account_of(fleet.storage, source_id))):
        known = {found.subdomain, *(each.old for each in renamings)}
        if holds[0] == found.region and holds[1] in known:
            continue
        if by is None or holds[0] != found.region:
            raise _another(found, source_id, holds)
        because = _compared(fleet, source_id, key, found, before)
        renamings += (Renaming(holds[1], found.subdomain, at, by, because),)
    return renamings


def _another(found: Identity, source_id: str, holds: tuple[str, str]) -> KeyRefused:
    if holds[0] != found.region:
        return KeyRefused(
            f"This key belongs to {found.subdomain} in region {found.region}, but {source_id} "
            f"holds evidence of {holds[1]} in region {holds[0]}: nothing was changed."
        )
    return KeyRefused(
        f"This key belongs to {found.subdomain} in region {found.region}, but {source_id} holds "
        f"evidence of {holds[1]}: nothing was changed. If {holds[1]} was renamed, add --renamed: "
        "its records are compared before anything is kept."
    )


def _compared(
    fleet: Runtime, source_id: str, key: str, found: Identity, before: Source | None
) -> str:
    """Return in a sentence what shows that the account is the same; `KeyRefused` if too little does."""
    ask = asker(fleet, key, before.reserve if before else fleet.settings.reserve)
    likeness = compare(fleet.storage, source_id, ask, found.region)
    if likeness.convinces:
        return str(likeness)
    if not likeness.listed and before and before.fingerprint == found.fingerprint:
        return "its key is the one that the source had before, and no record could be compared"
    said = str(likeness) if likeness.listed else "it lists nothing that the evidence has as well"
    raise KeyRefused(
        f"Nothing shows that {found.subdomain} in region {found.region} is the account that "
        f"{source_id} holds evidence of: {said}. Nothing was changed. Connect another account "
        "under another name."
    )


def compare(storage: Storage, source_id: str, ask: Ask, region: str) -> Likeness:
    """Return how much of the first page of each list is in the evidence of *source_id*.

    Sends one GET a list. Raises `KeyRefused` or `Fault` where PagerDuty doesn't answer, `StorageConflict` where an
    artifact isn't the one that was sealed.
    """
    run, listed, known, same = "", 0, 0, 0
    for resource in COMPARED:
        stored = _stored(storage, source_id, resource)
        if stored is None:
            continue
        now = _names(ask, region, resource)
        pairs = [(now[each["id"]], each.get("name")) for each in stored[1] if each["id"] in now]
        run = max(run, stored[0])
        listed += len(now)
        known += len(pairs)
        same += sum(name == before for name, before in pairs)
    return Likeness(run, listed, known, same)


def _stored(
    storage: Storage, source_id: str, resource: str
) -> tuple[str, Iterator[Mapping[str, Any]]] | None:
    """Return the newest run that read *resource*, and its records as they were last; None without any."""
    try:
        choice = choose(sealed(storage, source_id), source_id, resource)
    except NotFound:
        return None
    if not choice.readings:
        return None
    return choice.readings[0].run, map(exact.loads, records(storage, choice))


def _names(ask: Ask, region: str, resource: str) -> dict[str, object]:
    call = CATALOG[resource].feeds[0].list
    assert call, f"{resource} has a list"
    reply = still_known(ask(region, call.path, (("limit", str(PAGE_LIMIT)),)))
    answered(reply, region)
    found = records_in(reply, call.wrapper)
    return {str(each["id"]): each.get("name") for each in found if each.get("id")}
