"""Objects as files in one directory. A file is written aside, made durable, and then linked if its name is free."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from workers.errors import Busy, StorageConflict, StorageUnreachable
from workers.storage.faults import directory_fault, system_fault
from workers.storage.protocol import HIDDEN, Names, Stored, Version, below, checked

_CHUNK_BYTES = 1 << 20
_LEFTOVER_SECONDS = 24 * 3600.0  # no write takes this long, so an older file was left by a crash
_LOCK_SECONDS = 10.0  # a lock is held for milliseconds, unless its holder is frozen
_REMEMBERED_DIRECTORIES = 10_000
_PLACINGS = 100  # each failed attempt means another deletion at the same moment
_CHECK_NAME = f"{HIDDEN}check"
_LOCK = f"{HIDDEN}lock"

Entries = list[os.DirEntry[str]]


class LocalStorage:
    """Storage in a directory of a file system with hard links; `Storage` describes its methods."""

    def __init__(self, root: Path, *, mode: int = 0o640) -> None:
        self._root = root
        self._mode = mode
        self._settled: set[Path] = set()  # directories whose own entry is known to be on disk

    def __str__(self) -> str:
        return str(self._root)

    def put_new(self, key: str, data: bytes) -> bool:
        return self._create(self._path(key), lambda file: file.write(data))

    def put_new_file(self, key: str, path: Path) -> bool:
        # Copied, not linked: a later write to the spooled file must not reach the object.
        with path.open("rb") as source:
            return self._create(
                self._path(key), lambda file: shutil.copyfileobj(source, file, _CHUNK_BYTES)
            )

    def get(self, key: str) -> bytes | None:
        return self._read(key, lambda path: path.read_bytes())

    def get_start(self, key: str, size: int) -> bytes | None:
        def start(path: Path) -> bytes:
            with path.open("rb", buffering=0) as file:
                return file.read(size)

        return self._read(key, start)

    def _read(self, key: str, content: Callable[[Path], bytes]) -> bytes | None:
        path = self._path(key)
        with _plain_faults(path):
            try:
                # A pipe in the place of an object would be read forever.
                if path.is_file():
                    return content(path)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                pass  # it was deleted, or it is a part of other keys
            self._check_root()
            return None

    def open(self, key: str) -> Iterator[bytes] | None:
        path = self._path(key)
        with _plain_faults(path):
            if path.is_file():
                return self._chunks(path)
            self._check_root()
            return None

    def list(self, prefix: str) -> Iterator[Stored]:
        start = below(prefix)
        return self._walk(self._root / start, f"{start}/" if start else "")

    def irregular(self, prefix: str) -> Iterator[str]:
        start = below(prefix)
        directories = [self._root / start]
        while directories:
            directory = directories.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
                for entry in entries:
                    if not _is_plain(entry):
                        yield str(Path(entry.path).relative_to(self._root))
                    elif entry.is_dir(follow_symlinks=False):
                        directories.append(Path(entry.path))

    def children(self, prefix: str) -> Names:
        directory = self._root / below(prefix)
        # Crashes and deletions leave empty directories. They don't count, because object stores don't have them.
        return sorted(
            entry.name
            for entry in self._entries(directory)
            if not entry.is_dir() or any(True for _ in self._walk(Path(entry.path), ""))
        )

    def after(self, prefix: str, name: str) -> str | None:
        entries = {_sort_name(entry): entry for entry in self._entries(self._root / below(prefix))}
        edge = f"{checked(name)}/" if name else ""
        for later in sorted(each for each in entries if each > edge):
            if not later.endswith("/") or any(True for _ in self._walk(Path(entries[later]), "")):
                return later.removesuffix("/")
        return None

    def delete(self, key: str) -> None:
        path = self._path(key)
        gone = suppress(FileNotFoundError, NotADirectoryError)  # nothing is left to delete
        with _plain_faults(path), gone, self._locked():
            path.unlink()
            _sync_directory(path.parent)
            self._prune(path.parent)

    def get_versioned(self, key: str) -> tuple[bytes, Version] | None:
        data = self.get(key)
        return None if data is None else (data, _version(data))

    def replace_if(self, key: str, data: bytes, version: Version | None) -> bool:
        if version is None:
            return self.put_new(key, data)
        path = self._path(key)
        with _plain_faults(path), self._locked():
            current = self.get(key)
            if current is None or _version(current) != version:
                return current == data
            with self._written(lambda file: file.write(data)) as temporary:
                temporary.replace(path)
            _sync_directory(path.parent)
            return True

    def check(self) -> None:
        """See `Storage.check`; also removes unfinished writes that crashes left."""
        path = self._root / _CHECK_NAME
        self._create(path, lambda file: file.write(b""))
        if self._create(path, lambda file: file.write(b"")):
            raise StorageUnreachable(
                f"The file system of {self._root} overwrites files that it should keep: use another one."
            )
        self.sweep(_LEFTOVER_SECONDS)

    def sweep(self, older_than_seconds: float) -> int:
        """Remove unfinished writes older than *older_than_seconds*; return their number. Safe at any time."""
        limit, swept = time.time() - older_than_seconds, 0
        with (
            _plain_faults(self._aside),
            suppress(FileNotFoundError),  # nothing was ever written
            os.scandir(self._aside) as entries,
        ):
            for entry in entries:
                with suppress(FileNotFoundError):  # its write has ended
                    if entry.stat().st_mtime < limit:
                        Path(entry.path).unlink()
                        swept += 1
        return swept

    @property
    def _aside(self) -> Path:
        # One place for all unfinished writes: evidence never holds one, and a sweep reads one directory.
        return self._root / f"{HIDDEN}new"

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _create(self, path: Path, fill: Callable[[BinaryIO], object]) -> bool:
        with _plain_faults(path):
            self._settle(self._root)
            with self._written(fill) as temporary:
                return self._placed(temporary, path)

    def _placed(self, temporary: Path, path: Path, tries: int = _PLACINGS) -> bool:
        """Link *temporary* durably at *path*; False if that is taken.

        If another process deletes the last object there meanwhile, and the directories with it, they are made again.
        """
        try:
            self._settle(path.parent)
            created = _linked(temporary, path)
            if not created:
                _check_object(path)
            # Also if another call was first: the caller relies on that object, so it must be durable.
            _sync_directory(path.parent)
            return created
        except (FileNotFoundError, NotADirectoryError) as error:
            self._settled.clear()  # a directory was removed, or replaced by a file
            if isinstance(error, NotADirectoryError) or not tries:
                raise
        return self._placed(temporary, path, tries - 1)

    @contextmanager
    def _written(self, fill: Callable[[BinaryIO], object]) -> Iterator[Path]:
        """Yield a durable file that isn't an object yet; it is removed at the end unless it was renamed."""
        temporary = self._aside / uuid4().hex
        try:
            descriptor = self._open_new(temporary)
            with os.fdopen(descriptor, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(descriptor)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _open_new(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(path, flags, self._mode)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            return os.open(path, flags, self._mode)

    def _prune(self, directory: Path) -> None:
        """Remove *directory* and its parents if they are empty, because their names would tell of deleted objects."""
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:
                return
            self._settled.discard(directory)
            directory = directory.parent

    def _settle(self, directory: Path) -> None:
        """Make *directory* and its parents durably. A process does this only once for each."""
        if directory in self._settled:
            return
        if directory == self._root:
            self._make_root()
        else:
            self._settle(directory.parent)
            with suppress(FileExistsError):  # another process made it
                directory.mkdir(mode=0o750)
            # Needed in that case too, because the other process may not have synced it yet.
            _sync_directory(directory.parent)
        if len(self._settled) >= _REMEMBERED_DIRECTORIES:
            self._settled.clear()
        self._settled.add(directory)

    def _make_root(self) -> None:
        missing = [one for one in (self._root, *self._root.parents) if not one.exists()]
        for directory in reversed(missing):
            with suppress(FileExistsError, NotADirectoryError):  # `_check_root` looks at it
                directory.mkdir(mode=0o750)
            _sync_directory(directory.parent)
        self._check_root()

    def _check_root(self) -> None:
        """Raise `StorageUnreachable` if the root or a parent of it is a file: that isn't an empty storage."""
        there = next(one for one in (self._root, *self._root.parents) if one.exists())
        if not there.is_dir():
            raise directory_fault(self._root)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads and processes from changing objects; `Busy` after waiting _LOCK_SECONDS."""
        try:
            descriptor = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, self._mode)
        except NotADirectoryError:
            self._check_root()
            raise
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise Busy(f"Another process holds {self._root / _LOCK}: try again, or end it.")
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)

    def _walk(self, directory: Path, prefix: str) -> Iterator[Stored]:
        # A directory sorts with its slash, as its keys do: "a.b" comes before "a/b".
        with _plain_faults(directory):
            for name, entry in sorted((_sort_name(one), one) for one in self._entries(directory)):
                if name.endswith("/"):
                    yield from self._walk(Path(entry.path), prefix + name)
                else:
                    with suppress(FileNotFoundError):  # deleted since the directory was read
                        yield Stored(prefix + name, entry.stat().st_size)

    def _entries(self, directory: Path) -> Entries:
        with _plain_faults(directory):
            try:
                with os.scandir(directory) as entries:
                    return [entry for entry in entries if _is_plain(entry)]
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                return []

    def _chunks(self, path: Path) -> Iterator[bytes]:
        with _plain_faults(path), path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def _sort_name(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir() else entry.name


def _version(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a plain file or directory. Links are not followed, because they can lead in a circle."""
    kept = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
    return kept and not entry.name.startswith(HIDDEN)


def _linked(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _check_object(path: Path) -> None:
    """Raise unless the taken *path* is an object: a directory, or a link to nothing, isn't one."""
    if not path.is_file():
        path.lstat()  # FileNotFoundError: it was deleted since
        raise FileExistsError(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _plain_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise StorageConflict(
            f"{path} can't be an object: it lies below or above another one; move that one away."
        ) from None
    except OSError as error:
        raise system_fault(path, error) from error
