"""Objects in S3, Google Cloud Storage, Azure or memory, written with obstore's conditional puts."""

import mmap
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zlib import crc32

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import MemoryStore, from_url

from workers.errors import StorageUnreachable
from workers.settings.secret_files import secret_file
from workers.settings.urls import is_loopback, is_web_address
from workers.storage.faults import is_conflict, is_missing_bucket, malformed_fault, store_fault
from workers.storage.protocol import HIDDEN, Names, Stored, Version, below, checked

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_CHUNK_BYTES = 8 << 20  # each chunk is a request, so chunks are larger than on a disk
_LIST_CHUNK = 1_000  # objects on one page of an S3 list
_REQUEST_TIMEOUT = timedelta(seconds=15)
_UPLOAD_TIMEOUT = timedelta(minutes=30)  # 1 GiB at 5 Mbit/s
# Some stores, such as Google's, accept one change per object and second. The waits together are longer than that.
_RETRY: "RetryConfig" = {
    "backoff": {"init_backoff": timedelta(seconds=0.4), "max_backoff": timedelta(seconds=3)},
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=10),
}
_CONFLICT_WAITS = (0.2, 0.5, 1.0)  # seconds before a put that met another one is sent again
_CHECK_KEYS = 256
_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "GOOGLE_BASE_URL",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
)
_KEYS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_CLIENT_SECRET"),
}
"""Variables that may also be files in the secrets directory; the environment overrides these files."""
_OURS = {
    # A bucket with Object Lock refuses every put without a checksum:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
    "s3": {"AWS_CHECKSUM_ALGORITHM": "SHA256"},
}
"""Options that differ from obstore's defaults; the environment overrides them."""


