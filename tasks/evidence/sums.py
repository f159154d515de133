"""`SHA256SUMS`: the digest of every object of a run, in the form that `sha256sum -c` checks."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.evidence.compression import sha256
from tasks.evidence.layout import manifest_key, page_key, plan_key, run_prefix
from tasks.reading.pages import group_name
from tasks.reading.sealed import ListedPage, Manifest


def sums(manifest: Manifest, text: bytes) -> bytes:
    """Return the content of a run's `SHA256SUMS`; *text* is that of the manifest's file.

    It follows from the manifest alone, so that everyone writes the same. Names are relative to the run's directory.
    """
    prefix = f"{run_prefix(manifest.source, manifest.run)}/"
    digests = {key.removeprefix(prefix): digest for key, digest in _objects(manifest, text)}
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _objects(manifest: Manifest, text: bytes) -> Iterator[tuple[str, str]]:
    source, run = manifest.source, manifest.run
    yield plan_key(source, run), manifest.plan_sha256
    yield manifest_key(source, run), sha256(text)
    for page_id, page in listed_pages(manifest).items():
        yield page_key(source, run, page_id), page.sha256
    for resource in manifest.resources.values():
        yield from ((part.key, part.sha256) for part in resource.artifacts)
    yield from ((each.key, each.sha256) for each in (*manifest.orphans, *manifest.unreadable))


def listed_pages(manifest: Manifest) -> dict[str, ListedPage]:
    """Return every page that a manifest lists, by its id."""
    return {
        f"{each.feed}/{group_name(each.window, each.pass_, each.size)}/{page.number}": page
        for resource in manifest.resources.values()
        for each in resource.windows
        for page in each.pages
    }
