"""A seal counts if one of the given keys signed it while that key was in use. openssl agrees."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.evidence import documents
from tasks.evidence.seals import Statement, read_seal
from tasks.evidence.signatures import check_signature
from tests.seals import AT, KEY, RUN, SOURCE, new_key, statement, text_of
from workers.signing.keys import PublicKeys
from workers.signing.signers import SigningKey

DAY = AT.date()
KEYS = PublicKeys().used(KEY.public, DAY)
OTHER = new_key()
BOTH = KEYS.used(OTHER.public, DAY + timedelta(days=30))

RECIPE = """
jq -r .payload seal.dsse.json | openssl base64 -d -A > payload
jq -r '.signatures[0].sig' seal.dsse.json | openssl base64 -d -A > sig
T=$(jq -r .payloadType seal.dsse.json)
{ printf 'DSSEv1 %d %s %d ' ${#T} "$T" $(wc -c <payload); cat payload; } > pae
openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -in pae -sigfile sig
"""


def check(text: bytes, keys: PublicKeys = KEYS) -> None:
    check_signature(read_seal(text, SOURCE, RUN), keys)


@pytest.mark.parametrize("key", [KEY, new_key(ecdsa=True)], ids=["ed25519", "ecdsa"])
def test_a_seal_is_checked_with_its_key(key: SigningKey, tmp_path: Path) -> None:
    """Both kinds of keys sign what our own check and openssl's accept."""
    text = text_of(statement(key=key), key)
    check(text, PublicKeys().used(key.public, DAY))
    (tmp_path / "seal.dsse.json").write_bytes(text)
    (tmp_path / "pub.pem").write_text(key.public.pem)
    subprocess.run(["/bin/sh", "-euc", RECIPE], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("key", [KEY, new_key(ecdsa=True)], ids=["ed25519", "ecdsa"])
def test_a_changed_seal_is_refused(key: SigningKey, tmp_path: Path) -> None:
    """A statement that the key did not sign fails, here and with openssl."""
    document = json.loads(text_of(statement(key=key), key))
    other = statement(key=key, before="00000006", at=AT + timedelta(seconds=1))
    document["payload"] = base64.b64encode(documents.written(other, indent=-1)).decode()
    text = json.dumps(document, indent=2).encode()
    with pytest.raises(ValueError, match="its signature isn't one of key"):
        check(text, PublicKeys().used(key.public, DAY))
    (tmp_path / "seal.dsse.json").write_bytes(text)
    (tmp_path / "pub.pem").write_text(key.public.pem)
    done = subprocess.run(
        ["/bin/sh", "-euc", RECIPE], cwd=tmp_path, check=False, capture_output=True
    )
    assert done.returncode


def test_a_foreign_key_is_refused() -> None:
    """The seal names a key that isn't given, or names ours and was signed by another."""
    foreign = text_of(statement(key=OTHER), OTHER)
    with pytest.raises(ValueError, match="isn't one of the keys given"):
        check(foreign)
    with pytest.raises(ValueError, match="isn't one of the keys given"):
        check(foreign, PublicKeys())
    pretending = json.loads(text_of(statement(key=KEY), OTHER))
    pretending["signatures"][0]["keyid"] = KEY.public.id
    with pytest.raises(ValueError, match="its signature isn't one of key"):
        check(json.dumps(pretending, indent=2).encode())


@pytest.mark.parametrize("sig", ["", "AAAA", base64.b64encode(bytes(64)).decode()])
def test_a_signature_of_another_length_is_refused(sig: str) -> None:
    document = json.loads(text_of(statement()))
    document["signatures"][0]["sig"] = sig
    with pytest.raises(ValueError, match="its signature isn't one of key"):
        check(json.dumps(document, indent=2).encode())


@pytest.mark.parametrize(
    ("key", "days", "good"),
    [
        *((KEY, 0, True), (KEY, 30, True), (KEY, 31, False), (KEY, -1, True)),
        *((OTHER, 29, True), (OTHER, 30, True), (OTHER, 300, True)),
    ],
)
def test_a_key_counts_until_its_last_day(key: SigningKey, days: int, good: bool) -> None:
    """A seal that is dated later is refused. The first day says only since when the signer's store knows the key."""
    made: Statement = statement(key=key, at=AT + timedelta(days=days))
    if good:
        check(text_of(made, key), BOTH)
    else:
        with pytest.raises(ValueError, match="after the last day of key"):
            check(text_of(made, key), BOTH)
