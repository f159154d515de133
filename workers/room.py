"""The memory for pages in a process: small pages share it, and one large page at a time gets more beside it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BODY_BYTES = 64 * 2**20
"""Longest unpacked body of an answer: a page of 100 records with events of 500 KB has 50 MB."""
SHARE = 32
"""A page that takes more than this fraction (1/32) of the room is large."""


class NoRoom(Exception):
    """Other pages use all the memory for pages, so this page has to be requested later."""


class Room:
    """Memory for pages, in bytes. Safe to share between threads.

    A small page takes memory from the room. Large pages take turns, in the order in which they asked, and the one whose
    turn it is gets its memory on top of the room. So small pages can't keep it waiting forever, and they continue
    meanwhile. All pages together take at most the room and the memory of one large page.
    """

    def __init__(self, most_bytes: float = math.inf) -> None:
        self._most = most_bytes
        self._taken = 0
        self._turns: list[Share] = []  # large pages in order; the first has its turn
        self._changed = threading.Condition()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Give the share of one page; all its memory is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()

    def _grow(self, share: Share, size: int, seconds: float) -> None:
        with self._changed:
            if self._turns[:1] != [share] and not self._fits(share, size):
                self._turn(share, size, seconds)
            share.size += size
            if self._turns[:1] != [share]:
                self._taken += size

    def _fits(self, share: Share, size: int) -> bool:
        """Say whether *share* stays small with *size* more bytes, and the room has that much left."""
        return share.size + size <= self._most / SHARE and self._taken + size <= self._most

    def _turn(self, share: Share, size: int, seconds: float) -> None:
        """Wait until the room has *size* bytes for *share*, or it is the share's turn; raises NoRoom."""
        self._turns.append(share)
        waited = self._changed.wait_for(
            lambda: self._turns[0] is share or self._fits(share, size),
            None if math.isinf(seconds) else seconds,
        )
        if waited and self._turns[0] is share:
            self._taken -= share.size  # a large page's memory is not part of the room
        else:
            self._turns.remove(share)
        self._changed.notify_all()
        if not waited:
            raise NoRoom

    def _shrink(self, share: Share) -> None:
        with self._changed:
            if self._turns[:1] == [share]:
                del self._turns[0]
            else:
                self._taken -= share.size
            share.size = 0
            self._changed.notify_all()


class Share:
    """The memory that one page takes. For one thread."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def take(self, size: int, seconds: float = math.inf) -> None:
        """Take *size* bytes more, waiting for them for at most *seconds*; raises `NoRoom`."""
        self._room._grow(self, size, seconds)  # noqa: SLF001 - two halves of one thing

    def give_back(self) -> None:
        """Give back everything."""
        self._room._shrink(self)  # noqa: SLF001 - two halves of one thing
