"""Beat's schedule, which has one entry for all tenants, and the scheduler that publishes it."""

import time
from datetime import timedelta
from functools import cached_property
from typing import Any

from celery.beat import Scheduler, SchedulingError
from redis import Redis

from workers.errors import RedisUnreachable
from workers.process import liveness, metrics
from workers.process.logs import log
from workers.process.signals import log_failure
from workers.state.client import impatient

PLAN_QUEUE = "plan"
TICK_SECONDS = 1.0
_ANSWER_SECONDS = 2.0


def beat_entries() -> dict[str, dict[str, Any]]:
    """Return beat's entries. They don't use `expires`, which would compare the clocks of two machines."""
    return {
        "tick": {
            "task": "tasks.plan.tick",
            "schedule": timedelta(seconds=TICK_SECONDS),
            "options": {"queue": PLAN_QUEUE},
        }
    }


class Ticker(Scheduler):
    """Publishes an entry when it is due and its queue is empty, so that ticks don't pile up while workers are away.

    It keeps nothing on disk, uses the monotonic clock, and waits as long as Redis is away.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[str, float] = {}
        self._answers = True

    def tick(self, *_: Any, **__: Any) -> float:
        """Publish the entries that are due, and return the seconds until the next one is."""
        liveness.touch(liveness.BEAT)
        metrics.BEAT_LOOKED.set_to_current_time()
        now = time.monotonic()
        entries: dict[str, Any] = self.schedule
        for name, entry in entries.items():
            if now >= self._next.get(name, now):
                self._next[name] = now + entry.schedule.seconds
                if self._wanted(entry):
                    self._publish(entry)
        return max(0.0, min(self._next.values()) - time.monotonic())

    def _wanted(self, entry: Any) -> bool:
        try:
            return bool(self._redis.llen(self._list_of(entry)) == 0)
        except RedisUnreachable as fault:
            self._missed(fault)
            return False

    def _publish(self, entry: Any) -> None:
        """Publish *entry*. Celery's own method would log a traceback each time that Redis refuses."""
        try:
            self.apply_async(entry, advance=False)
        except SchedulingError as error:
            failed = error.__context__ or error
            self._missed(failed.__cause__ or failed)
        else:
            self._answers = True
            metrics.TICKS.inc()

    def _missed(self, error: BaseException) -> None:
        """Log a missed entry, but only once until Redis takes an entry again."""
        if self._answers:
            log_failure(log, "no ticks", error, {})
        self._answers = False

    def _list_of(self, entry: Any) -> str:
        prefix: str = self.app.conf.broker_transport_options["global_keyprefix"]
        return f"{prefix}{entry.options['queue']}"

    @cached_property
    def _redis(self) -> Redis:
        return impatient(self.app.conf.broker_url, _ANSWER_SECONDS)
