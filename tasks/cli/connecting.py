"""`pagetrail source connect`, `check` and `rotate`: try a key, and show its account and the resources it can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from tasks import api
from tasks.accounts.examining import KeyReport
from tasks.cli import output, parse, portraits
from tasks.cli.api_key import key_file_option, read_key
from tasks.cli.documents.sources import source_details
from tasks.cli.person import typist
from workers.runtime import runtime

user_key_option = click.option(
    "--allow-user-key", is_flag=True, help="Accept a user's key; its runs are never complete."
)

renamed_option = click.option(
    "--renamed",
    is_flag=True,
    help="Confirm that the account has a new subdomain; its records are compared first.",
)


@click.command()
@parse.source_argument
@click.option(
    "--region",
    metavar="us|eu",
    default="us",
    show_default=True,
    help="The account's PagerDuty service region.",
)
@click.option(
    "--since",
    metavar="DATE",
    type=parse.date,
    help="Oldest day to collect, like 2024-01-31; default: a year ago.",
)
@click.option(
    "--every",
    "every_seconds",
    default="24h",
    show_default=True,
    metavar="24h|never",
    type=parse.every,
    help="Time between runs; the first is due after one interval.",
)
@parse.settings_options
@key_file_option
@user_key_option
@renamed_option
@parse.yes_option
@output.json_option
def connect(
    source: str, key_file: Path | None, renamed: bool, yes: bool, as_json: bool, **wishes: Any
) -> None:
    """Connect an account: try its key, show which account and resources it opens, and keep it sealed.

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

    def agree(verdict: KeyReport) -> None:
        waiting.close()
        if not as_json:
            portraits.show_access(verdict)
        account = verdict.identity.subdomain
        output.confirm(
            f"Connect {source} to the account {account} in region {wished.region}?", yes=yes
        )

    with _asking(wished.region) as waiting:
        by = _confirmed(renamed)
        made = api.connect(fleet, source, key, wished, agree=agree, renamed_by=by)
    if as_json:
        output.emit(source_details(made))
        return
    every = made.every_seconds
    due = f"its first run is due in {output.span(every)}, " if every else ""
    output.say(f"Connected {source}: {due}`pagetrail collect {source} --wait` starts one now.")


@click.command()
@parse.source_argument
@renamed_option
@output.json_option
def check(source: str, renamed: bool, as_json: bool) -> None:
    """Try a source's key again, and save which resources it can read now.

    \b
    Example, after the account got another subdomain:
      pagetrail source check acme/main --renamed
    """
    fleet = runtime()
    before = api.get(fleet, source)
    with _asking(before.region):
        found, verdict = api.check(fleet, source, renamed_by=_confirmed(renamed))
    if as_json:
        output.emit(source_details(found))
        return
    portraits.show_access(verdict)
    for each in found.renamings[len(before.renamings) :]:
        output.say(f"The account {each.old} is now called {each.new}: {each.because}.")


@click.command()
@parse.source_argument
@key_file_option
@user_key_option
@renamed_option
@output.json_option
def rotate(
    source: str, key_file: Path | None, allow_user_key: bool, renamed: bool, as_json: bool
) -> None:
    """Replace a source's key with another key of the same account.

    The new key is tried first. The old key stays until the new one is proved to belong to the same account.

    \b
    Example:
      pagetrail source rotate acme/main --key-file new-key.txt
    """
    fleet = runtime()
    region = api.get_connected(fleet, source).region
    key = read_key(key_file)

    def agree(verdict: KeyReport) -> None:
        waiting.close()
        if not as_json:
            portraits.show_access(verdict)

    with _asking(region) as waiting:
        rotated = api.rotate(
            fleet,
            source,
            key,
            allow_user_key=allow_user_key,
            agree=agree,
            renamed_by=_confirmed(renamed),
        )
    portraits.show_changed(
        rotated, as_json, f"Rotated the key of {source}: you can delete the old one now."
    )


def _confirmed(renamed: bool) -> str | None:
    return typist() if renamed else None


@contextmanager
def _asking(region: str) -> Iterator[ExitStack]:
    """Show that PagerDuty is being asked, until the block ends or the yielded stack is closed."""
    with ExitStack() as waiting:
        waiting.enter_context(output.waiting(f"Asking PagerDuty in region {region}"))
        yield waiting
