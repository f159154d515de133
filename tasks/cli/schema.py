"""`pagetrail schema`: the JSON Schemas of the stored documents. It needs nothing but the program."""

from __future__ import annotations

import click

from tasks.cli import output
from tasks.evidence.schemas import DOCUMENTS, printed, schema_of


@click.command()
@click.argument("name", metavar="NAME", required=False, type=click.Choice(list(DOCUMENTS)))
@output.json_option
def schema(name: str | None, as_json: bool) -> None:
    """Print the JSON Schema of a kind of stored document, or list them all.

    \b
    Examples:
      pagetrail schema
      pagetrail schema manifest
    """
    if name:
        click.echo(printed(schema_of(name)), nl=False)
    elif as_json:
        output.emit({"schemas": [{"name": each, "of": _place(each)} for each in DOCUMENTS]})
    else:
        output.table(("SCHEMA", "OF"), ((each, _place(each)) for each in DOCUMENTS))


def _place(name: str) -> str:
    return DOCUMENTS[name].place.replace("`", "")
