"""Show and replace the keys of the seals. `tasks.api` leaves this out, because the libraries are slow to load."""

from __future__ import annotations

from datetime import UTC, date, datetime

from workers.runtime import Runtime
from workers.signing.keys import PublicKeys


def public_keys(fleet: Runtime) -> PublicKeys:
    """Return the public keys of all seals, oldest first. There are none before the first seal."""
    return fleet.public_keys.read()


def rotate(fleet: Runtime) -> PublicKeys:
    """Give the signer a new key in its own file, and return all public keys. The old key's last day is today.

    Raises `SigningFault` if PAGETRAIL_SIGNER_URI names the key.
    """
    today = _today()
    # The old key may be missing in the signer's store: it may be an older copy, or nothing was sealed yet.
    key = fleet.private_key.replaced(today, lambda old: fleet.public_keys.use(old, today))
    return fleet.public_keys.use(key.public, today)


def _today() -> date:
    return datetime.now(UTC).date()
