"""Changes records while serving: one on demand, or many as churn. Earlier versions are kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulator.changes import incidents, settings
from simulator.changes.change import Change, ChangeError
from simulator.records import Record
from simulator.world import Account

CHANGES: dict[str, Callable[[Change], Record]] = {
    "create_incident": incidents.create,
    "resolve_incident": partial(incidents.turn, "resolved"),
    "acknowledge_incident": partial(incidents.turn, "acknowledged"),
    "reopen_incident": partial(incidents.turn, "triggered"),
    "retitle_incident": incidents.retitle,
    "prioritise_incident": incidents.prioritise,
    "reassign_incident": incidents.reassign,
    "merge_incident": incidents.merge,
    "delete_incident": incidents.delete,
    "restrict_incident": incidents.restrict,
    "add_note": incidents.add_note,
    "edit_note": incidents.edit_note,
    "delete_note": incidents.delete_note,
    "upgrade_schedule": settings.upgrade_schedule,
    "add_override": settings.add_override,
    "add_audit_record": settings.add_audit_record,
    "add_member": settings.add_member,
    "remove_member": settings.remove_member,
}
for _word, _kind in settings.SETTINGS.items():
    CHANGES[f"create_{_word}"] = partial(settings.create, _kind)
    CHANGES[f"rename_{_word}"] = partial(settings.rename, _kind)
    CHANGES[f"delete_{_word}"] = partial(settings.delete, _kind)


def apply(account: Account, do: str, dice: random.Random, args: dict[str, Any]) -> Record:
    """Make one change now; ChangeError if it can't be made."""
    if do not in CHANGES:
        raise ChangeError(f"do must be one of {', '.join(sorted(CHANGES))}.")
    return CHANGES[do](Change(account, account.now(), dice, args, do))


@dataclass(slots=True)
class Churn:
    """A number of changes that happen by themselves while an account is read."""

    account: Account
    operations: tuple[str, ...]
    count: int
    every_requests: int | None = None
    every_ms: float | None = None
    seed: int = 0
    made: int = 0
    requests: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Check the operations and seed the dice."""
        if unknown := set(self.operations) - set(CHANGES):
            raise ChangeError(f"{min(unknown)} isn't a change.")
        self.dice = random.Random(f"churn/{self.seed}")

    def request(self) -> None:
        """Count a request of the account, and make a change if one is due."""
        self.requests += 1
        if self.every_requests and self.requests % self.every_requests == 0:
            self.step()

    def step(self) -> None:
        """Make the next change. Skip a change that can't be made, for example because nothing is left to delete."""
        if self.made >= self.count:
            return
        self.made += 1
        try:
            apply(self.account, self.dice.choice(self.operations), self.dice, {})
        except ChangeError:
            self.made -= 1
            self.count -= 1
