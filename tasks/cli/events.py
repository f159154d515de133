"""`pagetrail events`: print the events that a backend can follow."""

from __future__ import annotations

import click

from tasks import api
from tasks.cli import output, parse
from workers.runtime import runtime
from workers.state.events import START, Event


@click.command()
@click.option("--follow", is_flag=True, help="Wait for more events until Ctrl-C.")
@click.option(
    "--since",
    default=START,
    metavar="POSITION",
    type=parse.position,
    help="Print only later events; default: all that are kept.",
)
@output.json_option
def events(follow: bool, since: str, as_json: bool) -> None:
    """Print events, oldest first: opened and sealed runs, refused and old keys, failing sources, erased evidence.

    With --json it prints one event per line. Repeats of an event have the same id.

    \b
    Example:
      pagetrail events --follow --json --since 1764072000000-0
    """
    try:
        for event in api.events(runtime(), since, follow=follow):
            output.emit_line(event) if as_json else click.echo(_line(event))
    except KeyboardInterrupt:  # Ctrl-C is how a person ends --follow
        return


def _line(event: Event) -> str:
    told = {name: value for name, value in event.data.items() if isinstance(value, str | int)}
    words = " ".join(f"{name}={_value(value)}" for name, value in told.items())
    where = f"{event.source} {event.run or ''}".rstrip()
    return output.plain(f"{event.at:%Y-%m-%dT%H:%M:%SZ} {event.kind} {where} {words}")


def _value(value: str | int) -> str:
    """Return *value* as JSON writes it, without quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)
