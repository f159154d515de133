"""A memory for pages that is never full, and counts what is taken from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager


class CountedShare:
    """What one page takes: now, at most at a time, and in all."""

    def __init__(self) -> None:
        self.size = self.most = self.total = 0

    def take(self, size: int, seconds: float = math.inf) -> None:
        del seconds
        self.size += size
        self.total += size
        self.most = max(self.most, self.size)

    def give_back(self) -> None:
        self.size = 0


class CountedRoom:
    """A room whose shares are kept, so that a test can look at them."""

    def __init__(self) -> None:
        self.shares: list[CountedShare] = []

    @contextmanager
    def share(self) -> Iterator[CountedShare]:
        self.shares.append(CountedShare())
        yield self.shares[-1]
