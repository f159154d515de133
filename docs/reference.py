"""Writes the reference pages from the program itself: `make docs` runs it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from docs import documents, events
from tasks.cli import pagetrail
from tasks.verifying import verify  # its modules add their rules
from tasks.verifying.rules import KINDS
from workers.settings.environment import Settings, variable_of
from workers.settings.secret_files import DEFAULT_DIR, SECRETS_DIR

HERE = Path(__file__).parent

SETTINGS = """\
# Settings

<!-- Written by docs/reference.py: change the text there, and the settings in workers/settings/environment.py. -->

Settings are environment variables, or files of the same name in a secrets directory. If a value is wrong, the process
doesn't start, and one sentence names the variable and the allowed values. A name that nearly matches one of these is
refused too, so that a misspelt setting is not silently ignored.

Storage also uses the cloud's own variables. Its keys (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`, `GOOGLE_SERVICE_ACCOUNT_KEY`, `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_KEY`,
`AZURE_CLIENT_SECRET`) may be files in the secrets directory. So may Pagetrail's own secrets, which are best kept there:
`PAGETRAIL_REDIS_URL` (if it has a password), `PAGETRAIL_VAULT_KEYS`, `PAGETRAIL_FLOWER_PASSWORD` and
`PAGETRAIL_SENTRY_DSN`.

Flower also uses its own options and `FLOWER_` variables.

| variable | default | allowed | meaning |
| --- | --- | --- | --- |
"""

COMMANDS = """\
# Commands

<!-- Written by docs/reference.py: change the text there, and the commands in tasks/cli/. -->

This page has the text that each command prints with `--help`. In a checkout the command is `.venv/bin/pagetrail`.

Documents and tables go to stdout, messages to stderr. With `--json` a command prints one JSON document (an export: one
record per line).

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed: a refused key, an unknown source or run, Redis or storage out of reach |
| 2 | wrong usage; nothing was sent |
| 3 | finished, but the result is partial, cancelled or unavailable, or `verify` found a difference |

[What messages mean](errors.md) has the sentence for each failure.
"""


RULES_PAGE = """\
# What verify checks

<!-- Written by docs/reference.py: change the text there, and the rules in tasks/verifying/. -->

`pagetrail verify` reads every stored object of a source and applies each of these rules to each run. It computes the
manifest of a run again from its plan and its pages, so a manifest that says anything else is found even if all digests
fit. Only the number of requests and the way in which a run ended are taken from the manifest, because only Redis knew
them.

## Kinds of differences

| kind | meaning |
| --- | --- |
{kinds}
Two more checks look at all objects of a source: names that differ only in the case of letters, and links, pipes and
hidden files are `extra`.

## Rules for a run

| rule | what has to be true | kind |
| --- | --- | --- |
{rules}"""


class Setting(NamedTuple):
    """One row of the table of settings."""

    variable: str
    default: str
    allowed: str
    meaning: str


def table() -> list[Setting]:
    """Return every setting, in the order of the class."""
    meaning = "Files named like a variable, for secrets"
    rows = [Setting(SECRETS_DIR, str(DEFAULT_DIR), "a directory", meaning)]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        text = json.dumps(default) if isinstance(default, dict | bool) else str(default or "")
        extra: Any = field.json_schema_extra
        rows.append(Setting(variable_of(name), text, extra["allowed"], str(field.description)))
    return rows


def settings() -> str:
    """Return settings.md."""
    return SETTINGS + "".join(
        f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.allowed} | {row.meaning} |\n"
        for row in table()
    )


def commands() -> str:
    """Return commands.md."""
    return COMMANDS + "".join(_sections(pagetrail, root()))


def root() -> click.Context:
    """Return the context of the command itself, as wide as a page."""
    return click.Context(
        pagetrail, info_name="pagetrail", terminal_width=90, **pagetrail.context_settings
    )


def _sections(command: click.Command, ctx: click.Context) -> Iterator[str]:
    group = isinstance(command, click.Group) and not command.invoke_without_command
    if ctx.parent is None or not group:
        yield f"\n## {ctx.command_path}\n\n```text\n{command.get_help(ctx)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below, f"{name} is listed, but isn't a command"
            yield from _sections(below, click.Context(below, parent=ctx, info_name=name))


def rules() -> str:
    """Return rules.md."""
    kinds = "".join(f"| `{kind}` | {sentence} |\n" for kind, sentence in KINDS.items())
    checked = "".join(
        f"| {each.name.replace('_', ' ')} | {each.sentence} | `{each.kind}` |\n"
        for each in verify.RULES
    )
    return RULES_PAGE.format(kinds=kinds, rules=checked)


PAGES = {
    "settings.md": settings,
    "commands.md": commands,
    "rules.md": rules,
    "events.md": events.page,
    "events.schema.json": events.schema,
    "documents.md": documents.page,
    **documents.SCHEMAS,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (HERE / file).write_text(page(), "utf-8")
