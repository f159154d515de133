"""Signs seals and records of erasures, and checks them with public keys that lie outside the evidence."""

from __future__ import annotations

from datetime import UTC, datetime

from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature as LibrarySignature
from securesystemslib.signer import Signer

from tasks.evidence import documents, erasure_records, seals
from tasks.evidence.dsse import Envelope, Signature
from tasks.evidence.erasure_records import Erasure, StoredErasure
from tasks.evidence.seals import Statement, StoredSeal
from workers.signing.keys import PublicKeys


def signed(statement: Statement, signer: Signer) -> bytes:
    """Return the text of `seal.dsse.json`: the statement with its signature."""
    return _enveloped(documents.written(statement, indent=-1), seals.PAYLOAD_TYPE, signer)


def signed_record(record: Erasure, signer: Signer) -> bytes:
    """Return the text of the record of an erasure, with its signature."""
    return _enveloped(documents.written(record, indent=-1), erasure_records.PAYLOAD_TYPE, signer)


def _enveloped(payload: bytes, payload_type: str, signer: Signer) -> bytes:
    envelope = dsse.Envelope(payload, payload_type, {})
    made = envelope.sign(signer)
    signature = Signature(keyid=made.keyid, sig=bytes.fromhex(made.signature))
    return documents.written(
        Envelope(payload=payload, payload_type=payload_type, signatures=(signature,))
    )


def check_signature(stored: StoredSeal, keys: PublicKeys) -> None:
    """Raise ValueError unless one of *keys* signed the seal by its last day."""
    _check(stored.envelope, stored.seal.key, stored.seal.sealed_at, keys)


def check_record(stored: StoredErasure, keys: PublicKeys) -> None:
    """Raise ValueError unless one of *keys* signed the record of an erasure by its last day."""
    _check(stored.envelope, stored.key, stored.at, keys)


def _check(envelope: Envelope, key_id: str, at: datetime, keys: PublicKeys) -> None:
    key = keys.named(key_id)
    if key is None:
        raise ValueError(f"it is signed with key {key_id}, which isn't one of the keys given")
    if not key.may_sign_on(at.astimezone(UTC).date()):
        raise ValueError(f"it is dated {at:%F}, after the last day of key {key_id}")
    try:
        _library(envelope).verify([key.opened()], threshold=1)
    except (VerificationError, ValueError):
        raise ValueError(f"its signature isn't one of key {key_id}") from None


def _library(envelope: Envelope) -> dsse.Envelope:
    """Return the envelope as the library has it."""
    made = {e.keyid: LibrarySignature(e.keyid, e.sig.hex()) for e in envelope.signatures}
    return dsse.Envelope(envelope.payload, envelope.payload_type, made)
