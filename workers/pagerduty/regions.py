"""Limits how many of a process's slots a failing region may hold."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

_MEMORY = 0.9
"""Weight of the past in a region's share of time-outs: about the last ten answers count."""


class RegionGate:
    """Lets a region that mostly times out hold at most a quarter of the process's slots."""

    def __init__(self, slots: int) -> None:
        self._most = max(1, slots // 4)
        self._lock = threading.Lock()
        self._inside: dict[str, int] = defaultdict(int)
        self._timeouts: dict[str, float] = defaultdict(float)

    @contextmanager
    def slot(self, region: str) -> Iterator[bool]:
        """Hold a slot for a request to *region*. False means that the region already has its share: don't send."""
        with self._lock:
            allowed = self._timeouts[region] < 0.5 or self._inside[region] < self._most
            self._inside[region] += allowed
        try:
            yield allowed
        finally:
            with self._lock:
                self._inside[region] -= allowed

    def answered(self, region: str, *, timed_out: bool) -> None:
        """Remember whether a request to *region* timed out."""
        with self._lock:
            past = self._timeouts[region]
            self._timeouts[region] = past * _MEMORY + timed_out * (1 - _MEMORY)
