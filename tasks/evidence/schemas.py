"""The JSON Schemas of the documents, made from the same structures as their readers and writers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from tasks.evidence import dsse, seals
from tasks.evidence.erasure_records import Erasure, Finished
from tasks.reading.plans import Plan
from tasks.reading.sealed import Envelope, Head, Manifest
from workers.signing.keys import PublicKeys

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


class Document(NamedTuple):
    """A kind of document, and where such documents are."""

    kind: type
    place: str


DOCUMENTS = {
    "plan": Document(Plan, "`plan.json` of a run"),
    "page": Document(Envelope, "the first line of a page, unpacked"),
    "page-head": Document(Head, "the second line of a page, unpacked"),
    "manifest": Document(Manifest, "`manifest.json` of a run"),
    "seal": Document(
        dsse.Envelope, "`seal.dsse.json` of a run, and `.purged/TENANT/NAME/RUN.dsse.json`"
    ),
    "statement": Document(seals.Statement, "the `payload` of a seal, decoded from base64"),
    "purge": Document(
        Erasure, "the `payload` of `.purged/TENANT/NAME/RUN.dsse.json`, decoded from base64"
    ),
    "purge-end": Document(Finished, "`.purged/TENANT/NAME/RUN.done.json`"),
    "keys": Document(PublicKeys, "the file that `pagetrail keys --json` prints"),
}
"""Every kind of document that an auditor gets, by the name of its schema."""


def schema_of(name: str) -> Schema:
    """Return the JSON Schema of a kind of document.

    It allows no unknown member, and requires each member that the writer always writes. So it is as strict as the
    reader, which compares a document with what the writer would write.
    """
    kind, place = DOCUMENTS[name]
    [root], parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    sparse = {each.__name__ for each in _structures(inspect.type_info(kind)) if _is_sparse(each)}
    for part, found in parts.items():
        if "properties" in found:
            found["additionalProperties"] = False
            if part not in sparse:
                _require_all(found)
    top = parts.pop(root["$ref"].rpartition("/")[2])
    title = f"{name}: {place.replace('`', '')}"
    return {"$schema": DIALECT, **top, "title": title, "$defs": parts}


def _require_all(found: Schema) -> None:
    found["required"] = list(found["properties"])
    for member in found["properties"].values():
        member.pop("default", None)


def printed(schema: Schema) -> str:
    """Return the text of a schema. JSON Schema has other anchors than Python for the whole of a text."""
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return text.replace(r"\\A", "^").replace(r"\\Z", "$") + "\n"


def _structures(found: Any) -> Iterator[type]:
    """Yield the structures in what msgspec knows of a type."""
    if isinstance(found, inspect.StructType | inspect.DataclassType):
        yield found.cls
    parts = msgspec.structs.astuple(found) if isinstance(found, msgspec.Struct) else found
    for part in parts if isinstance(parts, tuple) else ():
        yield from _structures(part)


def _is_sparse(structure: type) -> bool:
    """Whether a structure leaves out members that have their default."""
    return issubclass(structure, msgspec.Struct) and structure.__struct_config__.omit_defaults
