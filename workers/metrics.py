"""What a process counts, and the endpoint where Prometheus reads it: /metrics on a port of its own."""

import logging
import threading
from importlib.metadata import version
from typing import Any

from celery import signals
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Info,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from workers.settings import Settings, load_settings

log = logging.getLogger("pagetrail.metrics")

PATH = "/metrics"
RETRY_SECONDS = 5.0
"""How soon a port that was taken is tried again."""

# A second series per series, which no query of ours reads.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
REGISTRY = CollectorRegistry()
"""Our own, so that Flower, which fills the library's, shows nothing of ours."""

ProcessCollector(registry=REGISTRY)
PROCESS = Info(
    "pagetrail_process", "What this process is: role, node and version.", registry=REGISTRY
)
SLOTS = Gauge("pagetrail_worker_slots", "Tasks this worker can do at a time.", registry=REGISTRY)
BUSY = Gauge("pagetrail_worker_slots_in_use", "Tasks this worker is doing now.", registry=REGISTRY)
CONSUMES = Gauge(
    "pagetrail_worker_consumes",
    "1 for each queue this worker takes messages from.",
    ["queue"],
    registry=REGISTRY,
)


def serve(settings: Settings) -> None:
    """Answer on the port that is set, if one is, from a thread of its own.

    A port that is taken never stops the work: it is said once a try, and tried again.
    """
    port, host = settings.metrics_port, settings.metrics_host
    if port is None:
        return
    try:
        start_http_server(port, host, REGISTRY)
    except OSError as error:
        log.warning(
            "no metrics: %s port %d can't be used (%s); every process needs a PAGETRAIL_METRICS_PORT of its own",
            host,
            port,
            error.strerror,
        )
        again = threading.Timer(RETRY_SECONDS, serve, (settings,))
        again.daemon = True
        again.start()


def watch() -> None:
    """Connect to the signals of Celery that say when a process starts and works."""
    for signal, receiver in (
        (signals.celeryd_init, _on_worker),
        (signals.beat_init, _on_beat),
        (signals.worker_ready, _on_ready),
    ):
        signal.connect(receiver, weak=False)


def _on_worker(sender: str, **_: Any) -> None:
    _begin("worker", sender)


def _on_beat(**_: Any) -> None:
    _begin("beat", "beat")


def _begin(role: str, node: str) -> None:
    PROCESS.info({"role": role, "node": node, "version": version("pagetrail")})
    serve(load_settings())


def _on_ready(sender: Any, **_: Any) -> None:
    from celery.worker import state

    SLOTS.set(sender.pool.limit)
    BUSY.set_function(lambda: len(state.active_requests))
    for queue in sender.task_consumer.queues:
        CONSUMES.labels(queue.name).set(1)
