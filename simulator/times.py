"""Converts between epoch seconds and the ISO 8601 times that PagerDuty reads and writes."""

import time
from calendar import monthrange
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

DAY_SECONDS = 86_400


class Clock:
    """The service's clock: the machine's, and any number of days ahead of it."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return time.time() + self.ahead_seconds


def iso(epoch_seconds: float) -> str:
    """Return whole seconds in UTC, like 2026-03-01T09:30:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch_seconds))


def iso_millis(epoch_seconds: float) -> str:
    """Return milliseconds in UTC, as in audit records."""
    millis = round(epoch_seconds * 1000)
    return f"{iso(millis // 1000)[:-1]}.{millis % 1000:03d}Z"


def iso_micros(epoch_seconds: float) -> str:
    """Return microseconds in UTC, as in the truth endpoint."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="microseconds")


def zoned(epoch_seconds: float, zone: ZoneInfo) -> str:
    """Return whole seconds in *zone*, with Z for UTC, and with an offset for other zones."""
    if zone.key in ("UTC", "Etc/UTC"):
        return iso(epoch_seconds)
    return datetime.fromtimestamp(int(epoch_seconds), zone).isoformat()


def parse(text: str, zone: ZoneInfo) -> float:
    """Return the epoch seconds of an ISO 8601 *text*, read in *zone* if it has no offset.

    Raises ValueError for anything else.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return moment.timestamp()


def add_months(epoch_seconds: float, months: int) -> float:
    """Return the same clock time *months* calendar months away, on a day that exists."""
    moment = datetime.fromtimestamp(epoch_seconds, UTC)
    index = moment.year * 12 + moment.month - 1 + months
    year, month = index // 12, index % 12 + 1
    day = min(moment.day, monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day).timestamp()
