"""The signer's private key: a file, or a key in a cloud's or HashiCorp's key service, named by a URI."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    CryptoSigner,
    GCPSigner,
    Signer,
    SSlibKey,
    VaultSigner,
)

from workers.errors import SigningFault
from workers.settings.secret_files import create_private, replace_private
from workers.signing.keys import PublicKey


class SigningKey(NamedTuple):
    """What signs, under the id of its public key, and that public key."""

    signer: Signer
    public: PublicKey


class PrivateKey:
    """The key that signs, named by a URI, or else in a file of our own. Safe to share between threads."""

    def __init__(self, uri: str | None, own_file: Path) -> None:
        self._uri = uri
        self._own_file = own_file
        self._found: SigningKey | None = None

    def opened(self, today: date) -> SigningKey:
        """Return the key; `SigningFault` if it can't be used. Our own file is made on first use.

        A file is read each time, so that a new key is used at once. A key service is asked once for the public key.
        """
        if self._uri is None:
            return _own_key(self._own_file, today)
        if urlsplit(self._uri).scheme == "file":
            return _key_in_file(Path(unquote(urlsplit(self._uri).path)), today)
        if self._found is None:
            self._found = _key_of_service(self._uri, today)
        return self._found

    def replaced(
        self, today: date, note: Callable[[PublicKey], object] = lambda _: None
    ) -> SigningKey:
        """Put a new Ed25519 key into our own file and return it; the old private key is gone.

        *note* gets the old public key first, because nothing can tell it afterwards.
        """
        if self._uri is not None:
            raise SigningFault(
                "PAGETRAIL_SIGNER_URI names the signer's key: name a new key there and restart the signer. "
                "The old key gets its last day with the next seal."
            )
        old = None
        with suppress(SigningFault):  # a damaged key can be replaced too
            old = _own_key(self._own_file, today) if self._own_file.exists() else None
        if old:
            note(old.public)
        replace_private(self._own_file, _new_key())
        return _own_key(self._own_file, today)


def _own_key(path: Path, today: date) -> SigningKey:
    """Return the key in *path*. If the file is missing, it is made with a new key, only for this user.

    The file appears as a whole, durable and only once, however many processes start together.
    """
    try:
        if not path.exists():
            create_private(path, _new_key())
        if path.stat().st_mode & 0o077:
            raise SigningFault(
                f"{path} is open to other users: make it private, `chmod 600 {path}`."
            )
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from None
    return _key_in_file(path, today)


def _key_in_file(path: Path, today: date) -> SigningKey:
    try:
        native = load_pem_private_key(path.read_bytes(), None)
        library = CryptoSigner(native)
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable(path, "it isn't a private key without a password, in PEM form") from None
    public = PublicKey.of(library.public_key, today)
    return SigningKey(CryptoSigner(native, public.opened()), public)


def _unreadable(path: Path, reason: str) -> SigningFault:
    return SigningFault(
        f"The signer's key {path} can't be read ({reason}): restore it, or correct its owner."
    )


def _key_of_service(uri: str, today: date) -> SigningKey:
    service, _, rest = uri.partition(":")
    try:
        library_uri, found = _SERVICES[service](rest)
        public = PublicKey.of(found, today)
        return SigningKey(Signer.from_priv_key_uri(library_uri, public.opened()), public)
    except SigningFault:
        raise
    except Exception as error:  # noqa: BLE001 - the library of each service has errors of its own
        raise SigningFault(
            f"The signer's key in {service} can't be used ({type(error).__name__}): correct "
            "PAGETRAIL_SIGNER_URI, the credentials and their rights, or install the library of the service."
        ) from None


def _azure(rest: str) -> tuple[str, SSlibKey]:
    """Look up //VAULT.vault.azure.net/keys/NAME."""
    parts = urlsplit(rest)
    _, _, name, *_ = parts.path.split("/")
    return AzureSigner.import_((parts.hostname or "").partition(".")[0], name)


_SERVICES: dict[str, Callable[[str], tuple[str, SSlibKey]]] = {
    AWSSigner.SCHEME: AWSSigner.import_,
    GCPSigner.SCHEME: GCPSigner.import_,
    AzureSigner.SCHEME: _azure,
    VaultSigner.SCHEME: VaultSigner.import_,
}


def _new_key() -> str:
    return CryptoSigner.generate_ed25519().private_bytes.decode()
