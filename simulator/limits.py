"""The rate limits: how many requests a bucket admits in a minute, and the headers that say so."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from simulator.accounts import KeySpec

Shape = Literal["fixed", "sliding"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of one limit, right after it admitted or refused a request."""

    admitted: bool
    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> list[tuple[str, str]]:
        """Return the three headers. Reset is a number of seconds, not a time."""
        return [
            ("ratelimit-limit", str(self.limit)),
            ("ratelimit-remaining", str(self.remaining)),
            ("ratelimit-reset", str(self.reset_seconds)),
        ]


@dataclass(slots=True)
class Window:
    """A limit that counts in fixed windows, which begin at any second, or over the last minute."""

    limit: int
    shape: Shape
    minute_seconds: float
    phase: float
    period: int = -1
    used: int = 0
    admissions: deque[float] = field(default_factory=deque)  # of the last minute
    total: int = 0  # ever admitted
    interrupted: bool = False  # the customer's own tools have used their part
    refused: int = 0
    worst: int = 0  # most requests admitted in any one minute

    def judge(self, now: float) -> Standing:
        """Admit or refuse one request at *now*. A refused request costs nothing."""
        while self.admissions and self.admissions[0] <= now - self.minute_seconds:
            self.admissions.popleft()
        period = int((now + self.phase) // self.minute_seconds)
        if period != self.period:
            self.period, self.used = period, 0
        used = self.used if self.shape == "fixed" else len(self.admissions)
        admitted = used < self.limit
        if admitted:
            self.used += 1
            self.total += 1
            self.admissions.append(now)
            self.worst = max(self.worst, len(self.admissions))
        else:
            self.refused += 1
        left = max(0, self.limit - used - admitted)
        return Standing(admitted, self.limit, left, math.ceil(round(self._reset(now), 3)))

    def _reset(self, now: float) -> float:
        if self.shape == "fixed":
            return (self.period + 1) * self.minute_seconds - self.phase - now
        return self.admissions[0] + self.minute_seconds - now if self.admissions else 0


class Limits:
    """The buckets of all credentials: one per key, or per user for user keys, and one more for /oncalls."""

    def __init__(self, minute_seconds: float) -> None:
        self.minute_seconds = minute_seconds
        self.windows: dict[str, Window] = {}

    def _open(self, name: str, key: KeySpec, shape: Shape, now: float) -> Window:
        """Start a bucket. Its minute ends at a time that clients can't know, unless the key sets it."""
        phase = (sum(name.encode()) * 7.919) % self.minute_seconds
        if key.first_reset_seconds is not None:
            phase = -(now + key.first_reset_seconds) % self.minute_seconds
        window = self.windows[name] = Window(key.limit, shape, self.minute_seconds, phase)
        window.period = int((now + phase) // self.minute_seconds)
        return window

    def _others(self, window: Window, key: KeySpec, now: float) -> None:
        """Let the customer's own tools use most of the minute, once, when the key says so."""
        if key.others_after is None or window.total != key.others_after or window.interrupted:
            return
        window.interrupted = True
        window.phase = -(now + key.others_reset_seconds) % self.minute_seconds
        window.period = int((now + window.phase) // self.minute_seconds)
        window.used = max(window.used, window.limit - key.others_leave)

    def judge(self, key: KeySpec, bucket: str, shape: Shape, path: str, now: float) -> Standing:
        """Admit or refuse a request. If there are two limits, the answer shows the one with less left."""
        window = self.windows.get(bucket) or self._open(bucket, key, shape, now)
        window.limit = key.limit
        self._others(window, key, now)
        standing = window.judge(now)
        if path != "/oncalls" or not standing.admitted:
            return standing
        name = f"{bucket}/oncalls"
        own = self.windows.get(name) or self._open(name, key, shape, now)
        own.limit = key.oncalls_limit
        further = own.judge(now)
        return further if further.remaining <= standing.remaining else standing

    def reset_counts(self) -> None:
        """Reset the counts of worst and refused. The budgets stay."""
        for window in self.windows.values():
            window.refused = 0
            window.worst = len(window.admissions)
