"""A memory for pages that is never full, and counts what is taken from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from workers.room import NoRoom


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


class CrowdedShare(CountedShare):
    """A share that finds no memory for an answer while its room is crowded."""

    def __init__(self, room: CrowdedRoom) -> None:
        super().__init__()
        self._room = room

    def take(self, size: int, seconds: float = math.inf) -> None:
        if self.total and self._room.crowded:
            self._room.crowded -= 1
            if self._room.crowded % 10:
                raise NoRoom
        super().take(size, seconds)


class CrowdedRoom:
    """A room with memory to ask for pages. Of the next *crowded* answers, it has some for each tenth alone."""

    def __init__(self, crowded: int) -> None:
        self.crowded = crowded

    @contextmanager
    def share(self) -> Iterator[CrowdedShare]:
        yield CrowdedShare(self)


class CountedRoom:
    """A room whose shares are kept, so that a test can look at them."""

    def __init__(self) -> None:
        self.shares: list[CountedShare] = []

    @contextmanager
    def share(self) -> Iterator[CountedShare]:
        self.shares.append(CountedShare())
        yield self.shares[-1]