class ObjectStorage:
    """Storage in a bucket; `Storage` describes its methods.

    Credentials and endpoint come from the cloud's standard variables (keys also from secret files with these names),
    never from the URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._name = f"{parts.scheme}://{parts.netloc}{parts.path}"
        if not all(map(is_web_address, _endpoints())):
            raise malformed_fault(self._name)  # obstore would panic and write to stderr
        with self._plain_faults():
            memory = MemoryStore() if parts.scheme == "memory" else None
            self._store: ObjectStore = memory or _connect(url, _REQUEST_TIMEOUT)
            self._bulk: ObjectStore = memory or _connect(url, _UPLOAD_TIMEOUT)

    def __str__(self) -> str:
        return self._name

    def put_new(self, key: str, data: bytes) -> bool:
        return self._create(self._store, checked(key), data)

    def put_new_file(self, key: str, path: Path) -> bool:
        # An empty file can't be mapped. The memory store would keep the mapping, which changes with the file.
        if path.stat().st_size == 0 or isinstance(self._store, MemoryStore):
            return self.put_new(key, path.read_bytes())
        # A multipart upload would overwrite, so this is one conditional put. The file is mapped, so that it takes
        # no memory of this process.
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._create(self._bulk, checked(key), data)

    def get(self, key: str) -> bytes | None:
        found = self.get_versioned(key)
        return found[0] if found else None

    def get_start(self, key: str, size: int) -> bytes | None:
        with self._plain_faults():
            try:
                return bytes(self._store.get_range(checked(key), start=0, end=size))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None
            except BaseError:
                pass  # the object is empty, or the store doesn't know ranges
        whole = self.get(key)
        return None if whole is None else whole[:size]

    def open(self, key: str) -> Iterator[bytes] | None:
        with self._plain_faults():
            size = self._size(checked(key))
        return None if size is None else self._chunks(key, size)

    def list(self, prefix: str) -> Iterator[Stored]:
        # Sorted here, because SeaweedFS, S3's directory buckets and Azure's hierarchical accounts each have their own
        # order. This takes about 300 bytes of memory per object.
        return iter(sorted(self._list(below(prefix))))

    def irregular(self, prefix: str) -> Iterator[str]:
        del prefix
        return iter(())

    def children(self, prefix: str) -> Names:
        start = below(prefix)
        with self._plain_faults():
            found = self._store.list_with_delimiter(start or None)
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        names = {path.rpartition("/")[2] for path in paths}
        return sorted(name for name in names if not name.startswith(HIDDEN))

    def after(self, prefix: str, name: str) -> str | None:
        start = below(prefix)
        inside = f"{start}/" if start else ""
        # "0" is the character after "/", so this key comes after everything below the name.
        edge = f"{inside}{checked(name)}0" if name else None
        for stored in self._list(start, edge):
            if edge and stored.key <= edge:
                raise StorageUnreachable(
                    f"{self._name} always lists from the beginning: use a store that can begin a list "
                    "after a given key."
                )
            return stored.key.removeprefix(inside).partition("/")[0]
        return None

    def delete(self, key: str) -> None:
        with self._plain_faults():
            try:
                self._store.delete(checked(key))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)

    def get_versioned(self, key: str) -> tuple[bytes, Version] | None:
        with self._plain_faults():
            try:
                found = self._store.get(checked(key))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None
            return bytes(found.bytes()), Version(found.meta["e_tag"], found.meta["version"])

    def replace_if(self, key: str, data: bytes, version: Version | None) -> bool:
        if version is None:
            return self.put_new(key, data)
        mode: Any = {name: value for name, value in version._asdict().items() if value is not None}
        with self._plain_faults():
            try:
                self._store.put(checked(key), data, mode=mode, use_multipart=False)
            except (PreconditionError, AlreadyExistsError, FileNotFoundError):
                # After a lost answer, the retry meets the object that this call stored.
                return self.get(key) == data
        return True

    def check(self) -> None:
        key = _check_key()
        # If the object already exists, one refused put is proof enough.
        if self._create(self._store, key, b"") and self._create(self._store, key, b""):
            raise StorageUnreachable(
                f"{self._name} overwrites objects that it should keep: use a store with conditional writes."
            )
        self.get("missing")  # without the right to list, S3 answers 403 instead of 404
        self.children("missing")

    def _create(self, store: "ObjectStore", key: str, data: bytes | mmap.mmap) -> bool:
        waits = list(_CONFLICT_WAITS)
        while True:
            with self._plain_faults():
                try:
                    store.put(key, data, mode="create", use_multipart=False)
                except AlreadyExistsError as error:
                    # S3 answers 409 to a put that meets another one, and that other put may still fail.
                    if not is_conflict(error) or self._size(key) is not None:
                        return False
                    if not waits:
                        raise
                else:
                    return True
            time.sleep(waits.pop(0))

    def _size(self, key: str) -> int | None:
        try:
            return self._store.head(key)["size"]
        except (BaseError, OSError):
            try:  # the answer to a HEAD has no body with the reason
                self._store.get_range(key, start=0, end=1)
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None
            raise

    def _chunks(self, key: str, size: int) -> Iterator[bytes]:
        # Ranges instead of one long answer, because each has its own time-out and is repeated by itself.
        for start in range(0, size, _CHUNK_BYTES):
            with self._plain_faults():
                chunk = self._store.get_range(key, start=start, end=min(start + _CHUNK_BYTES, size))
            yield bytes(chunk)

    def _list(self, prefix: str, edge: str | None = None) -> Iterator[Stored]:
        with self._plain_faults():
            for chunk in self._store.list(prefix or None, offset=edge, chunk_size=_LIST_CHUNK):
                for entry in chunk:
                    if not entry["path"].startswith(HIDDEN):
                        yield Stored(entry["path"], entry["size"])

    @contextmanager
    def _plain_faults(self) -> Iterator[None]:
        try:
            yield
        # obstore's own words can hold a signed request, so they must not travel with the fault.
        except (BaseError, OSError) as error:
            raise store_fault(self._name, error) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # a BaseException that pyo3 doesn't export
                raise
            raise malformed_fault(self._name) from None


def _connect(url: str, timeout: timedelta) -> "ObjectStore":
    options: ClientConfig = {"timeout": timeout, "connect_timeout": timedelta(seconds=3)}
    endpoints = _endpoints()
    on_loopback = endpoints and all(is_loopback(urlsplit(one).hostname or "") for one in endpoints)
    if on_loopback or os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1"):
        options["allow_http"] = True
    config: Any = _config(url)  # its type depends on the URL's cloud
    return from_url(url, config=config, client_options=options, retry_config=_RETRY)


def _check_key() -> str:
    """Return the key with which this process checks the store.

    There are only _CHECK_KEYS such keys, so few objects are left behind, and few processes share a key.
    """
    name = f"{socket.gethostname()}:{os.getpid()}"
    return f"{HIDDEN}check.{crc32(name.encode()) % _CHECK_KEYS:02x}"


def _endpoints() -> list[str]:
    return [os.environ[name] for name in _ENDPOINTS if os.environ.get(name)]


def _config(url: str) -> dict[str, str]:
    """Return the options of the store that *url* names: our own, and keys from secret files.

    obstore takes all other options from the environment, which also overrides these.
    """
    scheme = urlsplit(url).scheme
    files = {name: secret_file(name) for name in _KEYS.get(scheme, ())}
    ours = {**_OURS.get(scheme, {}), **files}
    return {name.lower(): text for name, text in ours.items() if text and name not in os.environ}


def _refuse_missing_bucket(error: FileNotFoundError) -> None:
    """Raise *error* again unless only the object is missing."""
    if is_missing_bucket(error):
        raise error
