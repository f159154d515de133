"""`pagetrail vault`: manage the keys that seal the API keys."""

from __future__ import annotations

import click

from tasks import api
from tasks.cli import output
from workers.runtime import runtime


@click.group()
def vault() -> None:
    """Manage the keys that seal the API keys."""


@vault.command()
@output.json_option
def rotate(as_json: bool) -> None:
    """Seal every API key again with the first vault key. It is safe to repeat.

    \b
    To change the vault key without a pause:
      1. put a new key before the old one in PAGETRAIL_VAULT_KEYS, and restart the fleet
      2. run this command
      3. remove the old key
    """
    fleet = runtime()
    with output.waiting("Sealing"):
        result = api.reseal_all(fleet)
    for why in result.failed.values():
        output.say(why)
    if as_json:
        output.emit(result)
    elif not result.failed:
        output.say(
            f"Sealed {output.counted(result.resealed, 'key')} again, and {result.already} needed no change."
        )
    if result.failed:
        output.end(1)
