"""Signs seals, and checks their signatures with public keys that lie outside the evidence."""

from __future__ import annotations

from datetime import UTC

from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature as LibrarySignature
from securesystemslib.signer import Signer

from tasks.evidence import documents
from tasks.evidence.seals import PAYLOAD_TYPE, Envelope, Signature, Statement, StoredSeal
from workers.signing.keys import PublicKeys


def signed(statement: Statement, signer: Signer) -> bytes:
    """Return the text of `seal.dsse.json`: the statement with its signature."""
    envelope = dsse.Envelope(documents.written(statement, indent=-1), PAYLOAD_TYPE, {})
    made = envelope.sign(signer)
    signature = Signature(keyid=made.keyid, sig=bytes.fromhex(made.signature))
    return documents.written(Envelope(payload=envelope.payload, signatures=(signature,)))


def check_signature(stored: StoredSeal, keys: PublicKeys) -> None:
    """Raise ValueError unless one of *keys* signed the seal while it was in use."""
    seal = stored.seal
    key = keys.named(seal.key)
    if key is None:
        raise ValueError(f"it is signed with key {seal.key}, which isn't one of the keys given")
    if not key.used_on(seal.sealed_at.astimezone(UTC).date()):
        raise ValueError(f"it is dated {seal.sealed_at:%F}, when key {seal.key} was not in use")
    try:
        _library(stored.envelope).verify([key.opened()], threshold=1)
    except (VerificationError, ValueError):
        raise ValueError(f"its signature isn't one of key {seal.key}") from None


def _library(envelope: Envelope) -> dsse.Envelope:
    """Return the envelope as the library has it."""
    made = {e.keyid: LibrarySignature(e.keyid, e.sig.hex()) for e in envelope.signatures}
    return dsse.Envelope(envelope.payload, envelope.payload_type, made)
