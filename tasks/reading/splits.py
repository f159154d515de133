"""Divide a window if its list is too long or too slow to be read: pure functions.

A window is cut in two. One part is read next, and the rest after it. So an answer never opens more than one window. The
pages carry along how much it has cost to split their planned window (`Page.splits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any

from tasks.reading.windows import SECOND, Period, Rest, middle, moment, split

MOST_SPLITS = 128
"""Most that the splits of one planned window may cost in a run. It is enough for 1.28 million records with offsets."""
MOST_PARTS = 32
"""Most windows that a period is cut into because its list is slow. These cuts don't count as splits."""


class Cost(IntEnum):
    """The cost of a split. A split that took much reading or waiting costs more, so fewer of them are allowed."""

    CAP = 1  # two requests: the first page, and the page that shows where to cut
    SLOW = 25  # three time-outs: at most five halvings, from a month to a day, or from 150 days to five
    BLIND = 32  # a hundred pages, because the list doesn't tell its total
    CURSOR = 128  # 1,200 pages, because a list with cursors shows its length only at its end


def by_time(period: Period, times: Sequence[Any]) -> tuple[Period, Period] | None:
    """Return the part of *period* to read next, and the rest; None if the records lie outside of it.

    *times* are the times of a page's records, in their order. They show whether the list begins with its oldest or its
    newest record. The part to read next has the records that come before the last one; the cut is at the second of that
    record. If the times can't be read, *period* is halved. A wrong guess of the order only costs further splits.
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
    """Return *rest* with *period* added, which is then read first.

    *most_seconds* is the longest window that may be read at once, if a longer one was too slow; else 0. If *period*
    touches the next period of *rest*, and both or neither were too slow, the two become one. Slow periods that were
    joined are read in at most `MOST_PARTS` windows. Otherwise, one slow second could make a run read a month second by
    second.
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
