"""DSSE envelopes: a payload and its one signature. Seals and the records of erasures are written in them.

Reading one needs no cryptography: `tasks/evidence/signatures.py` makes and checks signatures.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from tasks.evidence import documents
from tasks.reading.sealed import Digest, Part, told

LONGEST = 16 * 2**20
"""Most bytes of an envelope. A seal that names 50,000 runs as unsealed has about as many."""


class Signature(Part, frozen=True, kw_only=True):
    """A signature over the payload, and the id of the key that made it."""

    keyid: Annotated[Digest, told("The id of the key")]
    sig: Annotated[bytes, told("The signature, in base64")]


class Envelope(Part, frozen=True, kw_only=True):
    """A signed statement: the one about a run, or the record of an erasure."""

    payload: Annotated[bytes, told("The text of the payload, in base64")]
    payload_type: Annotated[str, told("The kind of the payload")] = field(name="payloadType")
    signatures: Annotated[tuple[Signature, ...], told("The signature")]

    def check_signer(self, key: str) -> None:
        """Raise ValueError unless there is exactly one signature, and it names *key*."""
        if [each.keyid for each in self.signatures] != [key]:
            raise ValueError("it isn't signed by the one key that it names")


def read_envelope(text: bytes, payload_type: str) -> Envelope:
    """Return the envelope, whose signature is still to be checked; ValueError says why it can't be trusted."""
    if len(text) > LONGEST:
        raise ValueError("it is larger than any signed document")
    envelope = documents.read(text, Envelope)
    if envelope.payload_type != payload_type:
        raise ValueError(f"its payload isn't of the type {payload_type}")
    return envelope
