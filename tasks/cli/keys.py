"""`pagetrail keys`: the public keys that check seals, and a new key for the signer."""

from __future__ import annotations

import click

from tasks.api import seal_keys
from tasks.cli import output
from workers.runtime import runtime
from workers.signing.keys import PublicKeys


@click.group(invoke_without_command=True)
@output.json_option
@click.pass_context
def keys(ctx: click.Context, as_json: bool) -> None:
    """Show the public keys that check seals.

    Give them to auditors in another way than the evidence: a key that lies beside it proves nothing. With --json it
    prints the file that `verify --keys` reads.
    """
    if ctx.invoked_subcommand is None:
        _show(seal_keys.public_keys(runtime()), as_json=as_json)


@keys.command()
@output.json_option
def rotate(as_json: bool) -> None:
    """Give the signer a new key. Seals of the old key stay valid.

    It replaces the file signer.key in the data directory. If PAGETRAIL_SIGNER_URI names the key, name a new one there
    instead, and restart the signer.
    """
    _show(seal_keys.rotate(runtime()), as_json=as_json)


def _show(found: PublicKeys, *, as_json: bool) -> None:
    if as_json:
        click.echo(found.to_json(), nl=False)
        return
    if not found.keys:
        output.say("There are no keys yet: the signer makes one with the first seal.")
    for key in found.keys:
        days = f"{key.created} to {key.last_day or 'today'}"
        output.facts([("key", key.id), ("kind", key.scheme), ("in use", days)])
        click.echo(key.pem)
