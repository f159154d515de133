"""The published JSON Schemas accept the documents that are stored, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count
from typing import Any

import msgspec
import orjson
import pytest
from jsonschema import Draft202012Validator

from tasks.evidence import documents
from tasks.evidence.erasure_records import Finished, done_key, record_key
from tasks.evidence.schemas import DOCUMENTS, Schema, schema_of
from tests.documents import Document, documents_of
from tests.erased import AT, erasure, text_of
from tests.erased import stored as recorded
from tests.lists_model import Lists, make, record
from tests.processes import ROOT
from tests.sealed_run import SealedRun
from tests.signer import SOURCE, Signer, add_run
from workers.signing.keys import KeyStore
from workers.storage import open_storage
from workers.storage.renamings import Renaming

MUTATED = 3
"""How many documents of a kind are changed, from the last one on. The last run has every kind of member."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Document]]:
    """The documents of a source with sealed, unsealed and erased runs, and the public keys."""
    storage, last = open_storage("memory://"), None
    signer = Signer(tmp_path_factory.mktemp("signer"), storage)
    for number in range(3):
        last = add_run(storage, last, 12 + 120 * number)
        signer.sign()
    renamed = Renaming("acme", "acme-new", AT, "kim", "the same users")
    resources = ("teams", "incidents", "schedules")
    plan = make(*resources, last=last, newest="00000003", renamings=(renamed,))
    answers = {"/teams": [record(n) for n in range(3)], "/incidents": [record(1)]}
    SealedRun(plan, Lists(answers).answer, storage).seal()
    erased = erasure(SOURCE, 2, digests={"00000001": "a" * 64}, seals={"00000001": "b" * 64})
    storage.put_new(record_key(SOURCE, "00000002"), text_of(erased))
    done = documents.written(Finished.of(recorded(erased), AT))
    storage.put_new(done_key(SOURCE, "00000002"), done)
    keys = KeyStore(signer.heads_storage).read().to_json()
    return [*documents_of(storage, SOURCE), ("keys", orjson.loads(keys))]


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft202012Validator]:
    """The validators of the published files."""
    found = {}
    for name in DOCUMENTS:
        schema = orjson.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_bytes())
        Draft202012Validator.check_schema(schema)
        found[name] = Draft202012Validator(schema)
    return found


def test_every_stored_document_is_valid(
    stored: list[tuple[str, Document]], validators: dict[str, Draft202012Validator]
) -> None:
    assert {name for name, _ in stored} == set(DOCUMENTS)
    for name, document in stored:
        validators[name].validate(document)


def unknown_member(node: Any) -> Iterator[Callable[[], object]]:
    if isinstance(node, dict):
        yield lambda: node.update(unknown=1)


def missing_member(node: Any) -> Iterator[Callable[[], object]]:
    for name in node if isinstance(node, dict) else ():
        yield lambda name=name: node.pop(name)


def wrong_type(node: Any) -> Iterator[Callable[[], object]]:
    for place in node if isinstance(node, dict) else range(len(node)):
        yield lambda place=place: node.__setitem__(place, [[1.5]])


def nodes(value: Any) -> Iterator[Any]:
    """Yield every object and list in *value*."""
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from nodes(each)


def changed(document: Document, change: Any) -> Iterator[Document]:
    """Yield copies of a document, each with one change."""
    for number in count():
        copy = deepcopy(document)
        changes = [each for node in nodes(copy) for each in change(node)]
        if number == len(changes):
            return
        changes[number]()
        yield copy


def reads(name: str, document: Document) -> bool:
    """Whether the reader takes the document. It wants the members in the order in which they are written."""
    indent = -1 if name in ("page", "page-head", "statement", "purge") else 2
    kind = DOCUMENTS[name].kind
    try:
        text = documents.written(msgspec.convert(document, kind), indent=indent)
        return orjson.loads(text) == document
    except msgspec.ValidationError:
        return False


@pytest.mark.parametrize("change", [unknown_member, missing_member, wrong_type])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_changed_document_is_valid_only_if_the_reader_takes_it_too(
    stored: list[tuple[str, Document]],
    validators: dict[str, Draft202012Validator],
    name: str,
    change: Any,
) -> None:
    """Some changes leave a document whole: an entry of a map may be added or gone. Both judge alike."""
    refused = 0
    found = [document for kind, document in stored if kind == name]
    for document in found[-MUTATED:]:
        for copy in changed(document, change):
            valid = validators[name].is_valid(copy)
            assert valid == reads(name, copy), copy
            refused += not valid
    assert refused


def structures(schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield "", schema
    yield from ((name, part) for name, part in schema["$defs"].items() if "properties" in part)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_describes_each_member_that_an_auditor_meets(name: str) -> None:
    """All but the version of a format, and names that a standard has given."""
    given = {"format", "method", "_type", "predicateType", "payloadType"}
    for part, schema in structures(schema_of(name)):
        assert schema["description"], part
        for member, told in schema["properties"].items():
            assert member in given or told.get("description"), f"{part}.{member}"
