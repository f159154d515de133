"""The summary of a source's last run, which Redis keeps so that nobody has to read manifests to watch the fleet."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tasks.reading.sealed import Manifest
from tasks.reading.windows import Moment
from workers.decoding import decode


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """How the last sealed run of a source ended. The ledger needs the member `run`; it keeps the rest unread."""

    run: str
    state: str  # complete, partial, failed or cancelled
    ended: str  # why: `refused` if PagerDuty refused the key
    opened_at: Moment
    sealed_at: Moment
    continues: bool  # whether another run follows at once, to read more of the backlog
    subdomains: tuple[str, ...]  # the subdomains that its records link to
    backlog: bool

    @classmethod
    def of(cls, manifest: Manifest) -> LastRun:
        """Return the summary of a sealed run."""
        return cls(
            run=manifest.run,
            state=manifest.state,
            ended=manifest.ended,
            opened_at=manifest.opened_at,
            sealed_at=manifest.sealed_at,
            continues=manifest.continues,
            subdomains=manifest.account.seen,
            backlog=bool(manifest.backlog),
        )

    def to_json(self) -> str:
        """Return the text that the ledger keeps."""
        return msgspec.json.encode(self).decode()


def read_last(text: str | None) -> LastRun | None:
    """Return the summary that the ledger kept as *text*; None if the source has no sealed run."""
    return None if text is None else decode(text, LastRun)
