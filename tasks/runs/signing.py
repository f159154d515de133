"""Seal the ended runs of a source, in order. The signer trusts nobody: it verifies runs, and remembers its own seals.

For each run it records its intent, stores the seal create-only, and then moves the head of the source to it. It may die
between any two of these steps: the next attempt adopts the stored seal, or signs the same again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

from msgspec.structs import replace

from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import Link
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, seal_key, sums_key
from tasks.evidence.manifests import read_stored
from tasks.evidence.seals import (
    Account,
    Seal,
    SealedBefore,
    Statement,
    StoredSeal,
    Tool,
    UnsealedRun,
    read_seal,
)
from tasks.evidence.signatures import check_signature, signed
from tasks.evidence.sums import sums
from tasks.reading.sealed import StoredManifest
from tasks.runs import events
from tasks.runs.records import adopted
from tasks.verifying.verify import verify
from workers.errors import Busy, NotFound, SealRefused, StorageConflict
from workers.runtime import Runtime
from workers.signing.heads import Found, Head, Intent, Sealed
from workers.state.events import DAY_SECONDS
from workers.storage import deleted_meanwhile

log = logging.getLogger("pagetrail.sign")
_LONGEST_REASON = 500
LOST = "it is missing"
PURGED = "it was purged before it was sealed"


class Files(NamedTuple):
    """The two files that a seal is about."""

    manifest: StoredManifest
    sums: bytes


class Outcome(NamedTuple):
    """The result of an attempt: the newest sealed run, or "", and the runs after it that could not be sealed."""

    newest: str
    unsealed: tuple[UnsealedRun, ...]


def sign(fleet: Runtime, source: str, beat: Callable[[], None] = lambda: None) -> Outcome:
    """Seal every ended run of *source* that has no seal yet; *beat* is called before each run.

    A run that doesn't verify is left out, and the next seal names it. Raises `SealRefused` if the stored history isn't
    the one that was sealed, and `Busy` if another signer is at work.
    """
    return _Signer(fleet, source, beat).sign()


class _Signer:
    """One attempt to seal what is there of one source."""

    def __init__(self, fleet: Runtime, source: str, beat: Callable[[], None]) -> None:
        self._fleet = fleet
        self._storage = fleet.storage
        self._heads = fleet.heads
        self._source = source
        self._beat = beat
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._key = fleet.private_key.opened(self._now.date())
        self._keys = fleet.public_keys.use(self._key.public, self._now.date())
        self._purged = Purged(fleet.storage, source, self._keys)
        # Read now: later ones belong to erasures that began since.
        self._records = self._purged.names

    def sign(self) -> Outcome:
        """Seal what can be sealed. Raises `Busy` if runs are being erased, since nothing about them can be said now."""
        try:
            return self._sign()
        except (SealRefused, NotFound):
            self._leave_to_erasure()
            raise

    def _leave_to_erasure(self) -> None:
        """Raise `Busy` if an erasure has begun since: what is missing may just have been erased."""
        if Purged(self._storage, self._source).names != self._records:
            raise Busy(f"Runs of {self._source} are being erased: the signer looks again later.")

    def _sign(self) -> Outcome:
        found = self._moved_forward(self._found())
        between: list[UnsealedRun] = []
        for run in self._ended_after(found.head):
            self._beat()
            between += self._skipped(found.head, between, run)
            problem, files = self._examined(found.head, run)
            if files is None or problem:
                between.append(self._left_out(run, problem))
            else:
                found = self._seal(found, files, between)
                between = []
        newest = found.head.sealed
        return Outcome(newest.run if newest else "", tuple(between))

    def _found(self) -> Found:
        """Return the head of the source, whose seal is stored as the signer knows it."""
        found = self._heads.find(self._source) or self._begun()
        found = adopted(self._fleet, self._source, self._purged, found)
        sealed = found.head.sealed
        if sealed and not self._purged.erased(sealed.run):
            text = self._storage.get(seal_key(self._source, sealed.run))
            if text is None or sha256(text) != sealed.sha256:
                raise SealRefused(
                    f"{seal_key(self._source, sealed.run)} isn't the newest seal (digest {sealed.sha256}): restore "
                    "it from a copy of the storage."
                )
        return found

    def _begun(self) -> Found:
        """Return the first head of a source, or the newest valid seal if the signer's store lost the head."""
        for run in reversed(self._purged.kept):
            if stored := self._stored(run):
                head = Head(source=self._source, sealed=_sealed(stored))
                self._fleet.events.emit(
                    events.HeadRestored(sha256=stored.sha256), self._source, run
                )
                log.warning(
                    "the signer's store had no head: the newest seal is taken",
                    extra={"source": self._source, "run": run},
                )
                break
        else:
            head = Head(source=self._source)
        return self._heads.replace(Found(head, None), head)

    def _moved_forward(self, found: Found) -> Found:
        """Return the head after all stored seals that follow it one after the other; other seals are refused.

        The signer died after it had stored a seal, or its store was restored from an older copy.
        """
        for run in self._ended_after(found.head):
            stored = self._stored(run)
            if stored:
                self._refuse_other(found.head, stored)
                found = self._confirmed(found, stored)
        return found

    def _refuse_other(self, head: Head, stored: StoredSeal) -> None:
        """Raise `SealRefused` unless a stored seal follows the head, and is about what the signer meant to sign."""
        run, statement = stored.seal.run, stored.statement
        before = head.sealed
        link = SealedBefore(run=before.run, sha256=before.sha256) if before else None
        files = self._files(run)
        if stored.seal.previous != link:
            why = "it doesn't follow the newest seal that the signer knows"
        elif head.intent and head.intent.run == run and not _is_meant(head.intent, statement):
            why = "it isn't about the files that the signer meant to sign"
        elif files is None or files.manifest.sha256 != statement.manifest_sha256:
            why = "the manifest beside it is another one"
        else:
            return
        raise self._refused(run, why)

    def _refused(self, run: str, why: str) -> SealRefused:
        return SealRefused(
            f"{seal_key(self._source, run)} is refused ({why}): restore the run from a copy of the storage, or "
            "move away what isn't ours."
        )

    def _stored(self, run: str) -> StoredSeal | None:
        """Return the stored seal of a run, signed with one of our keys; `SealRefused` for anything else there."""
        text = self._storage.get(seal_key(self._source, run))
        if text is None:
            return None
        try:
            stored = read_seal(text, self._source, run)
            check_signature(stored, self._keys)
        except ValueError as error:
            raise self._refused(run, str(error)) from None
        return stored

    def _ended_after(self, head: Head) -> list[str]:
        """Return the runs after the head that have a manifest, oldest first."""
        last = head.sealed.run if head.sealed else ""
        runs = [run for run in self._purged.kept if run > last]
        return [
            run for run in runs if self._storage.get(manifest_key(self._source, run)) is not None
        ]

    def _skipped(self, head: Head, between: list[UnsealedRun], run: str) -> list[UnsealedRun]:
        """Return the runs before *run*, after those in *between*, that are missing or were purged."""
        if between:
            last = int(between[-1].run)
        elif head.sealed:
            last = int(head.sealed.run)
        else:
            return []
        found = []
        for number in range(last + 1, int(run)):
            missing = f"{number:08d}"
            record = self._purged.naming(missing)
            digest = record.digest_of(missing) if record else None
            reason = PURGED if record else LOST
            found.append(UnsealedRun(run=missing, manifest_sha256=digest, reason=reason))
        return found

    def _examined(self, head: Head, run: str) -> tuple[str, Files | None]:
        """Return why a run can't be sealed ("" if it can), and its files; `SealRefused` for another history."""
        files = self._files(run)
        if files is None:
            return "its manifest can't be read", None
        self._refuse_history(head, files.manifest)
        # The fleet may have died before it stored this file. Anything else in its place doesn't verify.
        self._storage.put_new(sums_key(self._source, run), files.sums)
        *_, report = verify(self._storage, self._source, run, keys=self._keys)
        problems = [each for each in report.differences if each.counts]
        if not problems:
            return "", files
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return f"{problems[0].key}: {problems[0].detail}{more}"[:_LONGEST_REASON], files

    def _refuse_history(self, head: Head, manifest: StoredManifest) -> None:
        """Raise `SealRefused` if the run doesn't follow the manifest that the signer sealed last."""
        sealed, previous = head.sealed, manifest.previous
        if sealed is None or (previous is None and self._purged.erased(sealed.run)):
            return
        if previous is None or previous.run < sealed.run:
            why = f"it doesn't follow run {sealed.run}"
        elif previous.run == sealed.run and previous.sha256 != sealed.manifest_sha256:
            why = f"it follows another manifest of run {sealed.run}"
        else:
            return
        raise SealRefused(
            f"Run {manifest.run} of {self._source} contradicts the newest seal ({why}): somebody changed sealed runs. "
            "Restore them from a copy of the storage."
        )

    def _files(self, run: str) -> Files | None:
        with suppress(StorageConflict):  # its manifest is damaged
            if found := read_stored(self._storage, self._source, run):
                return Files(found[0], sums(*found))
        return None

    def _left_out(self, run: str, reason: str) -> UnsealedRun:
        """Return a run that can't be sealed as the next seal names it, and tell the reason."""
        self._leave_to_erasure()
        text = self._storage.get(manifest_key(self._source, run))
        tell_refusal(self._fleet, self._source, run, reason)
        digest = sha256(text) if text is not None else None
        return UnsealedRun(run=run, manifest_sha256=digest, reason=reason)

    def _seal(self, found: Found, files: Files, between: list[UnsealedRun]) -> Found:
        """Store the seal of a run that was verified, and return the head that names it."""
        source, run = self._source, files.manifest.run
        before = found.head.sealed
        intent = Intent(
            run=run,
            manifest_sha256=files.manifest.sha256,
            sums_sha256=sha256(files.sums),
            previous=before.sha256 if before else None,
        )
        found = self._intended(found, intent)
        statement = Statement.about(
            self._statement(files.manifest, found.head, tuple(between)),
            intent.sums_sha256,
            intent.manifest_sha256,
        )
        self._storage.put_new(seal_key(source, run), signed(statement, self._key.signer))
        stored = self._stored(run)
        if stored is None:
            raise deleted_meanwhile(seal_key(source, run))
        self._refuse_other(found.head, stored)
        return self._confirmed(found, stored)

    def _intended(self, found: Found, intent: Intent) -> Found:
        """Return the head after the intent was recorded; `SealRefused` if it was another one for the same run."""
        known = found.head.intent
        if known == intent:
            return found
        if known and known.run == intent.run:
            raise SealRefused(
                f"Run {intent.run} of {self._source} isn't the one that the signer began to seal: its manifest was "
                f"{known.manifest_sha256}. Restore it from a copy of the storage."
            )
        return self._heads.replace(found, replace(found.head, intent=intent))

    def _statement(
        self, manifest: StoredManifest, head: Head, between: tuple[UnsealedRun, ...]
    ) -> Seal:
        account, before, purged = manifest.account, head.sealed, head.purged
        return Seal(
            source=self._source,
            run=manifest.run,
            account=Account(region=account.region, subdomain=account.subdomain),
            period=manifest.period,
            state=manifest.state,
            records={name: each.records for name, each in manifest.resources.items()},
            sealed_at=self._now,
            tool=Tool(name="pagetrail", version=version("pagetrail")),
            key=self._key.public.id,
            previous=SealedBefore(run=before.run, sha256=before.sha256) if before else None,
            unsealed=between,
            purged=Link(through=purged.through, sha256=purged.sha256) if purged else None,
        )

    def _confirmed(self, found: Found, stored: StoredSeal) -> Found:
        """Tell of a stored seal, then move the head to it. A repeat of the event has the same id."""
        seal = stored.seal
        event = events.RunSealed(
            sealed_at=seal.sealed_at,
            sha256=stored.sha256,
            previous=seal.previous.sha256 if seal.previous else None,
            key=seal.key,
            state=seal.state,
            unsealed=tuple(each.run for each in seal.unsealed),
        )
        self._fleet.events.emit(event, self._source, seal.run)
        moved = self._heads.replace(found, replace(found.head, sealed=_sealed(stored), intent=None))
        self._fleet.unsealed.settle(self._source, *(e.run for e in seal.unsealed), seal.run)
        log.info("sealed %s", stored.sha256, extra={"source": self._source, "run": seal.run})
        return moved


def _sealed(stored: StoredSeal) -> Sealed:
    """Return a stored seal as the head names it."""
    return Sealed(
        run=stored.seal.run,
        sha256=stored.sha256,
        manifest_sha256=stored.statement.manifest_sha256,
    )


def tell_refusal(fleet: Runtime, source: str, run: str, reason: str) -> None:
    """Send the event that a run can't be sealed, at most once a day."""
    fleet.events.emit(events.SealRefusal(reason=reason), source, run, quiet_seconds=DAY_SECONDS)


def _is_meant(intent: Intent, statement: Statement) -> bool:
    """Whether a stored seal is what *intent* says."""
    previous = statement.predicate.previous
    return (intent.manifest_sha256, intent.sums_sha256, intent.previous) == (
        statement.manifest_sha256,
        statement.sums_sha256,
        previous.sha256 if previous else None,
    )
