"""Where evidence is kept: small write-once objects under '/'-separated keys, chosen by URL."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from workers.errors import Busy, StorageUnreachable

# Names that start so are the adapters' own (unfinished writes, a lock, the write probe):
# no key has one, no list shows one.
HIDDEN = ".~"
_LONGEST_KEY_BYTES = 900  # S3 takes 1,024; the rest is left to the prefix in the URL
_LONGEST_SEGMENT_BYTES = 255  # NAME_MAX of common file systems


Names = list[str]  # spelt out here because a method named list hides the type


class Stored(NamedTuple):
    """One object of a list."""

    key: str
    size: int


class Version(NamedTuple):
    """Which content an object had; opaque, only good for `replace_if` of the same storage."""

    e_tag: str | None
    version: str | None = None


class Storage(Protocol):
    """Objects that appear whole or not at all; safe to share between threads and processes.

    Every method raises `StorageUnreachable` when the storage can't do its part, and `ValueError`
    for a key that no adapter would take. Never use a key and another one below it ("a" and "a/b"):
    a directory can't hold both.
    """

    def __hash__(self) -> int:
        """Return the same for one storage only: what is cached per storage relies on it."""

    def __str__(self) -> str:
        """Return where it is, for a person: a path or URL without a secret in it."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Store *data* durably unless the key is taken; say whether this call stored it.

        Never overwrites. False can follow this call's own success, when the answer got lost and the request was sent
        again: a caller that is told False reads what is there. If nothing is (it was deleted, or the store is wrong),
        the caller raises `deleted_meanwhile` instead of trying on.
        """

    def put_new_file(self, key: str, path: Path) -> bool:
        """Do the same with a file's content, without holding it in memory."""

    def get(self, key: str) -> bytes | None:
        """Return the whole object, None if there is none."""

    def open(self, key: str) -> Iterator[bytes] | None:
        """Return the object in chunks of about 1 MiB, None if there is none."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every object below *prefix* in the order of their keys.

        A prefix is whole segments, with or without a final slash; "" is everything.
        """

    def children(self, prefix: str) -> Names:
        """Return the sorted names directly below *prefix* under which there is an object.

        Some S3 servers go on showing a name for a while when its last object was deleted.
        """

    def after(self, prefix: str, name: str) -> str | None:
        """Return the first name directly below *prefix* that lists give after everything of *name*; None at the end.

        After "" comes the first name. It costs one request, however many names there are.
        """

    def delete(self, key: str) -> None:
        """Remove the object; done as well if there is none."""

    def get_versioned(self, key: str) -> tuple[bytes, Version] | None:
        """Return the object and its version for `replace_if`, None if there is none."""

    def replace_if(self, key: str, data: bytes, version: Version | None) -> bool:
        """Replace the object if it still has *version*; None stands for no object.

        Says whether it was replaced, or holds exactly *data* already.
        """

    def check(self) -> None:
        """Raise `StorageUnreachable` unless objects can be written, and never overwritten, here."""


def checked(key: str) -> str:
    """Return *key*, or raise `ValueError` unless every storage keeps it as it is."""
    segments = key.split("/")
    if len(key.encode()) > _LONGEST_KEY_BYTES or any(map(_unfit, segments)):
        raise ValueError(f"not a storage key: {key[:80]!r}")
    return key


def _unfit(segment: str) -> bool:
    return (
        segment in ("", ".", "..")
        or segment.startswith(HIDDEN)
        or len(segment.encode()) > _LONGEST_SEGMENT_BYTES
        or any(not (" " <= character != "\x7f") or character == "\\" for character in segment)
    )


def below(prefix: str) -> str:
    """Return *prefix* checked and without its final slash; "" stays "" and means everything."""
    return checked(prefix.rstrip("/")) if prefix else ""


def deleted_meanwhile(key: str) -> Busy:
    """Return what is wrong where *key* was taken when an object was put, and has nothing when it is read."""
    return Busy(f"{key} was taken, and nothing is there now: try again.")


def open_storage(url: str) -> Storage:
    """Return the storage that *url* names (file, s3, gs, az or memory); sends nothing yet."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        from workers.storage.local import LocalStorage

        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme in ("s3", "gs", "az", "memory"):
        # Loaded when needed: obstore is large, and local storage does without it.
        from workers.storage.objects import ObjectStorage

        return ObjectStorage(url)
    raise StorageUnreachable(
        f"No storage has a {parts.scheme!r} URL: PAGETRAIL_STORAGE_URL is file, s3, gs or az."
    )
