"""The list of public keys says which key was in use on which day, and is refused if it was tampered with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from workers.errors import SigningFault
from workers.signing.keys import KEYS, KeyStore, PublicKey, PublicKeys
from workers.storage import Storage, open_storage

DAY = date(2026, 11, 30)
LATER = DAY + timedelta(days=90)


def new_key(
    day: date = DAY, make: Callable[[], CryptoSigner] = CryptoSigner.generate_ed25519
) -> PublicKey:
    return PublicKey.of(make().public_key, day)


FIRST, SECOND = new_key(), new_key(LATER)
LIST = PublicKeys().used(FIRST, DAY).used(SECOND, LATER)


@pytest.mark.parametrize("make", [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa])
def test_an_id_is_what_openssl_says(make: Callable[[], CryptoSigner], tmp_path: Path) -> None:
    """An auditor can compute the id of a key from the key alone."""
    key = new_key(make=make)
    (tmp_path / "pub.pem").write_text(key.pem)
    recipe = "openssl pkey -pubin -in pub.pem -outform DER | sha256sum"
    digest = subprocess.check_output(["/bin/sh", "-euc", recipe], cwd=tmp_path, text=True)
    assert digest.split()[0] == key.id
    assert key.opened().keyid == key.id


def test_a_key_of_another_kind_is_refused() -> None:
    """The recipes for openssl exist for two kinds of keys, so no seal has another kind."""
    with pytest.raises(SigningFault, match="use an Ed25519 key"):
        new_key(make=CryptoSigner.generate_rsa)


def test_a_new_key_ends_the_one_before() -> None:
    """The key that is in use has no last day. The last day of the key before is the first day of the new one."""
    assert [(key.created, key.last_day) for key in LIST.keys] == [(DAY, LATER), (LATER, None)]
    assert LIST.used(SECOND, LATER + timedelta(days=1)) == LIST
    first = LIST.named(FIRST.id)
    assert first
    assert [first.may_sign_on(DAY + timedelta(days=n)) for n in (-1, 0, 90, 91)] == [
        True,
        True,
        True,
        False,
    ]
    assert LIST.named("0" * 64) is None


def test_a_key_is_not_used_after_its_last_day() -> None:
    """On its last day it may still be: the old signer may be finishing its work."""
    assert LIST.used(FIRST, LATER) == LIST
    with pytest.raises(SigningFault, match="give the signer the key that followed it"):
        LIST.used(FIRST, LATER + timedelta(days=1))


def test_a_list_is_read_as_it_was_written() -> None:
    assert PublicKeys.from_json(LIST.to_json()) == LIST
    assert PublicKeys.from_json(PublicKeys().to_json()) == PublicKeys()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b" " * 2**21,
        LIST.to_json()[:-3],
        LIST.to_json().replace(b'"format": 1', b'"format": 2'),
        LIST.to_json().replace(b'"format": 1', b'"format": 1, "format": 1'),
        LIST.to_json().replace(b'"format": 1', b'"format": 1, "more": 1'),
        LIST.to_json().replace(FIRST.id.encode(), b"0" * 64),
        LIST.to_json().replace(
            FIRST.pem.split("\n")[1].encode(), SECOND.pem.split("\n")[1].encode()
        ),
        LIST.to_json().replace(FIRST.pem.split("\n")[1].encode(), b"AAAA"),
        LIST.to_json().replace(b'"ed25519"', b'"ecdsa-sha2-nistp256"'),
        PublicKeys(keys=(FIRST, FIRST)).to_json(),
    ],
)
def test_any_other_list_is_refused(text: bytes) -> None:
    """A list with a foreign key, a key under another id, or in another form is not a list of keys."""
    with pytest.raises(ValueError, match=r"it |key"):
        PublicKeys.from_json(text)


@pytest.fixture
def storage() -> Storage:
    return open_storage("memory://")


def test_the_store_keeps_every_key(storage: Storage) -> None:
    """Using a key is noted once, however often it is used."""
    store = KeyStore(storage)
    assert store.read() == PublicKeys()
    store.use(FIRST, DAY)
    text = storage.get(KEYS)
    store.use(FIRST, DAY)
    assert storage.get(KEYS) == text
    assert store.use(SECOND, LATER) == LIST == KeyStore(storage).read()


def test_two_signers_that_begin_together_both_enter_their_keys(storage: Storage) -> None:
    """A key that another process enters at the same moment is not lost."""

    class Racing(KeyStore):
        raced = False

        def _parsed(self, text: bytes | None) -> PublicKeys:
            found = super()._parsed(text)
            if not self.raced:
                self.raced = True
                KeyStore(storage).use(FIRST, DAY)
            return found

    assert Racing(storage).use(SECOND, LATER) == LIST


def test_a_damaged_list_stops_the_signer(storage: Storage) -> None:
    """A signer that lost its list must not begin another one in its place."""
    storage.put_new(KEYS, b"{}")
    with pytest.raises(SigningFault, match="restore it from a copy"):
        KeyStore(storage).read()
    with pytest.raises(SigningFault, match="restore it from a copy"):
        KeyStore(storage).use(FIRST, DAY)
