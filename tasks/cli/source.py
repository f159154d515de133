"""`pagetrail source`: connect PagerDuty accounts and look after their keys."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tasks import api
from tasks.cli import output, parse, portraits
from tasks.cli.keys import key_file_option, read_key
from tasks.probe import Verdict
from workers.errors import Fault, UsageFault
from workers.runtime import runtime
from workers.sources import Source

yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask for confirmation.")
user_key_option = click.option(
    "--allow-user-key", is_flag=True, help="Accept a user's key; runs are then never complete."
)


resources_option = click.option(
    "--resources",
    metavar="a,b|all",
    type=parse.resources,
    help="What to collect, like users,audit_records; all unless set.",
)
reserve_option = click.option(
    "--reserve",
    metavar="10%",
    type=parse.share,
    help="Share of the key's request limit to leave to the customer.",
)
retention_option = click.option(
    "--retention",
    metavar="MONTHS|never",
    type=parse.months,
    help="Age at which what was collected is erased; never unless set.",
)


@click.group()
def source() -> None:
    """Connect PagerDuty accounts and look after their keys."""


@source.command()
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
    default="24h",
    show_default=True,
    metavar="24h|never",
    type=parse.every,
    help="Time between runs; the first is due one interval from now.",
)
@resources_option
@reserve_option
@retention_option
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
    retention: int | None,
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
    wishes = api.Wishes(
        region=region,
        since=since,
        every_seconds=every,
        resources=resources,
        reserve=reserve,
        retention_months=retention,
        allow_user_key=allow_user_key,
    )
    api.check_wishes(fleet, wishes)
    api.refuse_taken(fleet, source)
    key = read_key(key_file)

    def agree(verdict: Verdict) -> None:
        waiting.close()
        if not as_json:
            portraits.show_access(verdict)
        account = verdict.identity.subdomain
        output.confirm(f"Connect {source} to the account {account} in region {region}?", yes=yes)

    with _asking(region) as waiting:
        made = api.connect(fleet, source, key, wishes, agree=agree)
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
    most, rows = fleet.settings.key_max_age_days, api.sources(fleet)
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
    found = api.get(fleet, source)
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
    with _asking(api.get(fleet, source).region):
        found, verdict = api.check(fleet, source)
    if as_json:
        output.emit(portraits.document(found))
    else:
        portraits.show_access(verdict)


@source.command("set")
@parse.source_argument
@click.option("--every", metavar="24h|never", type=parse.every, help="Time between runs.")
@resources_option
@reserve_option
@retention_option
@output.json_option
def set_(source: str, as_json: bool, **options: Any) -> None:
    """Change settings of a source; those that aren't given stay.

    \b
    Examples:
      pagetrail source set acme/main --every 6h
      pagetrail source set acme/main --resources all --retention 24
    """
    ctx = click.get_current_context()
    names = {"every": "every_seconds", "retention": "retention_months"}
    given = {
        names.get(name, name): value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if not given:
        raise UsageFault("Say what to change: --every, --resources, --reserve or --retention.")
    changed = api.change(runtime(), source, **given)
    _changed(changed, as_json, f"Changed {source}: that holds from its next run on.")


@source.command()
@parse.source_argument
@output.json_option
def hold(source: str, as_json: bool) -> None:
    """Put a source under legal hold: nothing of its evidence is erased."""
    held = api.hold(runtime(), source)
    _changed(held, as_json, f"Held {source}: `pagetrail source release {source}` ends the hold.")


@source.command()
@parse.source_argument
@output.json_option
def release(source: str, as_json: bool) -> None:
    """End the legal hold of a source; its retention goes on."""
    released, held_since = api.release(runtime(), source)
    held = f"Released {source} from legal hold."
    _changed(released, as_json, held if held_since else f"{source} was not under legal hold.")


@source.command()
@parse.source_or_none
@parse.all_option
@output.json_option
def pause(source: str | None, everything: bool, as_json: bool) -> None:
    """Send nothing for a source until it is resumed; its open run waits.

    With --all no process of the fleet sends a request, whatever its source.

    \b
    Examples:
      pagetrail source pause acme/main
      pagetrail source pause --all
    """
    parse.one_or_all(source, everything)
    if source is None:
        api.pause_all(runtime())
        sentence = "Paused all requests: `pagetrail source resume --all` lets them go on."
        _switched(as_json, sentence, paused=True)
        return
    paused = api.pause(runtime(), source)
    _changed(paused, as_json, f"Paused {source}: `pagetrail source resume {source}` goes on.")


@source.command()
@parse.source_or_none
@parse.all_option
@output.json_option
def resume(source: str | None, everything: bool, as_json: bool) -> None:
    """Let a paused or suspended source go on.

    With --all requests are sent again after `pause --all`; a source paused by itself stays so.
    """
    parse.one_or_all(source, everything)
    if source is None:
        api.resume_all(runtime())
        sentence = "Requests go on; what was due meanwhile is done now."
        _switched(as_json, sentence, paused=False)
        return
    resumed = api.resume(runtime(), source)
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
    region = api.get_connected(fleet, source).region
    key = read_key(key_file)

    def agree(verdict: Verdict) -> None:
        waiting.close()
        if not as_json:
            portraits.show_access(verdict)

    with _asking(region) as waiting:
        rotated = api.rotate(fleet, source, key, allow_user_key=allow_user_key, agree=agree)
    _changed(rotated, as_json, f"Rotated the key of {source}: you may delete the old one now.")


@source.command()
@parse.source_argument
@yes_option
@output.json_option
def disconnect(source: str, yes: bool, as_json: bool) -> None:
    """Destroy a source's key and schedule; its evidence stays."""
    fleet = runtime()
    api.get(fleet, source)
    output.confirm(f"Destroy the key of {source} and end its collection?", yes=yes)
    gone = api.disconnect(fleet, source)
    _changed(gone, as_json, f"Disconnected {source}: its key is destroyed, its evidence stays.")


