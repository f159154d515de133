"""A seal has one way to be written. Anything else under its name is refused with a reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tasks.evidence.layout import seal_key
from tasks.evidence.seals import UnsealedRun, read_seal
from tests.seals import AT, MANIFEST, RUN, SOURCE, SUMS, statement, text_of

SEAL = text_of(statement())


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the seal with another envelope."""
    document = json.loads(SEAL)
    change(document)
    return json.dumps(document, indent=2).encode()


def stated(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the seal with another statement in its envelope."""

    def put(document: dict[str, Any]) -> None:
        inside = json.loads(base64.b64decode(document["payload"]))
        change(inside)
        text = json.dumps(inside, separators=(",", ":")).encode()
        document["payload"] = base64.b64encode(text).decode()

    return edited(put)


def test_a_seal_is_read_as_it_was_written() -> None:
    stored = read_seal(SEAL, SOURCE, RUN)
    assert stored.statement == statement()
    assert (stored.statement.sums_sha256, stored.statement.manifest_sha256) == (SUMS, MANIFEST)
    assert stored.seal.sealed_at == AT
    assert stored.link.run == RUN
    assert edited(lambda _: None) == SEAL == stated(lambda _: None)
    assert seal_key(SOURCE, RUN) == "acme/main/runs/00000007/seal.dsse.json"


def test_the_payload_is_an_in_toto_statement() -> None:
    """Its members have the names that in-toto's specification and DSSE's give them."""
    document = json.loads(SEAL)
    assert list(document) == ["payload", "payloadType", "signatures"]
    assert document["payloadType"] == "application/vnd.in-toto+json"
    inside = json.loads(base64.b64decode(document["payload"]))
    assert list(inside) == ["_type", "subject", "predicateType", "predicate"]
    assert inside["_type"] == "https://in-toto.io/Statement/v1"
    assert inside["subject"] == [
        {"name": "SHA256SUMS", "digest": {"sha256": SUMS}},
        {"name": "manifest.json", "digest": {"sha256": MANIFEST}},
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        SEAL[:-1],
        SEAL + b"\n",
        b" " * 2**25,
        json.dumps(json.loads(SEAL)).encode(),
        SEAL.replace(b'"payload"', b'"payload": "", "payload"', 1),
        edited(lambda d: d.update(more=1)),
        edited(lambda d: d.update(payloadType="text/plain")),
        edited(lambda d: d.update(payload="!")),
        edited(lambda d: d.update(payload=d["payload"].rstrip("=") + "\n")),
        edited(lambda d: d.update(payload="bnVsbA==")),
        edited(lambda d: d.update(signatures=[])),
        edited(lambda d: d["signatures"].append(d["signatures"][0])),
        edited(lambda d: d["signatures"][0].update(keyid="1" * 64)),
        edited(lambda d: d["signatures"][0].update(cert="")),
        stated(lambda d: d.update(_type="https://in-toto.io/Statement/v0.1")),
        stated(lambda d: d.update(predicateType="pagetrail:seal:v2")),
        stated(lambda d: d.update(more=1)),
        stated(lambda d: d["subject"].reverse()),
        stated(lambda d: d["subject"].pop()),
        stated(lambda d: d["subject"].append(d["subject"][0])),
        stated(lambda d: d["subject"][0]["digest"].update(sha512="0" * 128)),
        stated(lambda d: d["subject"][0]["digest"].update(sha256="x")),
        stated(lambda d: d["predicate"].update(source="acme/else")),
        stated(lambda d: d["predicate"].update(run="00000008")),
        stated(lambda d: d["predicate"].update(run="7")),
        stated(lambda d: d["predicate"].update(sealed_at="2026-11-30T12:00:00")),
        stated(lambda d: d["predicate"].update(previous=None, more=1)),
        stated(lambda d: d["predicate"].pop("state")),
        stated(lambda d: d["predicate"]["previous"].update(run="00000005")),
        stated(lambda d: d["predicate"]["previous"].update(run="00000007")),
        stated(lambda d: d["predicate"]["previous"].update(run="00000008")),
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="it"):
        read_seal(text, SOURCE, RUN)


def test_every_run_in_between_is_named() -> None:
    """A seal names the runs since the seal before it, each with the reason why it could not be sealed."""

    def between(*runs: str) -> tuple[UnsealedRun, ...]:
        return tuple(UnsealedRun(run=run, manifest_sha256=None, reason="gone") for run in runs)

    whole = text_of(statement(before="00000004", unsealed=between("00000005", "00000006")))
    assert [each.run for each in read_seal(whole, SOURCE, RUN).seal.unsealed] == [
        "00000005",
        "00000006",
    ]
    first = text_of(statement(before=None, unsealed=between("00000006")))
    assert read_seal(first, SOURCE, RUN).seal.previous is None
    for runs in (
        ("00000005",),
        ("00000006",),
        ("00000006", "00000005"),
        ("00000005", "00000006", "00000007"),
        ("00000005", "00000005", "00000006"),
    ):
        with pytest.raises(ValueError, match="every run"):
            read_seal(text_of(statement(before="00000004", unsealed=between(*runs))), SOURCE, RUN)
