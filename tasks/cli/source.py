"""`pagetrail source`: connect PagerDuty accounts and manage their keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from click.core import ParameterSource

from tasks import api
from tasks.cli import connecting, output, parse, portraits
from tasks.cli.documents.sources import listed_source, shown_source
from tasks.cli.person import typist
from tasks.watching.concerns import renamed_to
from workers.errors import Fault, UsageFault
from workers.runtime import runtime


@click.group()
def source() -> None:
    """Connect PagerDuty accounts and manage their keys."""


for _command in (connecting.connect, connecting.check, connecting.rotate):
    source.add_command(_command)


@source.command("list")
@output.json_option
def list_(as_json: bool) -> None:
    """List the sources, and warn about keys that should be rotated."""
    fleet = runtime()
    most, rows = fleet.settings.key_max_age_days, api.sources(fleet)
    ages = {each.id: (datetime.now(UTC) - each.keyed_at).days for each in rows}
    due = [each.id for each in rows if each.sealed_key and ages[each.id] >= most]
    if as_json:
        output.emit(
            {
                "sources": [
                    listed_source(each, ages[each.id], rotation_due=each.id in due) for each in rows
                ]
            }
        )
    elif rows:
        columns = ("SOURCE", "ACCOUNT", "REGION", "STATE", "KEY", "#KEY AGE", "EVERY", "SINCE")
        output.table(columns, (portraits.cells(each, ages[each.id]) for each in rows))
    else:
        output.say(
            "No source is connected yet: `pagetrail source connect TENANT/NAME` connects one."
        )
    for each in due:
        output.say(
            f"The key of {each} is {ages[each]} days old: `pagetrail source rotate {each}` "
            "replaces it."
        )


@source.command()
@parse.source_argument
@output.json_option
def show(source: str, as_json: bool) -> None:
    """Show the settings and state of a source. This sends nothing."""
    fleet = runtime()
    found = api.get(fleet, source)
    [sight] = api.status(fleet, [found]).sights
    if as_json:
        output.emit(shown_source(found, renamed_to(found, sight.last)))
        return
    output.facts(portraits.facts(sight))
    output.table(("RESOURCE", "READABLE", "REASON"), portraits.access_rows(found))


@source.command("set")
@parse.source_argument
@click.option(
    "--every", "every_seconds", metavar="24h|never", type=parse.every, help="Time between runs."
)
@parse.settings_options
@output.json_option
def set_(source: str, as_json: bool, **options: Any) -> None:
    """Change settings of a source. Settings that aren't given stay.

    \b
    Examples:
      pagetrail source set acme/main --every 6h
      pagetrail source set acme/main --resources all --retention 24
    """
    ctx = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if not given:
        raise UsageFault("Say what to change: --every, --resources, --reserve or --retention.")
    changed = api.change(runtime(), source, **given)
    portraits.show_changed(
        changed, as_json, f"Changed {source}: the change applies from its next run."
    )


@source.command()
@parse.source_argument
@output.json_option
def hold(source: str, as_json: bool) -> None:
    """Put a source under legal hold: none of its evidence is erased."""
    held = api.hold(runtime(), source)
    portraits.show_changed(
        held, as_json, f"Held {source}: `pagetrail source release {source}` ends the hold."
    )


@source.command()
@parse.source_argument
@output.json_option
def release(source: str, as_json: bool) -> None:
    """End the legal hold of a source. Its retention applies again."""
    released, held_since = api.release(runtime(), source)
    held = f"Released {source} from legal hold."
    portraits.show_changed(
        released, as_json, held if held_since else f"{source} was not under legal hold."
    )


@source.command()
@parse.source_or_none
@parse.all_option
@output.json_option
def pause(source: str | None, everything: bool, as_json: bool) -> None:
    """Send nothing for a source until it is resumed. Its open run waits.

    With --all the whole fleet sends nothing, for any source.

    \b
    Examples:
      pagetrail source pause acme/main
      pagetrail source pause --all
    """
    parse.one_or_all(source, everything)
    if source is None:
        api.pause_all(runtime())
        sentence = "Paused all requests: `pagetrail source resume --all` resumes them."
        _switched(as_json, sentence, paused=True)
        return
    paused = api.pause(runtime(), source)
    portraits.show_changed(
        paused, as_json, f"Paused {source}: `pagetrail source resume {source}` resumes it."
    )


@source.command()
@parse.source_or_none
@parse.all_option
@output.json_option
def resume(source: str | None, everything: bool, as_json: bool) -> None:
    """Resume a paused or suspended source.

    With --all it ends `pause --all`. A source that was also paused by itself stays paused.
    """
    parse.one_or_all(source, everything)
    if source is None:
        api.resume_all(runtime())
        sentence = "Resumed all requests: runs that became due meanwhile start now."
        _switched(as_json, sentence, paused=False)
        return
    resumed = api.resume(runtime(), source)
    portraits.show_changed(
        resumed, as_json, f"Resumed {source}: an open run continues, and the next one is scheduled."
    )


@source.command()
@parse.source_argument
@parse.yes_option
@output.json_option
def disconnect(source: str, yes: bool, as_json: bool) -> None:
    """Destroy a source's key and schedule. Its evidence stays."""
    fleet = runtime()
    api.get(fleet, source)
    output.confirm(f"Destroy the key of {source} and end its collection?", yes=yes)
    gone = api.disconnect(fleet, source)
    portraits.show_changed(
        gone, as_json, f"Disconnected {source}: its key is destroyed, and its evidence stays."
    )


@source.command()
@parse.source_argument
@parse.yes_option
@output.json_option
def purge(source: str, yes: bool, as_json: bool) -> None:
    """Erase all evidence of a paused or disconnected source. A record of the erasure stays.

    It asks for the source's name unless --yes is given. After an interruption, repeat the command to finish.
    """
    fleet = runtime()
    api.check_purge(fleet, source)
    output.confirm_name(f"This erases all evidence of {source} for good.", source, yes=yes)
    try:
        with output.waiting(f"Erasing the evidence of {source}"):
            record = api.purge(fleet, source, typist())
    except KeyboardInterrupt:
        raise Fault(
            f"Interrupted: evidence of {source} may be erased in part; `pagetrail source purge "
            f"{source}` erases the rest."
        ) from None
    if as_json:
        output.emit({"source": source, "purged": record})
    elif record is None:
        output.say(f"{source} has no evidence, so nothing was erased.")
    else:
        erased = f"{output.counted(record.objects, 'object')}, {output.size(record.bytes)}"
        output.say(f"Erased the runs of {source} up to {record.through}: {erased}.")


def _switched(as_json: bool, sentence: str, *, paused: bool) -> None:
    if as_json:
        output.emit({"paused": paused})
    else:
        output.say(sentence)
