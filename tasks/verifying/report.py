"""The result of a verification: what was verified, and every difference."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.evidence.erasure_records import Purge
from tasks.verifying.facts import Facts
from workers.storage.renamings import Renaming


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs from what a run should have stored; `kind` is the kind of the rule that found it."""

    run: str
    key: str
    kind: str
    detail: str

    @property
    def counts(self) -> bool:
        return self.kind not in ("late", "left")


@dataclass(frozen=True, slots=True)
class SealFound:
    """The seal of a run: the digest of its file, and the id of the key that signed it."""

    run: str
    sha256: str
    key: str


@dataclass(frozen=True, slots=True)
class RecordFound:
    """The record of an erasure: its last run, the digest of its file, and the id of the key that signed it."""

    through: str
    sha256: str
    key: str


@dataclass(slots=True)
class Report:
    """The runs that were verified so far, and all that was found."""

    runs: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)  # runs without a manifest: they have not ended
    facts: Facts = field(default_factory=Facts)
    objects: int = 0
    differences: list[Difference] = field(default_factory=list)
    renamed: list[tuple[str, Renaming]] = field(default_factory=list)  # run that followed it
    purged: list[Purge] = field(default_factory=list)  # that the oldest run follows

    records: list[RecordFound] = field(default_factory=list)  # all, unless one run was verified
    seals: list[SealFound] = field(default_factory=list)
    unsealed: list[str] = field(default_factory=list)  # runs that ended after the newest seal
    keyed: bool = False  # whether the signatures were checked
    anchored: bool = False  # whether a digest of an earlier seal was given, and found

    @property
    def signers(self) -> list[str]:
        """The ids of the keys that signed the seals and the records."""
        return sorted({each.key for each in self.seals} | {each.key for each in self.records})

    @property
    def head(self) -> SealFound | None:
        """The newest seal. Its digest fixes everything before it."""
        return self.seals[-1] if self.seals else None

    @property
    def ok(self) -> bool:
        return not any(difference.counts for difference in self.differences)
