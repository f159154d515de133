"""The signer's key comes from its own file, from a file that is named, or from a key service."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner, _aws_signer

from tests.permissions import unprivileged
from workers.errors import SigningFault
from workers.signing.signers import PrivateKey, SigningKey

DAY = date(2026, 11, 30)


def checks(key: SigningKey) -> bool:
    """Whether the public key checks what the private key signs."""
    key.public.opened().verify_signature(key.signer.sign(b"text"), b"text")
    return True


def test_our_own_key_is_made_on_first_use(tmp_path: Path) -> None:
    """It is an Ed25519 key that only this user can read, and it stays."""
    path = tmp_path / "data" / "signer.key"
    key = PrivateKey(None, path).opened(DAY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.public.scheme == "ed25519"
    assert PrivateKey(None, path).opened(DAY).public == key.public
    assert checks(key)


def test_our_own_key_is_replaced(tmp_path: Path) -> None:
    """The new key is used at once, also by a process that had opened the old one."""
    signer = PrivateKey(None, tmp_path / "signer.key")
    old = signer.opened(DAY)
    new = PrivateKey(None, tmp_path / "signer.key").replaced(DAY)
    assert signer.opened(DAY).public == new.public != old.public
    assert (tmp_path / "signer.key").stat().st_mode & 0o777 == 0o600


def test_our_own_key_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "signer.key"
    PrivateKey(None, path).opened(DAY)
    path.chmod(0o640)
    with pytest.raises(SigningFault, match="chmod 600"):
        PrivateKey(None, path).opened(DAY)


def test_a_key_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "signer.key"
    PrivateKey(None, path).opened(DAY)
    path.chmod(0)
    with unprivileged(tmp_path), pytest.raises(SigningFault, match="Permission denied"):
        PrivateKey(None, path).opened(DAY)
    with pytest.raises(SigningFault, match="No such file"):
        PrivateKey(f"file:{tmp_path}/missing.pem", path).opened(DAY)


@pytest.mark.parametrize("make", [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa])
@pytest.mark.parametrize("uri", ["file:{}", "file://{}"])
def test_a_file_holds_either_kind_of_key(make: Any, uri: str, tmp_path: Path) -> None:
    """The mode of a named file is its owner's business: a mounted secret may be readable for a group."""
    path = tmp_path / "a key.pem"
    path.write_bytes(make().private_bytes)
    path.chmod(0o444)
    key = PrivateKey(uri.format(str(path).replace(" ", "%20")), tmp_path / "signer.key").opened(DAY)
    assert checks(key)
    assert not (tmp_path / "signer.key").exists()


@pytest.mark.parametrize("text", [b"", b"\xff\x00", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_with_something_else_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(text)
    with pytest.raises(SigningFault, match="it isn't a private key"):
        PrivateKey(f"file:{path}", tmp_path).opened(DAY)


def test_a_key_that_a_setting_names_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    with pytest.raises(SigningFault, match="name a new key there"):
        PrivateKey(f"file:{path}", tmp_path / "signer.key").replaced(DAY)


class KeyService:
    """A double of AWS's key service with one key on the curve P-256."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._key = generate_private_key(SECP256R1())

    def client(self, name: str) -> KeyService:
        assert name == "kms"
        return self

    def get_public_key(self, *, KeyId: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        self.asked.append(KeyId)
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"SigningAlgorithms": ["ECDSA_SHA_256"], "PublicKey": der}

    def sign(self, **given: Any) -> dict[str, Any]:
        assert given["KeyId"] == "alias/seals"
        assert given["SigningAlgorithm"] == "ECDSA_SHA_256"
        digest = given["Message"]
        assert digest == hashlib.sha256(b"text").digest()
        return {"Signature": self._key.sign(digest, ECDSA(Prehashed(SHA256())))}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> KeyService:
    """AWS's library in a process that doesn't have it."""
    made = KeyService()
    names = {
        "AWS_IMPORT_ERROR": None,
        "boto3": made,
        "BotoCoreError": OSError,
        "ClientError": OSError,
    }
    for name, value in names.items():
        monkeypatch.setattr(_aws_signer, name, value, raising=False)
    from cryptography.hazmat.primitives import serialization

    monkeypatch.setattr(_aws_signer, "serialization", serialization, raising=False)
    return made


def test_a_key_service_signs(service: KeyService, tmp_path: Path) -> None:
    """It is asked once for the public key, which has the same id in every process."""
    signer = PrivateKey("awskms:alias/seals", tmp_path / "signer.key")
    key = signer.opened(DAY)
    assert checks(key)
    assert key.public.scheme == "ecdsa-sha2-nistp256"
    assert signer.opened(date(2026, 12, 1)) == key
    assert service.asked == ["alias/seals"]
    assert PrivateKey("awskms:alias/seals", tmp_path).opened(DAY).public == key.public
    assert not (tmp_path / "signer.key").exists()


@pytest.mark.parametrize(
    "uri", ["awskms:alias/x", "gcpkms:projects/p", "azurekms://v.vault.azure.net/keys/k", "hv:k"]
)
def test_a_service_that_cannot_be_used_is_a_sentence(uri: str, tmp_path: Path) -> None:
    """Without the service's library, rights or network there is one sentence, and it doesn't repeat the key's name."""
    with pytest.raises(SigningFault, match="install the library") as caught:
        PrivateKey(uri, tmp_path / "signer.key").opened(DAY)
    assert uri not in str(caught.value)
