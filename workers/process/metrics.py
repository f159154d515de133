"""The counts of one process, and the endpoint where Prometheus reads them: /metrics on its own port.

docs/metrics.md lists every metric. A label has one of a few known values, so no metric here names a source, a run or
a page.
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

from workers.pagerduty.replies import Reply
from workers.room import NoRoom
from workers.settings.environment import Settings
from workers.state.limiter import Permit

log = logging.getLogger("pagetrail.metrics")

PATH = "/metrics"
RETRY_SECONDS = 5.0
"""Time until a port that is in use is tried again."""

WORKER, BEAT = CollectorRegistry(), CollectorRegistry()
"""The metrics of each role. The library's own registry is not used, because Flower fills it."""

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0)


def counter(name: str, meaning: str, *labels: str) -> Callable[..., Counter]:
    """Return a function from labels to a worker's counters, cached because the library's look-up is slow."""
    return cache(Counter(name, meaning, labels, registry=WORKER).labels)


def histogram(
    name: str, meaning: str, *labels: str, buckets: Sequence[float]
) -> Callable[..., Histogram]:
    """Return a function from labels to a worker's histograms, as `counter` does."""
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
    "Pages that a worker was told to take, by their fate.",
    "outcome",
)
for _outcome in ("closed", "failed"):
    pages(_outcome)  # shown as 0 from the start, so that Prometheus sees the first increase
requests = counter(
    "pagetrail_requests", "Requests to PagerDuty by their answers.", "region", "status"
)
request_seconds = histogram(
    "pagetrail_request_seconds",
    "Durations of requests to PagerDuty, body included.",
    "region",
    buckets=_SLOW,
)
PERMIT_SECONDS = Histogram(
    "pagetrail_permit_wait_seconds",
    "Waits of tasks for permits that were granted.",
    registry=WORKER,
    buckets=_FAST,
)
refused_permits = counter(
    "pagetrail_permits_refused",
    "Permits refused because the wait is too long for a task, by the cause of the wait.",
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
    "Ticks that beat published. While one waits for a worker, it publishes no other.",
    registry=BEAT,
)

_STATUSES = {200, 400, 401, 402, 403, 404, 408, 429, 500, 502, 503, 504}


def count_permit(permit: Permit) -> None:
    """Count a permit, granted or refused, that a task asked for."""
    if permit.granted:
        PERMIT_SECONDS.observe(permit.waited_seconds)
    else:
        refused_permits(permit.reason).inc()


def count_reply(region: str, reply: Reply, seconds: float) -> None:
    """Count a request to PagerDuty that took *seconds*, by its *reply*."""
    request_seconds(region).observe(seconds)
    requests(region, status_word(reply.status, reply.timed_out)).inc()


@cache
def status_word(status: int | None, timed_out: bool) -> str:
    """Return one of a few words for a status, even for an odd one that a server or a proxy made up."""
    if status is None:
        return "timeout" if timed_out else "broken"
    return str(status) if status in _STATUSES else f"{status // 100}xx"


class FailuresOf:
    """Counts the exceptions of its block as failures of *task*, and passes them on."""

    __slots__ = ("_task",)

    def __init__(self, task: str) -> None:
        self._task = task

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and kind is not NoRoom:  # NoRoom is a wait, not a failure
            failures(self._task, kind.__name__).inc()


def serve(settings: Settings, registry: CollectorRegistry) -> None:
    """Serve *registry* from a thread of its own, if a port is set.

    A port that is in use never stops the work: a warning is logged, and the port is tried again.
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
    """Serve the metrics of this process, whose *role* is "worker" or "beat", from now on."""
    # The times of creation would double the number of series, and none of our queries reads them.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves its types out
    registry = BEAT if role == "beat" else WORKER
    ProcessCollector(registry=registry)
    process = Info("pagetrail_process", "Role, node and version of the process.", registry=registry)
    process.info({"role": role, "node": node, "version": version("pagetrail")})
    serve(settings, registry)
