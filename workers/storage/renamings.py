"""Changes of an account's subdomain that a person confirmed. Sources, plans and manifests hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True)
class Renaming:
    """The account that was called `old` is now called `new`."""

    old: Annotated[str, Meta(description="The subdomain before")]
    new: Annotated[str, Meta(description="The subdomain afterwards")]
    at: Annotated[datetime, Meta(tz=True, description="When a person confirmed it")]
    by: Annotated[str, Meta(description="The person")]
    because: Annotated[str, Meta(description="Which records were compared")]


def away_from(renamings: Sequence[Renaming], subdomain: str) -> tuple[Renaming, ...]:
    """Return the renamings since the account last had *subdomain*; empty if it never had it, or has it now."""
    places = [place for place, each in enumerate(renamings) if each.old == subdomain]
    led = tuple(renamings[places[-1] :]) if places else ()
    return () if led and led[-1].new == subdomain else led


def leads(renamings: Sequence[Renaming], before: str, after: str) -> bool:
    """Say whether *renamings*, one after the other, lead from *before* to *after*."""
    for each in renamings:
        if each.old != before:
            return False
        before = each.new
    return before == after
