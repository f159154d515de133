"""What a person types -> values; a wrong text is a `UsageFault` that says what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import click
from click.decorators import FC

from tasks.reading.catalog import CATALOG
from workers.errors import UsageFault
from workers.storage.registry import parse_source_id

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_SPAN = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LEAST_SPAN, _MOST_SPAN = 60, 366 * 86_400
_SHARE = re.compile(r"(\d{1,2}(\.\d{1,4})?)%", re.ASCII)
_MOST_SHARE = 90.0
_POSITION = re.compile(r"\d{1,15}(-\d{1,15})?", re.ASCII)
_RUN = re.compile(r"\d{1,8}", re.ASCII)
_MONTHS = re.compile(r"\d{1,4}", re.ASCII)
_FIRST_DAY = datetime(2009, 1, 1, tzinfo=UTC)
"""PagerDuty holds nothing older than itself."""


def date(text: str) -> datetime:
    """Return the UTC time of a day (its midnight) or an RFC 3339 time that is over."""
    if not (_DAY.fullmatch(text) or _RFC3339.fullmatch(text)):
        raise UsageFault(
            f"{text[:40]!r} is no date: write a day like 2026-01-31 or a time like "
            "2026-01-31T12:00:00Z."
        )
    try:
        when = datetime.fromisoformat(text.upper())
        when = (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageFault(f"{text!r} names a day or time that does not exist: correct it.") from None
    if when >= datetime.now(UTC):
        raise UsageFault(f"{text!r} is not in the past: write an earlier date.")
    if when < _FIRST_DAY:
        raise UsageFault(
            f"{text!r} is before PagerDuty began: write {_FIRST_DAY:%Y-%m-%d} or later."
        )
    return when.replace(microsecond=0)


def every(text: str) -> int | None:
    """Return the seconds between runs, None for `never`."""
    if text == "never":
        return None
    found = _SPAN.fullmatch(text)
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]] if found else 0
    if not _LEAST_SPAN <= seconds <= _MOST_SPAN:
        raise UsageFault(
            f"{text[:40]!r} is no interval: write never, or a number with m, h or d from 1m to "
            "366d, like 24h."
        )
    return seconds


def share(text: str) -> float:
    """Return the share that a percentage names."""
    found = _SHARE.fullmatch(text)
    if not found or float(found[1]) > _MOST_SHARE:
        raise UsageFault(
            f"{text[:40]!r} is no reserve: write a percentage from 0% to 90%, like 10%."
        )
    return float(found[1]) / 100


def months(text: str) -> int | None:
    """Return a number of months, None for `never`."""
    if text == "never":
        return None
    if not _MONTHS.fullmatch(text) or int(text) == 0:
        raise UsageFault(
            f"{text[:40]!r} is no retention: write never, or a number of months like 24."
        )
    return int(text)


def resources(text: str) -> tuple[str, ...] | None:
    """Return the resources of a comma-separated list; None for `all` of the catalog."""
    if text == "all":
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        resource(name)
    return names


def resource(text: str) -> str:
    """Return *text* if it names a resource of the catalog."""
    if text not in CATALOG:
        raise UsageFault(f"{text[:40]!r} is no resource: choose from {', '.join(CATALOG)}.")
    return text


def run_id(text: str) -> str:
    """Return the id of a run: eight digits, leading zeros may be left out."""
    if not _RUN.fullmatch(text) or int(text) == 0:
        raise UsageFault(f"{text[:40]!r} is no run: write its number, like 00000001.")
    return f"{int(text):08d}"


def one_or_all(source: str | None, everything: bool) -> None:
    """Raise `UsageFault` unless either one source is named or all are meant."""
    if everything == (source is not None):
        raise UsageFault("Name one source, TENANT/NAME, or give --all.")


def position(text: str) -> str:
    """Return *text* if it can be a position in the stream of events."""
    if not _POSITION.fullmatch(text):
        raise UsageFault(
            f"{text[:40]!r} is no position: write that of an event, like 1764072000000-0."
        )
    return text


def complete_source(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a source id from Redis, while that answers at once."""
    return [each for each in _known_ids() if each.startswith(incomplete)]


def complete_resource(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a resource."""
    return [name for name in CATALOG if name.startswith(incomplete)]


def _known_ids() -> list[str]:
    from redis import RedisError

    from workers.errors import Fault
    from workers.settings.environment import load_settings
    from workers.state.client import impatient
    from workers.state.sources import source_ids

    try:
        settings = load_settings()
        url = settings.redis_url_or_embedded()
        with impatient(url, 0.3) as redis:
            return source_ids(redis, settings.key_prefix)
    except (Fault, RedisError, OSError):
        return []


def _source(metavar: str, *, required: bool) -> Callable[[FC], FC]:
    return click.argument(
        "source",
        metavar=metavar,
        required=required,
        type=parse_source_id,
        shell_complete=complete_source,
    )


source_argument = _source("TENANT/NAME", required=True)
source_or_none = _source("[TENANT/NAME]", required=False)
yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask for confirmation.")
all_option = click.option("--all", "everything", is_flag=True, help="All of them at once.")


def run_option(default: str) -> Callable[[FC], FC]:
    """Give a command the option --run, whose help says what is meant without it."""
    return click.option(
        "--run", metavar="RUN", type=run_id, help=f"Its number; default: {default}."
    )


_SETTINGS = (
    click.option(
        "--resources",
        metavar="a,b|all",
        type=resources,
        help="What to collect, like users,audit_records; all unless set.",
    ),
    click.option(
        "--reserve",
        metavar="10%",
        type=share,
        help="Share of the key's request limit to leave to the customer.",
    ),
    click.option(
        "--retention",
        "retention_months",
        metavar="MONTHS|never",
        type=months,
        help="Age at which what was collected is erased; never unless set.",
    ),
)


def settings_options(command: FC) -> FC:
    """Give a command the options for what can be asked of a new source and changed later."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command
