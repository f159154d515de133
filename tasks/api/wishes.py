"""The settings of a source that a caller can choose, and their limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

from tasks.reading.catalog import CATALOG
from workers.errors import UsageFault

if TYPE_CHECKING:
    from workers.runtime import Runtime

DAY_SECONDS = 86_400
LEAST_SECONDS = 60
MOST_MONTHS = 1200
MOST_RESERVE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The settings of a new source."""

    region: str = "us"
    since: datetime | None = None  # with its zone; None: PAGETRAIL_DEFAULT_SINCE_DAYS ago
    every_seconds: int | None = DAY_SECONDS  # None: a run starts only when somebody asks
    resources: tuple[str, ...] | None = None  # None: all of the catalog
    # The share of the key's limit that is left to the customer; None: PAGETRAIL_RESERVE.
    reserve: float | None = None
    allow_user_key: bool = False
    retention_months: int | None = None  # age at which a sealed run is erased; None: never


class Changes(TypedDict, total=False):
    """The settings that can be changed. A setting that is left out stays as it is."""

    every_seconds: int | None
    resources: tuple[str, ...] | None
    reserve: float
    retention_months: int | None


def check_wishes(fleet: Runtime, wishes: Wishes) -> None:
    """Raise `UsageFault` if *wishes* can't be right for any account; sends nothing."""
    regions = fleet.settings.regions
    if wishes.region not in regions:
        raise UsageFault(
            f"{wishes.region[:40]!r} isn't a region: choose from {', '.join(regions)}, or add it to "
            "PAGETRAIL_REGIONS."
        )
    if wishes.since and wishes.since.tzinfo is None:
        raise UsageFault(f"{wishes.since} has no zone: say which, like +00:00.")
    if wishes.since and wishes.since >= datetime.now(UTC):
        raise UsageFault(f"{wishes.since} is not in the past: give an earlier time.")
    check_settings(
        {
            "every_seconds": wishes.every_seconds,
            "resources": wishes.resources,
            "reserve": wishes.reserve or 0.0,
            "retention_months": wishes.retention_months,
        }
    )


def check_settings(settings: Changes) -> None:
    """Raise `UsageFault` if one of *settings* is outside its limits."""
    check_resources(settings.get("resources") or ())
    every, months = settings.get("every_seconds"), settings.get("retention_months")
    if every is not None and every < LEAST_SECONDS:
        raise UsageFault(f"Runs are at least {LEAST_SECONDS} s apart, not {every}.")
    if months is not None and not 1 <= months <= MOST_MONTHS:
        raise UsageFault(f"A retention is 1 to {MOST_MONTHS} months, not {months}.")
    if not 0 <= settings.get("reserve", 0.0) <= MOST_RESERVE:
        raise UsageFault(f"A reserve is a share from 0 to {MOST_RESERVE}.")


def check_resources(names: Iterable[str]) -> None:
    """Raise `UsageFault` if one of *names* isn't a resource of the catalog."""
    for name in names:
        if name not in CATALOG:
            raise UsageFault(f"{name[:40]!r} is not a resource: choose from {', '.join(CATALOG)}.")
