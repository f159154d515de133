"""Pages share a bounded memory: small ones side by side, one large one at a time beside them."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.room import SHARE, NoRoom, Room, Share

MOST = SHARE * 100  # a small page takes 100 bytes at most


def test_small_pages_share_the_room_and_give_it_back() -> None:
    room = Room(MOST)
    for _ in range(3):
        shares = [Share(room) for _ in range(SHARE)]
        for share in shares:
            share.take(60)
            share.take(40)
        for share in shares:
            share.give_back()


def test_a_page_that_gets_no_room_in_time_is_refused_and_others_go_on() -> None:
    room = Room(MOST)
    with room.share() as large, room.share() as other:
        large.take(10 * MOST)
        other.take(100)
        with pytest.raises(NoRoom):
            other.take(1, seconds=0)
        other.give_back()
        other.take(100)
    with room.share() as other:
        other.take(10 * MOST, seconds=0)


def test_a_large_page_takes_what_it_needs_although_all_others_fill_the_room() -> None:
    """Otherwise two of them, half read, would wait for each other."""
    room = Room(MOST)
    small = [Share(room) for _ in range(SHARE)]
    for share in small:
        share.take(100)
    with room.share() as large:
        large.take(50, seconds=0)
        large.take(MOST, seconds=0)
        large.take(MOST, seconds=0)
        with room.share() as second, pytest.raises(NoRoom):
            second.take(50, seconds=0)


def test_memory_that_a_large_page_took_while_it_was_small_no_longer_counts() -> None:
    room = Room(MOST)
    with room.share() as large:
        large.take(100)
        large.take(1)
        for _ in range(SHARE):
            Share(room).take(100, seconds=0)


def test_large_pages_have_their_turn_in_the_order_of_asking() -> None:
    room, order, asked = Room(MOST), list[int](), threading.Semaphore(0)

    def take(number: int) -> None:
        with room.share() as share:
            share.take(10)
            asked.release()
            share.take(MOST)
            order.append(number)

    with ThreadPoolExecutor(4) as threads, room.share() as first:
        first.take(MOST)
        for number in range(4):
            threads.submit(take, number)
            asked.acquire()
            while len(room._turns) < number + 2:
                pass
    assert order == [0, 1, 2, 3]


def test_many_threads_never_take_more_than_the_room_and_one_large_page() -> None:
    room, lock, taken, peak, done = Room(MOST), threading.Lock(), 0, 0, 0

    def page(seed: int) -> None:
        nonlocal taken, peak, done
        dice = random.Random(seed)
        with room.share() as share:
            for _ in range(dice.randrange(1, 6)):
                size = dice.choice([10, 30, 200, MOST])
                share.take(size)
                with lock:
                    taken += size
                    peak = max(peak, taken)
            with lock:
                taken -= share.size
                done += 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(page, range(400)))
    assert (done, taken) == (400, 0)
    assert MOST < peak <= MOST + 5 * MOST


def test_without_a_limit_everything_is_small() -> None:
    shares = [Share(Room()) for _ in range(3)]
    for share in shares:
        share.take(2**40, seconds=0)
