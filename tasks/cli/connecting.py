"""`pagetrail source connect`, `check` and `rotate`: what tries a key, and shows whose it is and what it can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from tasks import api
from tasks.cli import output, parse, portraits
from tasks.cli.keys import key_file_option, read_key
from tasks.probe import Verdict
from workers.runtime import runtime

user_key_option = click.option(
    "--allow-user-key", is_flag=True, help="Accept a user's key; runs are then never complete."
)


@click.command()
@parse.source_argument
@click.option(
    "--region",
    metavar="us|eu",
    default="us",
    show_default=True,
    help="PagerDuty's service region of the account.",
)
@click.option(
    "--since",
    metavar="DATE",
    type=parse.date,
    help="How far back to collect, like 2024-01-31; a year unless set.",
)
@click.option(
    "--every",
    "every_seconds",
    default="24h",
    show_default=True,
    metavar="24h|never",
    type=parse.every,
    help="Time between runs; the first is due one interval from now.",
)
@parse.settings_options
@key_file_option
@user_key_option
@parse.yes_option
@output.json_option
def connect(source: str, key_file: Path | None, yes: bool, as_json: bool, **wishes: Any) -> None:
    """Connect an account: try its key, show whose it is and what it can read, keep it sealed.

    \b
    Examples:
      pagetrail source connect acme/main
      pagetrail source connect acme/eu --region eu --key-file key.txt --yes
      pagetrail source connect acme/audit --resources audit_records,users --every never
    """
    fleet = runtime()
    wished = api.Wishes(**wishes)
    api.check_wishes(fleet, wished)
    api.refuse_taken(fleet, source)
    key = read_key(key_file)

    def agree(verdict: Verdict) -> None:
        waiting.close()
        if not as_json:
            portraits.show_access(verdict)
        account = verdict.identity.subdomain
        output.confirm(
            f"Connect {source} to the account {account} in region {wished.region}?", yes=yes
        )

    with _asking(wished.region) as waiting:
        made = api.connect(fleet, source, key, wished, agree=agree)
    if as_json:
        output.emit(portraits.document(made))
        return
    every = made.every_seconds
    due = f"its first run is due in {output.span(every)}, " if every else ""
    output.say(f"Connected {source}: {due}`pagetrail collect {source} --wait` starts one now.")


@click.command()
@parse.source_argument
@output.json_option
def check(source: str, as_json: bool) -> None:
    """Try a source's key again, and keep what it can read now."""
    fleet = runtime()
    with _asking(api.get(fleet, source).region):
        found, verdict = api.check(fleet, source)
    if as_json:
        output.emit(portraits.document(found))
    else:
        portraits.show_access(verdict)


@click.command()
@parse.source_argument
@key_file_option
@user_key_option
@output.json_option
def rotate(source: str, key_file: Path | None, allow_user_key: bool, as_json: bool) -> None:
    """Replace a source's key by another of the same account.

    The new key is tried first; the old one is kept until it has proved to be of the same account.

    \b
    Example:
      pagetrail source rotate acme/main --key-file new-key.txt
    """
    fleet = runtime()
    region = api.get_connected(fleet, source).region
    key = read_key(key_file)

    def agree(verdict: Verdict) -> None:
        waiting.close()
        if not as_json:
            portraits.show_access(verdict)

    with _asking(region) as waiting:
        rotated = api.rotate(fleet, source, key, allow_user_key=allow_user_key, agree=agree)
    portraits.show_changed(
        rotated, as_json, f"Rotated the key of {source}: you may delete the old one now."
    )


@contextmanager
def _asking(region: str) -> Iterator[ExitStack]:
    """Show that PagerDuty is being asked, until the block ends or what it is given is closed."""
    with ExitStack() as waiting:
        waiting.enter_context(output.waiting(f"Asking PagerDuty in region {region}"))
        yield waiting
