"""The input of a handler: the account, the key, the parameters, and the active fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from simulator.accounts import KeySpec
from simulator.errors import forbidden, invalid, not_found
from simulator.records import Record
from simulator.times import parse
from simulator.views import UTC_ZONE

if TYPE_CHECKING:
    from simulator.faults import Fault
    from simulator.world import Account


PRIVATE = ("incidents", "schedules", "v3_schedules", "teams")  # can be hidden from a user


class Params:
    """The query of a request."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = pairs

    def get(self, name: str) -> str | None:
        """Return the last value of *name*. An empty value counts as missing."""
        return next((v for k, v in reversed(self.pairs) if k == name), None) or None

    def all(self, name: str) -> list[str]:
        """Return every value of *name*."""
        return [v for k, v in self.pairs if k == name]

    def flag(self, name: str) -> bool:
        """Say whether *name* is `true`. `True` is not accepted."""
        return self.get(name) == "true"

    def whole(self, name: str, default: int) -> int:
        """Return a whole number, at least 0. Anything else is a 400."""
        text = self.get(name)
        if text is None:
            return default
        if not text.isdecimal():
            raise invalid(f"{name} must be a whole number.")
        return int(text)

    @property
    def includes(self) -> tuple[str, ...]:
        """Return the values of include[]."""
        return tuple(dict.fromkeys(self.all("include[]")))


@dataclass(slots=True)
class Call:
    """One authenticated GET."""

    account: Account
    key: KeySpec
    path: str
    params: Params
    now: float
    ids: tuple[str, ...] = ()
    fault: Fault | None = None

    def zone(self, default: str) -> ZoneInfo:
        """Return the zone for times: time_zone, else UTC or the account's zone."""
        name = self.params.get("time_zone")
        if name is None:
            name = "UTC" if default == "utc" else self.account.zone.key
        if name in ("UTC", "Etc/UTC"):
            return UTC_ZONE
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise invalid("Time zone is invalid.") from None

    def time(self, name: str) -> float | None:
        """Return a time parameter. Without an offset, it is in the account's zone."""
        text = self.params.get(name)
        if text is None:
            return None
        try:
            return parse(text, self.account.zone)
        except ValueError:
            raise invalid(f"{name.capitalize()} is invalid.") from None

    def sees(self, record: Record) -> bool:
        """Say whether the key's user may see a record. Lists silently leave out the others."""
        if record.kind == "incidents" and record.id in self.account.restricted:
            return False
        if self.key.sees >= 1 or record.kind not in PRIVATE:
            return True
        return record.number * 7_919 % 1_000 < self.key.sees * 1_000

    def find(self, kind: str) -> Any:
        """Return the record that the path names; Refusal if it is deleted, unknown, too new or hidden from the key."""
        found: Record | None
        if kind == "incidents":
            found = self.account.incident(self.ids[0])
        else:
            found = self.account.store(kind).by_id.get(self.ids[0])
        habits = self.account.spec.habits
        if found is None or self.now < (found.born or 0) + habits.fresh_404_seconds:
            raise not_found()
        if not self.sees(found):
            known = self.key.kind == "account" and habits.restricted_status == 403
            raise forbidden() if known else not_found()
        return found

    def trick(self, kind: str) -> bool:
        """Say whether the fault of this request is *kind*."""
        return self.fault is not None and self.fault.kind == kind
