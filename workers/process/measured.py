"""Wraps a storage to time its calls and count its failures, for the metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.process import metrics
from workers.storage import Names, Storage, Stored, Version

for _operation in ("put", "put_file", "get", "children", "delete", "replace"):
    # Shown as 0 from the start, so that Prometheus sees the first error as an increase.
    metrics.storage_errors(_operation)


@contextmanager
def _call(operation: str) -> Iterator[None]:
    errors, seconds = metrics.storage_errors(operation), metrics.storage_seconds(operation)
    with errors.count_exceptions(BaseException), seconds.time():
        yield


class MeasuredStorage:
    """Passes every call on to another storage. Streams are not timed, because their readers set the pace."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __str__(self) -> str:
        return str(self._storage)

    def put_new(self, key: str, data: bytes) -> bool:
        with _call("put"):
            return self._storage.put_new(key, data)

    def put_new_file(self, key: str, path: Path) -> bool:
        with _call("put_file"):
            return self._storage.put_new_file(key, path)

    def get(self, key: str) -> bytes | None:
        with _call("get"):
            return self._storage.get(key)

    def get_start(self, key: str, size: int) -> bytes | None:
        with _call("get"):
            return self._storage.get_start(key, size)

    def open(self, key: str) -> Iterator[bytes] | None:
        return self._storage.open(key)

    def list(self, prefix: str) -> Iterator[Stored]:
        return self._storage.list(prefix)

    def irregular(self, prefix: str) -> Iterator[str]:
        return self._storage.irregular(prefix)

    def children(self, prefix: str) -> Names:
        with _call("children"):
            return self._storage.children(prefix)

    def after(self, prefix: str, name: str) -> str | None:
        with _call("children"):
            return self._storage.after(prefix, name)

    def delete(self, key: str) -> None:
        with _call("delete"):
            self._storage.delete(key)

    def get_versioned(self, key: str) -> tuple[bytes, Version] | None:
        with _call("get"):
            return self._storage.get_versioned(key)

    def replace_if(self, key: str, data: bytes, version: Version | None) -> bool:
        with _call("replace"):
            return self._storage.replace_if(key, data, version)

    def check(self) -> None:
        self._storage.check()
