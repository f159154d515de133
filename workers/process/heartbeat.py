"""A worker's heartbeat, as a step of Celery's consumer."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Event, Thread
from typing import Any

from celery import bootsteps

from workers.errors import Fault
from workers.process import liveness
from workers.settings.environment import load_settings
from workers.state.client import connect
from workers.state.roster import Roster

BEAT_SECONDS = 5.0
LEAVE_SECONDS = 2.0  # how long `stop` waits for the thread, which ends with the process


class Heartbeat(bootsteps.StartStopStep):
    """Beats from the event loop while there is a connection, and otherwise from a thread.

    So a stuck loop is noticed, and a worker that waits for Redis still counts as alive. While there is a connection,
    each beat also enters the worker in the roster in Redis.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        self._node: str = parent.hostname
        self._queues: list[str] = []
        self._connected = Event()
        liveness.set_ready(self._node, ready=False)  # a killed container leaves its files behind
        self._wait_for_connection()

    def start(self, parent: Any) -> None:
        """Beat from the event loop. Called for each connection, because Celery then drops its timers."""
        self._connected.set()
        self._queues = [queue.name for queue in parent.task_consumer.queues]
        self._beat()
        parent.timer.call_repeatedly(BEAT_SECONDS, self._beat)

    def stop(self, parent: Any) -> None:
        """Beat from a thread until the next start."""
        del parent
        self._in_roster(Roster.leave).join(LEAVE_SECONDS)
        self._wait_for_connection()

    def _beat(self) -> None:
        liveness.touch(self._node)
        self._in_roster(Roster.enter)

    def _in_roster(self, say: Callable[[Roster, str, list[str]], None]) -> Thread:
        """Enter or leave the roster from a thread, so that a slow Redis doesn't stop the loop."""

        def call() -> None:
            with suppress(Fault):  # the next beat tries again
                say(_roster(), self._node, self._queues)

        thread = Thread(target=call, name="roster", daemon=True)
        thread.start()
        return thread

    def _wait_for_connection(self) -> None:
        connected = self._connected = Event()

        def beat() -> None:
            while not connected.wait(BEAT_SECONDS):
                liveness.touch(self._node)

        liveness.touch(self._node)
        Thread(target=beat, name="heartbeat", daemon=True).start()


@cache
def _roster() -> Roster:
    settings = load_settings()
    return Roster(connect(settings.redis_url_or_embedded()), settings.key_prefix)
