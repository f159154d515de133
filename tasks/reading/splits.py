"""Divides a window whose list is too long to be read, or too slow: pure functions.

A window is cut in two. One part is read next, the rest after it: so one answer opens one window, whatever it says, and
the cost of splitting a planned window is counted along the way (`Page.splits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any

from tasks.reading.windows import SECOND, Period, Rest, middle, moment, split

MOST_SPLITS = 128
"""Most cost for the splits of one planned window: 1.28 million records with offsets. The next run continues."""
MOST_PARTS = 32
"""Most windows that a period is cut into because its list is slow: they cost no splits."""


class Cost(IntEnum):
    """The cost of a split. Splits after much reading or waiting in vain cost more, so fewer of them are allowed."""

    CAP = 1  # two requests: the first page, and the one that tells where to cut
    SLOW = 25  # three time-outs: at most five halvings, so a day of a month, or five days of 150
    BLIND = 32  # a hundred pages: the list tells no total
    CURSOR = 128  # 1,200 pages: a list behind cursors tells its length only at its end


def by_time(period: Period, times: Sequence[Any]) -> tuple[Period, Period] | None:
    """Return the part of *period* to read next, and the rest; None if the records lie outside of it.

    *times* are those of a page's records: the part ends before the second of the last one, so that it holds what the
    list serves up to there. Where they can't be read, *period* is halved. Whether the list begins with its newest
    record is seen from the page; taken wrongly, it costs further splits.
    """
    try:
        first, last = moment(times[0]), moment(times[-1])
    except (IndexError, TypeError, ValueError):
        return halves(period)
    if not period.since <= last <= period.until:
        return None
    if first > last:
        rest, part = split(period, last.replace(microsecond=0) + SECOND)
    else:
        part, rest = split(period, last)
    return part, rest


def halves(period: Period) -> tuple[Period, Period]:
    """Return the newer half of *period* and the older half."""
    older, newer = split(period, middle(period))
    return newer, older


def seconds(period: Period) -> int:
    return int((period.until - period.since) / SECOND)


def put(rest: Rest, period: Period, most_seconds: int = 0) -> Rest:
    """Return *rest* with *period* to be read before it, joined with a period of its kind that it touches.

    *most_seconds* says how long a window may be, where a longer one was too slow. Joined periods of that kind are read
    in at most `MOST_PARTS` windows: one slow second must not have a month read second by second.
    """
    if rest:
        top, most = Period.parse(rest[-1][0]), rest[-1][1]
        touching = top.until == period.since or period.until == top.since
        if touching and bool(most) == bool(most_seconds):
            whole = Period(min(top.since, period.since), max(top.until, period.until))
            least = most and max(min(most, most_seconds), -(-seconds(whole) // MOST_PARTS))
            return (*rest[:-1], (str(whole), least))
    return (*rest, (str(period), most_seconds))


def take(rest: Rest) -> tuple[str, Rest]:
    """Return the window to read next, and the rest."""
    (window, most), others = rest[-1], rest[:-1]
    period = Period.parse(window)
    if not most or seconds(period) <= most:
        return window, others
    older, newer = split(period, period.until - timedelta(seconds=most))
    return str(newer), (*others, (str(older), most))
