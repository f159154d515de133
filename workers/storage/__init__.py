"""Where evidence is kept: small write-once objects under '/'-separated keys, chosen by URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from workers.errors import StorageUnreachable
from workers.storage.local import LocalStorage
from workers.storage.protocol import Names, Storage, Stored, Version, deleted_meanwhile

__all__ = ["Names", "Storage", "Stored", "Version", "deleted_meanwhile", "open_storage"]


def open_storage(url: str) -> Storage:
    """Return the storage that *url* names (file, s3, gs, az or memory); sends nothing yet."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme in ("s3", "gs", "az", "memory"):
        # Imported only here: obstore is slow to load, and local storage doesn't need it.
        from workers.storage.objects import ObjectStorage

        return ObjectStorage(url)
    raise StorageUnreachable(
        f"No storage has a {parts.scheme!r} URL: PAGETRAIL_STORAGE_URL is file, s3, gs or az."
    )
