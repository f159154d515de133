"""Writes the table in events.md, and events.schema.json, from the structures of the events."""

from pathlib import Path
from typing import Any

import msgspec

from tasks.evidence.schemas import DIALECT, printed
from tasks.runs.events import KINDS
from workers.state.events import EventData, StoredEvent

PAGE = Path(__file__).parent / "events.md"
HEAD, END = "| kind | when | `data` |\n| --- | --- | --- |\n", "\n\nEvents never"
_RUN = {"type": "string", "pattern": "^[0-9]{8}$"}


def page() -> str:
    """Return events.md, whose table has one row for each kind."""
    before, _, rest = PAGE.read_text("utf-8").partition(HEAD)
    return before + HEAD + "\n".join(map(_row, KINDS)) + END + rest.partition(END)[2]


def schema() -> str:
    """Return the JSON Schema of an event in the stream."""
    types = (StoredEvent, *KINDS)
    _, parts = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    event = parts.pop(StoredEvent.__name__)
    event["properties"]["kind"] = {"enum": [each.kind for each in KINDS]}
    found = {
        "$schema": DIALECT,
        **event,
        "title": "An event of Pagetrail",
        "required": list(event["properties"]),
        "additionalProperties": False,
        "oneOf": [_kind(each) for each in KINDS],
        "$defs": parts,
    }
    return printed(found)


def _kind(kind: type[EventData]) -> dict[str, Any]:
    run = _RUN if kind.of_run else {"type": "null"}
    data = {"$ref": f"#/$defs/{kind.__name__}"}
    return {"properties": {"kind": {"const": kind.kind}, "run": run, "data": data}}


def _row(kind: type[EventData]) -> str:
    when = " ".join((kind.__doc__ or "").split()).rstrip(".")
    members = ", ".join(map(_member, msgspec.structs.fields(kind)))
    return f"| `{kind.kind}` | {when} | {members} |"


def _member(field: msgspec.structs.FieldInfo) -> str:
    told = msgspec.json.schema(field.type).get("description")
    return f"`{field.name}`" + (f" ({told[0].lower()}{told[1:]})" if told else "")
