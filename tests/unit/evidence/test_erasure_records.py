"""A valid record of an erasure is accepted. Anything else in its place is refused with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from msgspec.structs import asdict
from securesystemslib import dsse

from tasks.evidence import documents
from tasks.evidence.dsse import Envelope, Signature
from tasks.evidence.erasure_records import PAYLOAD_TYPE, Finished, read_record
from tests.erased import AT, erasure, stored, text_of
from tests.seals import KEY

SOURCE, THROUGH = "acme/main", "00000003"
RECORD = erasure(SOURCE, 3)
TEXT = text_of(RECORD)
STORED = stored(RECORD)
MEMBERS = list(orjson.loads(documents.written(RECORD)))
FAR = "99999999"


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the record with a change, written and signed like any record."""
    document = orjson.loads(documents.written(RECORD))
    change(document)
    return enveloped(orjson.dumps(document))


def enveloped(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return a record with that payload, signed."""
    made = dsse.Envelope(payload, payload_type, {}).sign(KEY.signer)
    signature = Signature(keyid=made.keyid, sig=bytes.fromhex(made.signature))
    envelope = Envelope(payload=payload, payload_type=payload_type, signatures=(signature,))
    return documents.written(envelope)


def resigned(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the record with a change of its envelope."""
    document = orjson.loads(TEXT)
    change(document)
    return msgspec.json.format(orjson.dumps(document), indent=2)


def test_a_record_is_read_as_it_was_written() -> None:
    following = erasure(SOURCE, 5, STORED)
    for record in (RECORD, following):
        found = read_record(text_of(record), SOURCE, record.through)
        assert {name: getattr(found, name) for name in MEMBERS} == asdict(record)
    assert following.previous == STORED.link
    assert hashlib.sha256(TEXT).hexdigest() == STORED.link.sha256


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\x00\x01",
        b"[]",
        b"{}",
        b"null",
        TEXT[:-1],
        TEXT + b"\n",
        orjson.dumps(orjson.loads(TEXT)),
        documents.written(RECORD),
        enveloped(documents.written(RECORD)),
        enveloped(
            documents.written(RECORD, indent=-1).replace(
                b'"by":"tester"', b'"by":"nobody","by":"tester"'
            )
        ),
        enveloped(documents.written(RECORD, indent=-1), "application/vnd.in-toto+json"),
        resigned(lambda envelope: envelope.update(signatures=[])),
        resigned(lambda envelope: envelope["signatures"].append(envelope["signatures"][0])),
        resigned(lambda envelope: envelope["signatures"][0].update(keyid="0" * 64)),
        resigned(lambda envelope: envelope.update(more=1)),
        edited(lambda record: record.update(format=1)),
        edited(lambda record: record.update(more=1)),
        edited(lambda record: record.update(source="acme/else")),
        edited(lambda record: record.update(through="00000002")),
        edited(lambda record: record.update(why="")),
        edited(lambda record: record.update(at="2026-11-25T12:00:00")),
        edited(lambda record: record.update(runs=[])),
        edited(lambda record: record.update(objects=4)),
        edited(lambda record: record["runs"].pop(1)),
        edited(lambda record: record["runs"].reverse()),
        edited(lambda record: record["runs"][0].update(manifest_sha256="x")),
        edited(lambda record: record["runs"][1].update(run="00000001")),
        edited(lambda record: record.update(previous={"through": "00000001", "sha256": "0" * 64})),
        *(edited(lambda record, name=name: record.pop(name)) for name in MEMBERS),
        *(edited(lambda record, name=name: record.update({name: 7.5})) for name in MEMBERS),
    ],
)
def test_anything_else_in_the_place_of_a_record_is_refused(text: bytes) -> None:
    """No member may be missing, changed, added or written differently, and no run may be left out."""
    with pytest.raises(ValueError, match=r"."):
        read_record(text, SOURCE, THROUGH)


def test_a_record_far_ahead_costs_no_more_to_refuse_than_to_read() -> None:
    """The check doesn't count through a hundred million runs that the record doesn't name."""
    text = edited(lambda record: record.update(through=FAR))
    with pytest.raises(ValueError, match="one by one"):
        read_record(text, SOURCE, FAR)


def test_the_end_of_an_erasure_names_its_record() -> None:
    finished = Finished.of(STORED, AT)
    Finished.check(documents.written(finished), STORED)
    other = documents.written(Finished.of(stored(erasure("acme/else", 3)), AT))
    for text in (
        b"",
        b"{}",
        b"[]",
        other,
        documents.written(finished) + b" ",
        documents.written(Finished.of(stored(erasure(SOURCE, 2)), AT)),
    ):
        with pytest.raises(ValueError, match=r"."):
            Finished.check(text, STORED)
