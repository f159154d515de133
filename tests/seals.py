"""Seals for tests: a statement about a run that doesn't exist, and a key that signs it."""

from __future__ import annotations

from datetime import UTC, datetime

from securesystemslib.signer import CryptoSigner

from tasks.evidence.seals import Account, Seal, SealedBefore, Statement, Tool, UnsealedRun
from tasks.evidence.signatures import signed
from tasks.reading.windows import Period
from workers.signing.keys import PublicKey
from workers.signing.signers import SigningKey

SOURCE, RUN = "acme/main", "00000007"
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
SUMS, MANIFEST = "a" * 64, "b" * 64


def new_key(*, ecdsa: bool = False) -> SigningKey:
    """Return a new key that is in use since the day of `AT`."""
    made = CryptoSigner.generate_ecdsa() if ecdsa else CryptoSigner.generate_ed25519()
    public = PublicKey.of(made.public_key, AT.date())
    native = made._private_key
    return SigningKey(CryptoSigner(native, public.opened()), public)


KEY = new_key()


def statement(
    *,
    key: SigningKey = KEY,
    at: datetime = AT,
    before: str | None = "00000006",
    unsealed: tuple[UnsealedRun, ...] = (),
) -> Statement:
    """Return a statement about a run."""
    seal = Seal(
        source=SOURCE,
        run=RUN,
        account=Account(region="us", subdomain="acme"),
        period=Period(datetime(2026, 11, 1, tzinfo=UTC), AT),
        state="complete",
        records={"incidents": 12, "users": 3},
        sealed_at=at,
        tool=Tool(name="pagetrail", version="0.1.0"),
        key=key.public.id,
        previous=SealedBefore(run=before, sha256="c" * 64) if before else None,
        unsealed=unsealed,
        purged=None,
    )
    return Statement.about(seal, SUMS, MANIFEST)


def text_of(made: Statement, key: SigningKey = KEY) -> bytes:
    """Return the seal with that statement."""
    return signed(made, key.signer)
