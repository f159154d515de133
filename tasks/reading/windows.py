"""Cut periods into half-open windows `[since, until)`, and add and subtract covered periods."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

OVERLAP = timedelta(minutes=10)
"""How far the next reading goes back before the last proved `until`, because records may be written late."""
SECOND = timedelta(seconds=1)
_STAMP = "%Y%m%dT%H%M%SZ"
ALL = "all"
Rest = tuple[tuple[str, int], ...]
"""Periods still to be read. The next one is last. Each has the most seconds that may be read at once (0: all)."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")
"""So short that a segment of a storage key stays below the 255 bytes that file systems allow."""
_HASHED = "sha256-"


Moment = Annotated[datetime, Meta(tz=True)]
"""A time in a document. It must name its zone."""


class Period(Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """A span of time in whole seconds."""

    since: Annotated[Moment, Meta(description="Its beginning, which belongs to it")]
    until: Annotated[Moment, Meta(description="Its end, which doesn't belong to it")]

    def __str__(self) -> str:
        return f"{self.since:{_STAMP}}_{self.until:{_STAMP}}"

    @classmethod
    def parse(cls, text: str) -> Period:
        """Return the period that `str()` wrote as *text*; raises ValueError."""
        since, until = (datetime.strptime(t, _STAMP).replace(tzinfo=UTC) for t in text.split("_"))
        return cls(since, until)

    @property
    def splittable(self) -> bool:
        return self.until - self.since > SECOND

    def times(self) -> list[str]:
        """Return both times as events and --json show them."""
        return [rfc3339(self.since), rfc3339(self.until)]


def rfc3339(when: datetime) -> str:
    """Return *when* in the form that PagerDuty takes: UTC, whole seconds, `Z`."""
    return _utc(when).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the aware UTC time that *text* (RFC 3339) names."""
    return _utc(datetime.fromisoformat(text))


def _utc(when: datetime) -> datetime:
    if when.tzinfo is None:  # Python would read it as local time
        raise ValueError(f"{when} has no zone")
    return when.astimezone(UTC)


def of(parent_id: str) -> str:
    """Return the window name of a reading for the record *parent_id*: the id, or its digest if the id is not plain."""
    if not is_plain(parent_id) or parent_id.startswith(_HASHED):
        parent_id = _HASHED + hashlib.sha256(parent_id.encode()).hexdigest()
    return f"of-{parent_id}"


def is_plain(record_id: str) -> bool:
    """Return whether an id can be used unchanged in an address and in a storage key.

    All ids that PagerDuty documents can. Other ids are never sent: clients, proxies and servers may change `..` or
    `%2F`, so that the request goes to another address than the recorded one.
    """
    return _PLAIN_ID.fullmatch(record_id) is not None


def period_in(window: str) -> Period | None:
    """Return the period of a window, or None for `all` and `of-` windows."""
    return None if window == ALL or window.startswith("of-") else Period.parse(window)


def is_part(window: str, whole: str) -> bool:
    """Return whether *window* is a smaller period within *whole*; raises ValueError for a name that isn't a window."""
    part, period = period_in(window), period_in(whole)
    return bool(
        part and period and part != period
        and period.since <= part.since and part.until <= period.until
    )  # fmt: skip


def cut(period: Period, days: int) -> Iterator[Period]:
    """Yield *period* in windows of at most *days*, newest first."""
    until, step = period.until, timedelta(days=days)
    while until > period.since:
        since = max(period.since, until - step)
        yield Period(since, until)
        until = since


def split(period: Period, at: datetime) -> tuple[Period, Period]:
    """Return the older and the newer part of *period*, cut at the second of *at*; neither is empty."""
    second = at.replace(microsecond=0)
    edge = min(max(second, period.since + SECOND), period.until - SECOND)
    return Period(period.since, edge), Period(edge, period.until)


def middle(period: Period) -> datetime:
    return period.since + (period.until - period.since) / 2


def merged(periods: Iterable[Period]) -> list[Period]:
    """Return the union of *periods*, oldest first. Periods that touch are joined."""
    union: list[Period] = []
    for period in sorted(periods):
        if union and period.since <= union[-1].until:
            union[-1] = Period(union[-1].since, max(union[-1].until, period.until))
        else:
            union.append(period)
    return union


def common(period: Period, others: Iterable[Period]) -> list[Period]:
    """Return the parts of *period* inside *others*, oldest first."""
    return missing(period, missing(period, others))


def missing(target: Period, covered: Iterable[Period]) -> list[Period]:
    """Return the parts of *target* outside *covered*, oldest first."""
    gaps, edge = [], target.since
    for period in merged(covered):
        if period.since > edge:
            gaps.append(Period(edge, min(period.since, target.until)))
        edge = max(edge, period.until)
    if edge < target.until:
        gaps.append(Period(edge, target.until))
    return [gap for gap in gaps if gap.since < gap.until]
