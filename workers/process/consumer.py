"""Saves CPU and memory in a worker: events go in batches, garbage is collected seldom, memory is given back."""

import ctypes
import gc
from contextlib import suppress
from typing import Any

from celery import bootsteps

EVENTS_SECONDS = 0.5
_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BYTES = 2**18
"""Blocks larger than this are returned to the system when they are freed. By itself glibc raises the limit to 32 MB,
and then a page of 60 MB whose records were rewritten left 500 MB in the process."""
_EVENTS_MOST = 300
"""When this many events have gathered (of 100 tasks), they are sent at once."""


class EventBatches(bootsteps.StartStopStep):
    """Sends the task events for Flower twice a second: by itself Celery sends them with every turn of its loop."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, parent: Any, **_: Any) -> None:
        """Settle the process: it has imported everything and doesn't take work yet."""
        del parent
        settle()

    def start(self, parent: Any) -> None:
        """Let events gather; Celery makes a new dispatcher whenever it connects again."""
        dispatcher = parent.event_dispatcher
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = _EVENTS_MOST
        parent.timer.call_repeatedly(EVENTS_SECONDS, dispatcher.flush)


def settle() -> None:
    """Freeze long-lived objects so that the garbage collector skips them, and give the memory of large bodies back."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with suppress(AttributeError, OSError):  # another allocator than glibc's
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
