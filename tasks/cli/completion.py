"""`pagetrail completion`: print a script. With it, a shell completes commands, options and sources."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from tasks.cli import output

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@output.json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the completion script of a shell.

    \b
    bash: echo 'eval "$(pagetrail completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(pagetrail completion zsh)"' >> ~/.zshrc
    fish: pagetrail completion fish > ~/.config/fish/completions/pagetrail.fish
    """
    made = _SHELLS[shell](ctx.find_root().command, {}, "pagetrail", "_PAGETRAIL_COMPLETE")
    script = made.source()
    if as_json:
        output.emit({"shell": shell, "script": script})
    else:
        click.echo(script)
