"""Turn typed text into values. If a text is wrong, its parser raises a `UsageFault` that says how to write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import click
from click.decorators import FC

from tasks.api.wishes import check_resources
from workers.errors import UsageFault
from workers.storage.registry import parse_source_id

_TIME = r"[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d({_TIME})?", re.ASCII)
_SPAN = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LEAST_SPAN, _MOST_SPAN = 60, 366 * 86_400
_SHARE = re.compile(r"(\d{1,2}(\.\d{1,4})?)%", re.ASCII)
_MOST_SHARE = 90.0
_POSITION = re.compile(r"\d{1,15}(-\d{1,15})?", re.ASCII)
_RUN = re.compile(r"\d{1,8}", re.ASCII)
_MONTHS = re.compile(r"\d{1,4}", re.ASCII)
_FIRST_DAY = datetime(2009, 1, 1, tzinfo=UTC)
"""PagerDuty began in this year, so it has nothing older."""


def date(text: str) -> datetime:
    """Return the UTC time of a past day (its midnight) or of a past RFC 3339 time."""
    if not _DATE.fullmatch(text):
        raise UsageFault(
            f"{text[:40]!r} is not a date: write a day like 2026-01-31 or a time like "
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
            f"{text[:40]!r} is not an interval: write never, or a number with m, h or d from 1m "
            "to 366d, like 24h."
        )
    return seconds


def share(text: str) -> float:
    """Return a percentage as a share: 0.1 for `10%`."""
    found = _SHARE.fullmatch(text)
    if not found or float(found[1]) > _MOST_SHARE:
        raise UsageFault(
            f"{text[:40]!r} is not a reserve: write a percentage from 0% to 90%, like 10%."
        )
    return float(found[1]) / 100


def months(text: str) -> int | None:
    """Return a number of months, None for `never`."""
    if text == "never":
        return None
    if not _MONTHS.fullmatch(text) or int(text) == 0:
        raise UsageFault(
            f"{text[:40]!r} is not a retention: write never, or a number of months like 24."
        )
    return int(text)


def resources(text: str) -> tuple[str, ...] | None:
    """Return the resources in a comma-separated list, None for `all`."""
    if text == "all":
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    check_resources(names)
    return names


def run_id(text: str) -> str:
    """Return the eight-digit id of a run. Its leading zeros may be left out."""
    if not _RUN.fullmatch(text) or int(text) == 0:
        raise UsageFault(f"{text[:40]!r} is not a run: write its number, like 00000001.")
    return f"{int(text):08d}"


def one_or_all(source: str | None, everything: bool) -> None:
    """Raise `UsageFault` unless exactly one of a source and --all is given."""
    if everything == (source is not None):
        raise UsageFault("Name one source, TENANT/NAME, or give --all.")


def position(text: str) -> str:
    """Return *text* if it has the form of an event's position."""
    if not _POSITION.fullmatch(text):
        raise UsageFault(
            f"{text[:40]!r} is not a position: copy one from an event, like 1764072000000-0."
        )
    return text


def complete_source(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the sources that begin with *incomplete*; an empty list if Redis does not answer at once."""
    return [each for each in _known_ids() if each.startswith(incomplete)]


def _known_ids() -> list[str]:
    from workers.errors import Fault
    from workers.settings.environment import load_settings
    from workers.state.client import impatient
    from workers.state.sources import source_ids

    try:
        settings = load_settings()
        url = settings.redis_url_or_embedded()
        with impatient(url, 0.3) as redis:
            return source_ids(redis, settings.key_prefix)
    except (Fault, OSError):
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
    """Give a command the option --run. Its help shows *default*."""
    return click.option(
        "--run", metavar="RUN", type=run_id, help=f"Its number; default: {default}."
    )


_SETTINGS = (
    click.option(
        "--resources",
        metavar="a,b|all",
        type=resources,
        help="Resources to collect, like users,audit_records; all unless set.",
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
        help="Age in months at which evidence is erased; never unless set.",
    ),
)


def settings_options(command: FC) -> FC:
    """Give a command the options for settings that a new source gets and that can be changed later."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command
