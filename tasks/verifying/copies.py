"""One stored run as rules look at it: each document and each page is read once, when a rule needs it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from typing import IO

import msgspec

from tasks.evidence import documents
from tasks.evidence.compression import sha256
from tasks.evidence.erasure_records import Erasure
from tasks.evidence.erasures import Purged
from tasks.evidence.layout import manifest_key, page_key, plan_key, run_prefix
from tasks.evidence.manifests import make_manifest, resources_of, stored_manifest
from tasks.evidence.replay import Evidence, gather
from tasks.evidence.sums import listed_pages
from tasks.reading.answers import Answer
from tasks.reading.pages import Page
from tasks.reading.plans import Plan
from tasks.reading.sealed import Envelope, Manifest, StoredManifest
from workers.signing.keys import PublicKeys
from workers.storage import Storage

_RECIPE = msgspec.json.Decoder(tuple[str, str, Envelope])


class NotThere(Exception):
    """What a rule looks at can't be read. Another rule names that."""


class RunCopy:
    """A run of a source, in storage."""

    def __init__(
        self,
        storage: Storage,
        source: str,
        run: str,
        files: ExitStack,
        keys: PublicKeys | None = None,
    ) -> None:
        self.storage, self.source, self.run = storage, source, run
        self.sizes = {each.key: each.size for each in storage.list(run_prefix(source, run))}
        self.purged = Purged(storage, source, keys)
        self.keys = keys  # that check signatures; None if they are not to be checked
        self._files = files

    @property
    def manifest_key(self) -> str:
        return manifest_key(self.source, self.run)

    @property
    def plan_key(self) -> str:
        return plan_key(self.source, self.run)

    @property
    def ended(self) -> bool:
        """Whether the run has a manifest."""
        return self.manifest_key in self.sizes

    def text(self, key: str) -> bytes:
        """Return a document's text, cut if it is far too long. Raises `NotThere` if it is gone."""
        text = documents.stored(self.storage, key)
        if text is None:
            raise NotThere(key)
        return text

    @cached_property
    def manifest_text(self) -> bytes:
        return self.text(self.manifest_key)

    @cached_property
    def manifest(self) -> StoredManifest:
        try:
            return stored_manifest(self.manifest_text, self.source, self.run)
        except ValueError:
            raise NotThere(self.manifest_key) from None

    @cached_property
    def plan(self) -> Plan:
        try:
            return documents.read(self.text(self.plan_key), Plan, source=self.source, run=self.run)
        except ValueError:
            raise NotThere(self.plan_key) from None

    @cached_property
    def before(self) -> StoredManifest | Erasure | None:
        """The manifest that this run follows, or the record that took it; None for a run that follows none."""
        previous = self.plan.previous
        if previous is None:
            return None
        if record := self.purged.naming(previous.run):
            return record
        text = documents.stored(self.storage, manifest_key(self.source, previous.run))
        if text is None:
            raise NotThere(manifest_key(self.source, previous.run))
        try:
            return stored_manifest(text, self.source, previous.run)
        except ValueError:
            raise NotThere(manifest_key(self.source, previous.run)) from None

    @cached_property
    def _envelopes(self) -> IO[bytes]:
        """A file with the recipes of the pages that were read back: they would take much memory."""
        return self._files.enter_context(tempfile.TemporaryFile())

    def envelopes(self) -> Iterator[tuple[Page, Envelope]]:
        """Yield each page that was read back, with its recipe."""
        _ = self.evidence
        self._envelopes.seek(0)
        for line in self._envelopes:
            page, payload, envelope = _RECIPE.decode(line)
            yield Page.parse(page, payload), envelope

    @cached_property
    def evidence(self) -> Evidence:
        """The run read back from the pages that its manifest lists."""

        def look(page: Page, answer: Answer) -> None:
            assert answer.envelope
            line = msgspec.json.encode((page.id, page.payload(), answer.envelope))
            self._envelopes.write(line + b"\n")

        only = listed_pages(self.manifest)
        return self._files.enter_context(
            gather(self.plan, self.storage, only=only, look=look, strict=True)
        )

    @cached_property
    def digests(self) -> dict[str, tuple[str, int] | None]:
        """The digest and the size of each listed page, by its key; None for a page that is gone."""
        found: dict[str, tuple[str, int] | None] = {}
        for page_id in listed_pages(self.manifest):
            key = page_key(self.source, self.run, page_id)
            now = self.evidence.objects.get(page_id)
            if now is None and (blob := self.storage.get(key)) is not None:
                now = sha256(blob), len(blob)  # the plan does not lead to this page
            found[key] = now
        return found

    @cached_property
    def unharmed(self) -> bool:
        """Whether each listed page is there and is the one that was listed. If not, counting says nothing more."""
        listed = listed_pages(self.manifest)
        keys = {page_key(self.source, self.run, page_id): page for page_id, page in listed.items()}
        return all(self.digests[key] == (page.sha256, page.bytes) for key, page in keys.items())

    @cached_property
    def again(self) -> Manifest:
        """The manifest that ending the run again would give. What only Redis knew is taken from the stored one."""
        if not self.unharmed:
            raise NotThere(self.manifest_key)
        sealed = self.manifest
        requests = {name: each.requests for name, each in sealed.resources.items()}
        made = resources_of(self.evidence, requests, sealed.ended)
        for name, each in made.items():
            if name in sealed.resources:  # the artifacts have a rule of their own
                artifacts = sealed.resources[name].artifacts
                made[name] = msgspec.structs.replace(each, artifacts=artifacts)
        return make_manifest(
            self.evidence,
            made,
            ended=sealed.ended,
            plan_sha256=sha256(self.text(self.plan_key)),
            sealed_at=sealed.sealed_at,
            orphans=sealed.orphans,
        )
