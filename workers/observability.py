"""What a process tells: log lines, error reports, and the Celery signals that start both."""

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from celery import signals

from workers import health
from workers.settings import Settings, load_settings

log = logging.getLogger("pagetrail")

IDS = ("source", "run", "page", "resource")
"""What `extra` may add to a log line; everything else that libraries add stays out."""

_SECRETS = re.compile(
    r"""(?ix)
    (?P<before>
        \b token [= :]+ (?: token [= :]+ )?     # Authorization: Token token=KEY
      | \b (?: bearer | basic ) \s+
      | [?&] [\w-]* (?: key | token | secret | signature | password ) [\w-]* =
      | \b [\w-]* (?: api_?key | routing_key | integration_key | password | secret )
        ["']? \s* [=:] \s* ["']?
    )
    (?! (?: token [= :]+ )? \[redacted\] )
    [^\s"'&,;@<>)\]}]+
    """
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_KEY_SHAPE = re.compile(
    r"(?<![\w+-])(?=[\w+-]*\d)(?=[\w+-]*[a-z])(?=[\w+-]*[A-Z])[\w+-]{20}(?![\w+-])"
)
"""A PagerDuty API key: 20 characters; digits and both cases keep names of functions and modules out."""
_REDACTED = "[redacted]"


def redact(text: str) -> str:
    """Return *text* without anything that has the shape of a secret."""
    text = _URL_PASSWORD.sub(rf"\1{_REDACTED}", text)
    return _KEY_SHAPE.sub(_REDACTED, _SECRETS.sub(rf"\g<before>{_REDACTED}", text))


class Lines(logging.Formatter):
    """One line per record for a person: time, level, what happened, then ids; redacted."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        ids = "".join(f" {name}={value}" for name, value in ids_of(record).items())
        return super().formatMessage(record) + ids

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object per record; redacted."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **ids_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: redact(str(value)) for name, value in line.items()})


def ids_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the ids that *record* carries, in their usual order."""
    return {name: vars(record)[name] for name in IDS if name in vars(record)}


def configure_logging(settings: Settings) -> None:
    """Log to stderr as *settings* say. Celery's own loggers speak from WARNING on: 13 % of a message's cost."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_json else Lines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(settings.log_level)


def report_errors(settings: Settings) -> None:
    """Send errors to Sentry if a DSN is set: no traces, no variables, no source lines, no secrets."""
    if settings.sentry_dsn is None:
        return
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber

    names = [*DEFAULT_DENYLIST, "routing_key", "integration_key", "sealed_key", "vault_keys", "key"]
    sentry_sdk.init(
        settings.sentry_dsn.get_secret_value(),
        environment=settings.environment,
        integrations=[CeleryIntegration(monitor_beat_tasks=False)],
        send_default_pii=False,
        # Scrubbing goes by names, and the frames of Celery hold whole messages under none of them.
        include_local_variables=False,
        include_source_context=False,
        event_scrubber=EventScrubber(names, recursive=True),
        before_send=lambda event, _: _redacted(event),
        before_breadcrumb=lambda crumb, _: _redacted(crumb),
    )


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(each) for each in value]
    return value


def watch() -> None:
    """Connect to the signals of Celery that say when a process starts, works and stops."""
    for signal, receiver in (
        (signals.setup_logging, _on_setup_logging),
        (signals.celeryd_init, _on_start),
        (signals.beat_init, _on_start),
        (signals.worker_ready, _on_ready),
        (signals.worker_shutting_down, _on_shutting_down),
    ):
        signal.connect(receiver, weak=False)


def _on_setup_logging(**_: Any) -> None:
    configure_logging(load_settings())


def _on_start(sender: Any, **_: Any) -> None:
    report_errors(load_settings())


def _on_ready(sender: Any, **_: Any) -> None:
    health.set_ready(sender.hostname, ready=True)
    log.info("%s takes work", sender.hostname)


def _on_shutting_down(sender: str, **_: Any) -> None:
    health.set_ready(sender, ready=False)
