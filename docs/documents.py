"""Writes documents.md and schemas/ from the structures of the stored documents."""

from collections.abc import Callable
from functools import partial

from tasks.evidence.schemas import DOCUMENTS, Schema, printed, schema_of

HEAD = """\
# Stored documents

<!-- Written by docs/documents.py: change the text there, and the members in tasks/reading/ and tasks/evidence/. -->

This page lists each member of each stored document. The same structures make the JSON Schemas in `docs/schemas/`, which
`pagetrail schema` prints too, and read and write the documents themselves.

A document has exactly one way to be written: these members in this order, as JSON that is indented by two spaces (the
first two lines of a page and the payload of a seal are not indented). Pagetrail refuses a document that is written in
another way. It writes all times in UTC.
"""


SCHEMAS: dict[str, Callable[[], str]] = {
    f"schemas/{name}.json": partial(lambda each: printed(schema_of(each)), name)
    for name in DOCUMENTS
}
"""What makes the text of each schema, by the name of its file below docs/."""


def page() -> str:
    """Return documents.md."""
    return HEAD + "".join(map(_section, DOCUMENTS))


def _section(name: str) -> str:
    schema, (_, place) = schema_of(name), DOCUMENTS[name]
    parts = schema["$defs"]
    lines = [f"## {name}", f"{place[0].upper()}{place[1:]}. {_text(schema)}"]
    lines += [f"[JSON Schema](schemas/{name}.json)", _table(schema, parts)]
    for part, found in parts.items():
        if "properties" in found:
            lines += [f"`{part}`: {_text(found)}", _table(found, parts)]
    return "\n" + "\n\n".join(lines) + "\n"


def _text(found: Schema) -> str:
    return " ".join(str(found.get("description", "")).split())


def _table(found: Schema, parts: Schema) -> str:
    rows = ["| member | value | meaning |", "| --- | --- | --- |"]
    for name, member in found["properties"].items():
        optional = "" if name in found["required"] else " (may be left out)"
        rows.append(f"| `{name}` | {_value(member, parts)}{optional} | {_text(member)} |")
    return "\n".join(rows)


def _value(member: Schema, parts: Schema) -> str:
    """Return the values that a member may have, in words."""
    match member:
        case {"anyOf": [one, {"type": "null"}]}:
            return f"{_value(one, parts)} or null"
        case {"anyOf": _}:
            return "scalar"
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return f"`{name}`" if "properties" in parts[name] else _value(parts[name], parts)
        case {"enum": values}:
            return ", ".join(f"`{value}`" if value != "" else "empty" for value in values)
        case {"type": "array", "items": dict(items)}:
            return f"list of {_values(items, parts)}"
        case {"type": "array", "prefixItems": [dict(first), _]}:
            return f"pair of {_values(first, parts)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object with {_values(values, parts)}"
        case {"format": str(kind)}:
            return {"date-time": "time", "date": "day"}[kind]
        case {"contentEncoding": str(kind)}:
            return kind
        case _:
            return {"integer": "number", "boolean": "true or false"}.get(
                member["type"], member["type"]
            )


def _values(member: Schema, parts: Schema) -> str:
    """Return the values that the elements of a member may have, in the plural."""
    one = _value(member, parts)
    first, space, rest = one.partition(" ")
    return one if first.startswith("`") else f"{first}s{space}{rest}"