@source.command()
@parse.source_argument
@yes_option
@output.json_option
def purge(source: str, yes: bool, as_json: bool) -> None:
    """Erase all evidence of a paused or disconnected source; a record of that stays.

    It asks for the source's name unless --yes is given. Interrupted, it is safe to repeat, and goes on.
    """
    fleet = runtime()
    api.check_purge(fleet, source)
    output.confirm_name(f"This erases all evidence of {source} for good.", source, yes=yes)
    try:
        with output.waiting(f"Erasing the evidence of {source}"):
            record = api.purge(fleet, source, _who())
    except KeyboardInterrupt:
        raise Fault(
            f"Interrupted: evidence of {source} may be erased in part; `pagetrail source purge "
            f"{source}` goes on."
        ) from None
    if as_json:
        output.emit({"source": source, "purged": record})
    elif record is None:
        output.say(f"{source} has no evidence: there was nothing to erase.")
    else:
        erased = f"{output.counted(record.objects, 'object')}, {output.size(record.bytes)}"
        output.say(f"Erased the runs of {source} up to {record.through}: {erased}.")


def _who() -> str:
    """Return who types: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user needs no name
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


@contextmanager
def _asking(region: str) -> Iterator[ExitStack]:
    """Show that PagerDuty is being asked, until the block ends or what it is given is closed."""
    with ExitStack() as waiting:
        waiting.enter_context(output.waiting(f"Asking PagerDuty in region {region}"))
        yield waiting


def _changed(source: Source, as_json: bool, sentence: str) -> None:
    if as_json:
        output.emit(portraits.document(source))
    else:
        output.say(sentence)


def _switched(as_json: bool, sentence: str, *, paused: bool) -> None:
    if as_json:
        output.emit({"paused": paused})
    else:
        output.say(sentence)
