"""The interface of every storage, and the keys that all of them accept."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from workers.errors import Busy

HIDDEN = ".~"
"""Start of the adapters' own names, which keys can't have and lists don't show, such as a lock or `check`'s object."""
_LONGEST_KEY_BYTES = 900  # S3 accepts 1,024; the rest is for the prefix in the URL
_LONGEST_SEGMENT_BYTES = 255  # NAME_MAX of common file systems


Names = list[str]  # spelt out here because a method named list hides the type


class Stored(NamedTuple):
    """One object of a list."""

    key: str
    size: int


class Version(NamedTuple):
    """The version of an object's content; opaque, and only for `replace_if` of the same storage."""

    e_tag: str | None
    version: str | None = None


class Storage(Protocol):
    """Objects that appear whole or not at all; safe to share between threads and processes.

    Every method raises `StorageUnreachable` when the storage fails, and `ValueError` for a key that no adapter would
    take. Never use a key and another one below it ("a" and "a/b"): a directory can't hold both.
    """

    def __hash__(self) -> int:
        """Return a different number for each storage: caches per storage rely on it."""

    def __str__(self) -> str:
        """Return the place in words for a person: a path or URL without secrets."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Store *data* durably unless the key is taken; say whether this call stored it.

        Never overwrites. If the store's answer gets lost and the request is sent again, the result is False although
        this call stored the object. So after False the caller reads the object. If there isn't one (it was deleted, or
        the store is wrong), the caller raises `deleted_meanwhile` and doesn't try again.
        """

    def put_new_file(self, key: str, path: Path) -> bool:
        """Store a file as `put_new` stores data, without holding it in memory."""

    def get(self, key: str) -> bytes | None:
        """Return the whole object, or None."""

    def get_start(self, key: str, size: int) -> bytes | None:
        """Return the first *size* bytes of the object, or all of a shorter one, or None."""

    def open(self, key: str) -> Iterator[bytes] | None:
        """Return the object in chunks of about 1 MiB, or None."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every object below *prefix* in the order of their keys.

        A prefix consists of whole segments, with or without a final slash; "" lists everything.
        """

    def irregular(self, prefix: str) -> Iterator[str]:
        """Yield the key of everything below *prefix* that isn't a plain object: links, pipes, and hidden files.

        Object stores have no such things.
        """

    def children(self, prefix: str) -> Names:
        """Return the sorted names directly below *prefix* that have objects.

        Some S3 servers show a name for a while after its last object was deleted.
        """

    def after(self, prefix: str, name: str) -> str | None:
        """Return the name directly below *prefix* that follows *name* in the order of lists; None at the end.

        After "" comes the first name. This takes one request, however many names there are.
        """

    def delete(self, key: str) -> None:
        """Remove the object; does nothing if it doesn't exist."""

    def get_versioned(self, key: str) -> tuple[bytes, Version] | None:
        """Return the object and its version for `replace_if`, or None."""

    def replace_if(self, key: str, data: bytes, version: Version | None) -> bool:
        """Replace the object if it still has *version*; None means that it must not exist yet.

        Returns True also if the object already holds exactly *data*.
        """

    def check(self) -> None:
        """Raise `StorageUnreachable` unless objects can be written here, and are never overwritten."""


def checked(key: str) -> str:
    """Return *key*; raises `ValueError` unless every storage keeps it unchanged."""
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
    """Return the fault for a *key* that was taken when an object was stored, and has no object when it is read."""
    return Busy(f"{key} was taken, and nothing is there now: try again.")
