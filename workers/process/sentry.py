"""Reports errors that a person should see to Sentry, with ids and without secrets, and that the tick runs.

Only records that are logged as errors are reported, so tasks need no code for it. The SDK's integration for Celery is
not used: it wraps every task and message in scopes and spans of its own, and a task then costs 30 to 55 % more
(docs/watching.md).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from traceback import walk_tb
from typing import Any

from redis import Redis

from workers.process.logs import ids_of
from workers.redaction import redacted
from workers.settings.environment import Settings
from workers.state.faults import is_outage

OURS = ("workers", "tasks")
REPEAT_SECONDS = 60.0
"""A process reports a cause only once in this time, because thousands of pages can fail for the same cause."""
CHECK_IN_SECONDS = 60
_MARGIN_MINUTES = 3
"""Check-ins may be late by this before Sentry calls the tick missing."""
_CAUSES = 1000
_NAMES = ("routing_key", "integration_key", "sealed_key", "vault_keys", "key")


def start(settings: Settings, node: str) -> None:
    """Report the errors that this process logs from now on, if a DSN is set; never waits for Sentry.

    When the process ends, the SDK takes up to two seconds to send the rest.
    """
    if settings.sentry_dsn is None:
        return
    # Imported only here and below: the SDK is slow to load, and most processes don't need it.
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.logging import EventHandler
    from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber

    sentry_sdk.init(
        settings.sentry_dsn.get_secret_value(),
        environment=settings.environment,
        release=f"pagetrail@{version('pagetrail')}",
        server_name=node,
        # No integration watches Redis, HTTP, threads or tasks: that would cost time on every page.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[AtexitIntegration(callback=lambda *_: None)],
        max_breadcrumbs=0,
        send_default_pii=False,
        # The scrubber looks for names of variables, but Celery's frames hold whole messages under other names.
        include_local_variables=False,
        include_source_context=False,
        event_scrubber=EventScrubber([*DEFAULT_DENYLIST, *_NAMES], recursive=True),
        before_send=_finished,  # type: ignore[arg-type]  # events are dictionaries
    )
    handler = EventHandler(logging.ERROR)
    handler.addFilter(WorthReporting())
    logging.getLogger().addHandler(handler)


def check_in(settings: Settings, redis: Redis) -> None:
    """Tell Sentry that the tick works, once a minute for the whole fleet."""
    if settings.sentry_dsn is None:
        return
    key = f"{settings.key_prefix}:checked-in"
    if redis.set(key, b"1", nx=True, ex=CHECK_IN_SECONDS):
        from sentry_sdk.crons import capture_checkin

        capture_checkin(
            monitor_slug=re.sub("[^a-z0-9_-]", "-", f"{settings.key_prefix}-tick".lower()),
            status="ok",
            monitor_config={
                "schedule": {"type": "interval", "value": 1, "unit": "minute"},
                "checkin_margin": _MARGIN_MINUTES,
            },
        )


class WorthReporting(logging.Filter):
    """Passes only records that a person should see: each cause once a minute, and never that Redis is away.

    When Redis is away, the check-ins stop, and Sentry notices that once. Otherwise every task would report it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next: dict[tuple[str, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = _error_of(record)
        if is_outage(error) or not (error or _ours(record.name)):
            return False  # without an exception, libraries only log about their connections
        if len(self._next) > _CAUSES:
            self._next.clear()
        cause, now = cause_of(record), self._clock()
        if now < self._next.get(cause, now):
            return False
        self._next[cause] = now + REPEAT_SECONDS
        return True


def cause_of(record: logging.LogRecord) -> tuple[str, ...]:
    """Return the key that two records of the same problem share: the exception's type, and the place in our code."""
    error = _error_of(record)
    if error is None:
        return record.name, str(record.msg)
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    sites = [f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}" for frame in frames]
    return type(error).__qualname__, next((site for site in reversed(sites) if _ours(site)), "")


def _ours(name: str) -> bool:
    return name.partition(".")[0] in (*OURS, "pagetrail")


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _finished(event: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
    """Return *event* redacted. An event from a log record also gets ids as tags, and is grouped by cause."""
    if record := hint.get("log_record"):
        tags = ids_of(record)
        if source := tags.get("source"):
            tags["tenant"] = source.partition("/")[0]
        del event["extra"]
        request = vars(record).get("request")
        contexts = {"PagerDuty request": request} if request else {}
        # Replaces the SDK's own contexts, which belong to a thread and not to a task.
        event |= {"tags": tags, "contexts": contexts, "fingerprint": list(cause_of(record))}
    found: dict[str, Any] = redacted(event)
    return found
