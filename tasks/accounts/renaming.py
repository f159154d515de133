"""Find out whether an account with another subdomain is still the account whose evidence a source holds.

PagerDuty doesn't give an account an id. When an account is renamed, its records keep their names and their ids, and
PagerDuty never gives an id twice (developer.pagerduty.com, "Types"). So the records that the account lists now are
compared with the newest evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.accounts.examining import (
    Ask,
    Identity,
    asker,
    records_in,
    require_answer,
    require_known_key,
)
from tasks.evidence.exports import choose, records, sealed
from tasks.evidence.manifests import account_of
from tasks.reading.catalog import CATALOG, PAGE_LIMIT
from workers import exact
from workers.errors import KeyRefused, NotFound
from workers.runtime import Runtime
from workers.storage import Storage
from workers.storage.registry import Source
from workers.storage.renamings import Renaming

COMPARED = ("users", "services", "teams", "escalation_policies", "schedules")
"""Lists whose records have names, and usually still exist after weeks."""
ENOUGH = 3
"""If this many records have the same id and name, it isn't a coincidence. A small account may have fewer."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How many of the records that an account lists now are in the evidence."""

    run: str = ""  # the newest run whose records were compared
    listed: int = 0  # records on the first page of each list that is also in the evidence
    known: int = 0  # listed records whose id is in the evidence
    same: int = 0  # listed records whose id and name are in the evidence

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
    """Return the renamings of the source's account, with a new one if *by* confirms that it was renamed.

    *found* is the account of *key*, and *before* is the registered source. Raises `KeyRefused` if the registry or the
    newest evidence names another account and nobody confirms, or if too few of its records are in the evidence.
    """
    renamings = before.renamings if before else ()
    registered = (before.region, before.subdomain) if before else None
    for holds in filter(None, (registered, account_of(fleet.storage, source_id))):
        known = {found.subdomain, *(each.old for each in renamings)}
        if holds[0] == found.region and holds[1] in known:
            continue
        if by is None or holds[0] != found.region:
            raise _refusal(found, source_id, holds)
        because = _compared(fleet, source_id, key, found, before)
        renamings += (Renaming(holds[1], found.subdomain, at, by, because),)
    return renamings


def _refusal(found: Identity, source_id: str, holds: tuple[str, str]) -> KeyRefused:
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
    """Return a sentence with the proof that the account is the same; `KeyRefused` if there is too little proof."""
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
    """Return how many records of the first page of each list are in the evidence of *source_id*.

    Sends one GET per list. Raises `KeyRefused` or `Fault` if PagerDuty doesn't answer, `StorageConflict` if an artifact
    was changed since it was sealed.
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
    """Return the newest run that read *resource* and the newest version of its records; None without such a run."""
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
    reply = require_known_key(ask(region, call.path, (("limit", str(PAGE_LIMIT)),)))
    require_answer(reply, region)
    found = records_in(reply, call.wrapper)
    return {str(each["id"]): each.get("name") for each in found if each.get("id")}
