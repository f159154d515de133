"""What a process counts, and the endpoint where Prometheus reads it: /metrics on a port of its own.

docs/metrics.md lists every metric. A label takes one of a few known values: nothing here names a source,
a run or a page.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from workers.pagerduty.client import Reply
from workers.room import NoRoom
from workers.settings.environment import Settings
from workers.state.limiter import Permit

log = logging.getLogger("pagetrail.metrics")

PATH = "/metrics"
RETRY_SECONDS = 5.0
"""How soon a port that was taken is tried again."""

WORKER, BEAT = CollectorRegistry(), CollectorRegistry()
"""What each role shows. Neither is the library's own, which Flower fills."""

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0)


def counter(name: str, meaning: str, *labels: str) -> Callable[..., Counter]:
    """Return a worker's counters by their labels, remembered: the library looks longer than it counts."""
    return cache(Counter(name, meaning, labels, registry=WORKER).labels)


def histogram(
    name: str, meaning: str, *labels: str, buckets: Sequence[float]
) -> Callable[..., Histogram]:
    """Return a worker's histograms in the same way."""
    return cache(Histogram(name, meaning, labels, registry=WORKER, buckets=buckets).labels)


SLOTS = Gauge("pagetrail_worker_slots", "Tasks a worker can do at a time.", registry=WORKER)
BUSY = Gauge("pagetrail_worker_slots_in_use", "Tasks a worker is doing.", registry=WORKER)
task_seconds = histogram(
    "pagetrail_task_seconds", "Durations of tasks, waits in them included.", "task", buckets=_SLOW
)
failures = counter(
    "pagetrail_failures",
    "Faults of our own that ended a task, or made it give its page back, by their class.",
    "task",
    "error",
)
pages = counter(
    "pagetrail_pages",
    "Pages that a worker was told to take, by what became of them.",
    "outcome",
)
for _outcome in ("closed", "failed"):
    pages(_outcome)  # shown before the first: to Prometheus an increase from nothing is none
requests = counter(
    "pagetrail_requests", "Requests to PagerDuty by what came back.", "region", "status"
)
request_seconds = histogram(
    "pagetrail_request_seconds",
    "Durations of requests to PagerDuty, body included.",
    "region",
    buckets=_SLOW,
)
PERMIT_SECONDS = Histogram(
    "pagetrail_permit_wait_seconds",
    "Waits of tasks for the permits they were given.",
    registry=WORKER,
    buckets=_FAST,
)
refused_permits = counter(
    "pagetrail_permits_refused",
    "Permits not given, the wait being too long for a task, by what the wait is for.",
    "reason",
)
storage_seconds = histogram(
    "pagetrail_storage_seconds", "Durations of calls to storage.", "operation", buckets=_FAST
)
storage_errors = counter("pagetrail_storage_errors", "Calls to storage that failed.", "operation")

BEAT_LOOKED = Gauge(
    "pagetrail_beat_looked_timestamp_seconds", "When beat last looked at the time.", registry=BEAT
)
TICKS = Counter(
    "pagetrail_beat_ticks",
    "Ticks beat published: none while one waits for a worker.",
    registry=BEAT,
)

_STATUSES = {200, 400, 401, 402, 403, 404, 408, 429, 500, 502, 503, 504}


def count_permit(permit: Permit) -> None:
    """Count what a task was told that asked for leave to send."""
    if permit.granted:
        PERMIT_SECONDS.observe(permit.waited_seconds)
    else:
        refused_permits(permit.reason).inc()


def count_reply(region: str, reply: Reply, seconds: float) -> None:
    """Count a request to PagerDuty that took *seconds*, and what came back for it."""
    request_seconds(region).observe(seconds)
    requests(region, status_word(reply.status, reply.timed_out)).inc()


@cache
def status_word(status: int | None, timed_out: bool) -> str:
    """Return one of a few words for a status, whatever a server or something in between may send."""
    if status is None:
        return "timeout" if timed_out else "broken"
    return str(status) if status in _STATUSES else f"{status // 100}xx"


class Faults:
    """A block whose faults are counted, as those of *task*, and go on."""

    __slots__ = ("_task",)

    def __init__(self, task: str) -> None:
        self._task = task

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and kind is not NoRoom:  # which is a wait
            failures(self._task, kind.__name__).inc()


def serve(settings: Settings, registry: CollectorRegistry) -> None:
    """Show *registry* on the port that is set, if one is, from a thread of its own.

    A port that is taken never stops the work: that is said, and the port is tried again.
    """
    port, host = settings.metrics_port, settings.metrics_host
    if port is None:
        return
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        log.warning(
            "no metrics: %s port %d can't be used (%s); "
            "every process needs a PAGETRAIL_METRICS_PORT of its own",
            host,
            port,
            error.strerror,
        )
        again = threading.Timer(RETRY_SECONDS, serve, (settings, registry))
        again.daemon = True
        again.start()


def begin(settings: Settings, role: str, node: str) -> None:
    """Show what this process is and counts from now on: a worker, or beat."""
    # A second series per series, which no query of ours reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
    registry = BEAT if role == "beat" else WORKER
    ProcessCollector(registry=registry)
    process = Info("pagetrail_process", "Role, node and version of the process.", registry=registry)
    process.info({"role": role, "node": node, "version": version("pagetrail")})
    serve(settings, registry)
