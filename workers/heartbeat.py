"""A worker's heartbeat, as a step of Celery's consumer."""

from threading import Event, Thread
from typing import Any

from celery import bootsteps

from workers import health

BEAT_SECONDS = 5.0


class Heartbeat(bootsteps.StartStopStep):
    """Beats from the event loop while there is a connection, else by itself.

    So a loop that is stuck is seen, and waiting for Redis is no illness.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        self._node: str = parent.hostname
        self._connected = Event()
        health.set_ready(self._node, ready=False)  # a container that was killed left its files
        self._wait_for_connection()

    def start(self, parent: Any) -> None:
        """Beat from the event loop; Celery drops its timers whenever it connects anew."""
        self._connected.set()
        health.touch(self._node)
        parent.timer.call_repeatedly(BEAT_SECONDS, health.touch, (self._node,))

    def stop(self, parent: Any) -> None:
        """Beat without the loop until the next start."""
        del parent
        self._wait_for_connection()

    def _wait_for_connection(self) -> None:
        connected = self._connected = Event()

        def beat() -> None:
            while not connected.wait(BEAT_SECONDS):
                health.touch(self._node)

        health.touch(self._node)
        Thread(target=beat, name="heartbeat", daemon=True).start()
