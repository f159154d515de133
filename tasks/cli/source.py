"""`pagetrail source`: connect PagerDuty accounts and look after their keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tasks.cli import connections, output, parse, portraits
from tasks.cli.connections import Wishes
from tasks.cli.keys import key_file_option, read_key
from tasks.probe import Verdict, probe
from workers.runtime import Runtime, runtime
from workers.sources import Source

yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask for confirmation.")
user_key_option = click.option(
    "--allow-user-key", is_flag=True, help="Accept a user's key; runs are then never complete."
)


@click.group()
def source() -> None:
    """Connect PagerDuty accounts and look after their keys."""


@source.command()
@parse.source_argument
@click.option("--region", default="us", show_default=True, help="Where the account lives.")
@click.option(
    "--since", metavar="DATE", type=parse.Parsed("date", parse.date), help="Default: 365 days ago."
)
@click.option(
    "--every",
    default="24h",
    show_default=True,
    metavar="24h|never",
    type=parse.Parsed("interval", parse.every),
    help="Time between runs; the first is due one interval from now.",
)
@click.option(
    "--resources",
    metavar="a,b|PROFILE",
    type=parse.Parsed("resources", parse.resources),
    help="What to collect; default: all.",
)
@click.option(
    "--reserve",
    metavar="10%",
    type=parse.Parsed("share", parse.share),
    help="Share of the key's request limit to leave to the customer.",
)
@key_file_option
@user_key_option
@yes_option
@output.json_option
def connect(
    source: str,
    region: str,
    since: datetime | None,
    every: int | None,
    resources: tuple[str, ...] | None,
    reserve: float | None,
    key_file: Path | None,
    allow_user_key: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Connect an account: try its key, show whose it is and what it can read, keep it sealed.

    \b
    Examples:
      pagetrail source connect acme/main
      pagetrail source connect acme/eu --region eu --key-file key.txt --yes
      pagetrail source connect acme/audit --resources audit_records,users --every never
    """
    fleet = runtime()
    parse.region(region, fleet.settings.regions)
    connections.refuse_taken(fleet, source)
    key = read_key(key_file)
    share = fleet.settings.reserve if reserve is None else reserve
    verdict = _probe(fleet, region, key, share, resources)
    connections.refuse_user_key(verdict.identity, allowed=allow_user_key)
    if not as_json:
        portraits.show_access(verdict)
    who = verdict.identity
    output.confirm(
        f"Connect {source} to the account {who.subdomain} in region {who.region}?", yes=yes
    )
    wishes = Wishes(since, every, resources, reserve, allow_user_key)
    made = connections.connect(fleet, source, key, verdict, wishes)
    if as_json:
        output.emit(portraits.document(made))
        return
    due = f"its first run is due in {output.span(every)}, " if every else ""
    output.say(f"Connected {source}: {due}`pagetrail collect {source} --wait` starts one now.")


@source.command("list")
@output.json_option
def list_(as_json: bool) -> None:
    """List the sources, and warn where a key should be rotated."""
    fleet = runtime()
    most, rows = fleet.settings.key_max_age_days, fleet.sources.list()
    ages = {each.id: (datetime.now(UTC) - each.keyed_at).days for each in rows}
    due = [each.id for each in rows if each.sealed_key and ages[each.id] >= most]
    if as_json:
        output.emit(
            {"sources": [portraits.row(each, ages[each.id], each.id in due) for each in rows]}
        )
    elif rows:
        columns = ("SOURCE", "ACCOUNT", "REGION", "STATE", "KEY", "#KEY AGE", "EVERY", "SINCE")
        output.table(columns, (portraits.cells(each, ages[each.id]) for each in rows))
    else:
        output.say("There is no source yet: `pagetrail source connect TENANT/NAME` makes one.")
    for each in due:
        output.say(
            f"The key of {each} is {ages[each]} days old: `pagetrail source rotate {each}` takes a "
            "new one."
        )


@source.command()
@parse.source_argument
@output.json_option
def show(source: str, as_json: bool) -> None:
    """Show what is known of a source; sends nothing."""
    fleet = runtime()
    found = fleet.sources.get(source)
    if as_json:
        output.emit(portraits.document(found))
        return
    output.facts(portraits.facts(fleet, found))
    output.table(("RESOURCE", "READABLE", "REASON"), portraits.access_rows(found))


@source.command()
@parse.source_argument
@output.json_option
def check(source: str, as_json: bool) -> None:
    """Try a source's key again, and keep what it can read now."""
    fleet = runtime()
    found = fleet.sources.get(source)
    key = fleet.sources.key_of(found)
    verdict = _probe(fleet, found.region, key, found.reserve, found.resources)
    found = connections.record_access(fleet, found, verdict)
    if as_json:
        output.emit(portraits.document(found))
    else:
        portraits.show_access(verdict)


@source.command()
@parse.source_argument
@output.json_option
def pause(source: str, as_json: bool) -> None:
    """Send nothing for a source until it is resumed; its open run waits."""
    fleet = runtime()
    paused = connections.pause(fleet, fleet.sources.get(source))
    _changed(paused, as_json, f"Paused {source}: `pagetrail source resume {source}` goes on.")


@source.command()
@parse.source_argument
@output.json_option
def resume(source: str, as_json: bool) -> None:
    """Let a paused or suspended source go on."""
    fleet = runtime()
    resumed = connections.resume(fleet, fleet.sources.get(source))
    _changed(resumed, as_json, f"Resumed {source}: an open run goes on, the next is scheduled.")


@source.command()
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
    found = fleet.sources.get(source)
    connections.refuse_disconnected(found)
    key = read_key(key_file)
    verdict = _probe(fleet, found.region, key, found.reserve, found.resources)
    connections.refuse_user_key(verdict.identity, allowed=allow_user_key or found.allow_user_key)
    rotated = connections.rotate(fleet, found, key, verdict)
    if not as_json:
        portraits.show_access(verdict)
    _changed(rotated, as_json, f"Rotated the key of {source}: you may delete the old one now.")


@source.command()
@parse.source_argument
@yes_option
@output.json_option
def disconnect(source: str, yes: bool, as_json: bool) -> None:
    """Destroy a source's key and schedule; its evidence stays."""
    fleet = runtime()
    found = fleet.sources.get(source)
    output.confirm(f"Destroy the key of {source} and end its collection?", yes=yes)
    gone = connections.disconnect(fleet, found)
    _changed(gone, as_json, f"Disconnected {source}: its key is destroyed, its evidence stays.")


def _probe(
    fleet: Runtime, region: str, key: str, share: float, resources: tuple[str, ...] | None
) -> Verdict:
    with output.waiting(f"Asking PagerDuty in region {region}"):
        return probe(fleet, region, key, reserve=share, resources=resources)


def _changed(source: Source, as_json: bool, sentence: str) -> None:
    if as_json:
        output.emit(portraits.document(source))
    else:
        output.say(sentence)
