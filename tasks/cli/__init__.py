"""The command `pagetrail`: run a subcommand, and turn every failure into one sentence."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from tasks.cli.interrupts import unswallowed
from workers.errors import Fault

_COMMANDS = {
    "demo": "Run everything on this machine, against a simulated PagerDuty.",
    "up": "Run the fleet on this machine: Redis, workers, beat and Flower.",
    "source": "Connect PagerDuty accounts and manage their keys.",
    "collect": "Start a run now, or join the open one.",
    "run": "List, show or cancel the runs of a source.",
    "artifact": "List what a run collected, or export its records.",
    "verify": "Recompute every digest and count of a source from storage.",
    "recover": "Restore sources and open runs from storage.",
    "vault": "Manage the keys that seal the API keys.",
    "keys": "Show the public keys that check seals, or replace the key.",
    "status": "Show the fleet and every source.",
    "events": "Print events: runs, keys, erased evidence.",
    "schema": "Print the JSON Schemas of the stored documents.",
    "completion": "Print the completion script of a shell.",
}
"""Each command and its help line. The module and the function of a command have its name."""
_READING = ("run", "artifact", "verify", "schema", "completion")
"""The commands that work where only the packages for reading evidence are installed, as in pagetrail-verify.pyz."""

_GUESS = re.compile(r"\.\s+\(?Did you mean ([^?]*)\?\)?")
"""Click's suggestion at the end of a message, with or without brackets."""

READS_ONLY = "This part of Pagetrail reads evidence in a directory: install all of Pagetrail for anything else."
INTERRUPTED = "Interrupted: the command did not finish, and it left nothing half done."


class _Commands(click.Group):
    """The root command. It knows every name and help line, and imports the module of a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = _COMMANDS if find_spec("celery") else _READING
        return [name for name in names if find_spec(f"{__name__}.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS or not find_spec(f"{__name__}.{cmd_name}"):
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            raise click.Abort from None  # click itself would print an empty line


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    None,
    package_name="pagetrail",
    message="%(prog)s %(version)s",
    help="Show the version and exit.",
)
def pagetrail() -> None:
    """Collect compliance evidence from PagerDuty accounts, and prove it.

    \b
    A first run on this machine:
      pagetrail up
      pagetrail source connect acme/main
      pagetrail collect acme/main --wait

    Settings are environment variables that begin with PAGETRAIL_. Every command takes --json.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 finished but partial, cancelled or different.
    """


def main() -> None:
    """Run the command line of this process, and exit with its exit code."""
    with unswallowed():
        sys.exit(perform(sys.argv[1:]))


def perform(arguments: Sequence[str]) -> int:
    """Return the exit code of one command. Every failure prints one sentence on stderr."""
    try:
        return int(pagetrail.main(list(arguments), "pagetrail", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        return _say(_usage(error), error.exit_code)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except Fault as fault:
        return _say(str(fault), fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal shows ^C, or an unanswered question, on this line
        return _say(INTERRUPTED, 1)
    except ModuleNotFoundError as error:
        return _say(READS_ONLY if not find_spec("celery") else _unexpected(error), 1)
    except Exception as error:  # noqa: BLE001 - the last resort: a person must not see a traceback
        return _say(_unexpected(error), 1)


def _say(sentence: str, exit_code: int) -> int:
    click.echo(" ".join(sentence.split()), err=True)
    return exit_code


def _usage(error: click.UsageError) -> str:
    where = error.ctx.command_path if error.ctx else "pagetrail"
    said = _GUESS.sub(r": did you mean \1?", error.format_message()).rstrip(".")
    if said.endswith("?"):
        return f"{said} `{where} --help` lists them all."
    return f"{said}: see `{where} --help`."


def _unexpected(error: Exception) -> str:
    """Write the redacted traceback to the log directory, and return a sentence about it."""
    from workers.redaction import redact

    name = type(error).__name__
    try:
        from workers.settings.environment import load_settings

        log = load_settings().make_data_dir() / "logs" / "cli.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(redact("".join(traceback.format_exception(error))))
    except (Fault, OSError):
        detail = redact(f"{name}: {error}")
        return f"Something unexpected went wrong ({detail}), and the command stopped."
    return (
        f"Something unexpected went wrong ({name}), and the command stopped: {log} has the details."
    )
