"""What the verified runs are about: the facts that an auditor writes down beside the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tasks.evidence.seals import Account
from tasks.reading.sealed import Manifest


@dataclass(frozen=True, slots=True)
class ResourceFound:
    """The result of the newest verified run for a resource."""

    state: str
    reason: str


@dataclass(slots=True)
class Facts:
    """The account, the period of all runs, and the resources of the newest run."""

    account: Account | None = None
    since: datetime | None = None
    until: datetime | None = None
    resources: dict[str, ResourceFound] = field(default_factory=dict)

    def add(self, manifest: Manifest) -> None:
        """Add a run. Runs are added oldest first."""
        account, period = manifest.account, manifest.period
        self.account = Account(region=account.region, subdomain=account.subdomain)
        self.since = min(self.since or period.since, period.since)
        self.until = max(self.until or period.until, period.until)
        self.resources = {
            name: ResourceFound(each.state, each.reason)
            for name, each in manifest.resources.items()
        }
