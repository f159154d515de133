"""What a process logs and serves when Celery's signals say that it starts, takes work, fails or stops."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celery import Task, signals
from celery.app.log import Logging
from celery.utils.imports import symbol_by_name
from celery.worker import state

from workers.errors import Fault
from workers.process import liveness, metrics, sentry
from workers.process.logs import configure_logging, log
from workers.settings.environment import Settings, load_settings
from workers.state.client import impatient, warning
from workers.state.faults import as_fault, is_outage

_ANSWER_SECONDS = 2.0


def log_failure(
    logger: logging.Logger, what: str, error: BaseException, known: Mapping[str, object]
) -> None:
    """Log that *what* happened because of *error*: as a warning if it passes by itself, otherwise as an error."""
    fault = as_fault(error)
    if is_outage(fault):
        logger.warning("%s: %s", what, fault, extra=known)
    elif isinstance(fault, Fault):
        logger.error("%s: %s", what, fault, exc_info=error, extra=known)
    else:
        logger.error(what, exc_info=error, extra=known)


class OwnLogging(Logging):
    """Logging for the processes of our app; the options of Celery's commands don't change it."""

    def setup_logging_subsystem(self, *_: Any, **__: Any) -> bool:
        """Log as the settings say; True tells Celery that nothing is left to set up."""
        configure_logging(load_settings())
        # Celery would repeat the errors of `TimedTask.on_failure` without the ids.
        logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
        return True


class TimedTask(Task):  # type: ignore[type-arg]  # Celery's class takes no type at runtime
    """A task whose duration and faults are counted."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work; Celery calls this instead of `run`."""
        with metrics.task_seconds(self.name).time(), metrics.FailuresOf(self.name):
            return self.run(*args, **kwargs)

    def on_failure(self, exc: BaseException, task_id: str, args: Any, *_: Any) -> None:
        """Log an error that no task should raise; every task's arguments begin with the same ids."""
        del task_id  # every line has it already
        known = dict(zip(("source", "run", "page"), args, strict=False))
        log_failure(log, "task failed", exc, {"task": self.name, **known})


def watch(app: object, *, beat_shows: str) -> None:
    """Log when a worker or beat of *app* starts, takes work and stops.

    *beat_shows* is the `module:name` of the function that adds the whole fleet to beat's metrics. In a process of
    another app, which only imports ours to send it work, nothing is logged, opened or written.
    """

    def on_worker(instance: Any, **_: Any) -> None:
        if instance.app is app:
            for signal, receiver in (
                (signals.celeryd_after_setup, _on_worker),
                (signals.worker_ready, _on_ready),
                (signals.worker_shutting_down, _on_shutting_down),
            ):
                signal.connect(receiver, weak=False)

    def on_beat(sender: Any, **_: Any) -> None:
        if sender.app is app:
            _on_beat(beat_shows)

    signals.celeryd_init.connect(on_worker, weak=False)
    signals.beat_init.connect(on_beat, weak=False)


def _on_worker(sender: str, **_: Any) -> None:
    settings = load_settings()
    sentry.start(settings, sender)
    metrics.begin(settings, "worker", sender)


def _on_beat(shows: str) -> None:
    settings = load_settings()
    sentry.start(settings, liveness.BEAT)
    metrics.begin(settings, "beat", liveness.BEAT)
    symbol_by_name(shows)(settings)
    log.info("beat publishes ticks")


def _on_ready(sender: Any, **_: Any) -> None:
    metrics.SLOTS.set(sender.pool.limit)
    metrics.BUSY.set_function(lambda: len(state.active_requests))
    liveness.set_ready(sender.hostname, ready=True)
    log.info("%s takes work", sender.hostname)
    _warn(load_settings())


def _warn(settings: Settings) -> None:
    with (
        suppress(Fault),  # it only warns
        impatient(settings.redis_url_or_embedded(), _ANSWER_SECONDS) as client,
    ):
        if said := warning(client):
            log.warning("%s", said)


def _on_shutting_down(sender: str, **_: Any) -> None:
    liveness.set_ready(sender, ready=False)
    log.info("%s finishes its tasks and takes no more", sender)
