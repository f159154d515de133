"""One change: the account, the time, the dice, and the arguments that were sent."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.world import Account


class ChangeError(ValueError):
    """Says in one sentence why a change can't be made."""


@dataclass(slots=True)
class Change:
    """The account to change, the time, the dice, and the arguments that were sent."""

    account: Account
    now: float
    dice: random.Random
    args: dict[str, Any]
    do: str = ""

    def chosen(
        self, kind: str, fits: Callable[[Any], bool] = lambda _: True, argument: str = "id"
    ) -> Any:
        """Return the record whose id was sent as *argument*, or any record that fits."""
        store = self.account.store(kind)
        if (id := self.args.get(argument)) is not None:
            if id not in store.by_id:
                raise ChangeError(f"{kind} has no {id!r}.")
            return store.by_id[id]
        for _ in range(20 if store.rows else 0):  # cheaper than filtering thousands of incidents
            if fits(found := self.dice.choice(store.rows)):
                return found
        if fitting := [record for record in store.rows if fits(record)]:
            return self.dice.choice(fitting)
        raise ChangeError(f"{kind} has no record to choose.")

    def live(self) -> int:
        """Return the next number for a record that is created while serving."""
        self.account.next_live += 1
        return self.account.next_live
