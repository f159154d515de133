"""Sends Celery messages that name a task and its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError

from workers.errors import RedisUnreachable

if TYPE_CHECKING:  # Celery is slow to load, and most commands do without it
    from celery import Celery


class Sender:
    """Sends messages through a Celery app; safe to share between threads."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def send(self, task: str, queue: str, *args: str | int, words: str = "", id_: str = "") -> None:
        """Send *task* with *args*; raises `RedisUnreachable`.

        Flower shows *words*, which describe the task, and *id_*, by which people search for it.
        """
        try:
            self._celery.send_task(task, args, queue=queue, argsrepr=words, kwargsrepr=id_)
        except OperationalError:
            raise RedisUnreachable(
                "Redis went away before the fleet was told: the fleet looks by itself once Redis is back."
            ) from None
