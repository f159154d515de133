"""Keeps a set of processes running: starts, watches, restarts and ends them. They never outlive it."""

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from workers.errors import Busy, Fault
from workers.machine import leash

log = logging.getLogger("pagetrail.supervisor")

BACKOFF_SECONDS = (1.0, 2.0, 5.0)
"""Waits before a dead process is started again: after its first death in a row, its second, and all later ones."""
STEADY_SECONDS = 30.0
"""After a process has run this long, its next death counts as its first again."""
ORPHAN_SECONDS = 5.0
"""Time that the processes get to end if the supervisor is killed. Unfinished work is delivered again anyway."""
LOG_BYTES = 10_000_000
"""When a process's log reaches this length, it is copied to a file beside it and emptied."""
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running. *ready* says whether it works; *last* means that it ends after all others."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    grace_seconds: float = 35.0
    last: bool = False


class _Kept:
    """A child, its leash and its present process."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.leash, self.end = os.pipe()
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.deaths = 0
        self.start_at: float | None = None


class Supervisor:
    """Runs children in *directory*, which only one supervisor can use at a time; use it as a context.

    The directory's `logs/` has the output of each child in `NAME.log`, and its process id in `NAME.pid` while it runs.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ours = _locked(directory / "up.lock", wait_seconds=0)
        try:
            # The children's watchers hold this lock too. So it is free only after an earlier supervisor's have ended.
            self._theirs = _locked(directory / "fleet.lock", wait_seconds=4 * ORPHAN_SECONDS)
        except Busy:
            os.close(self._ours)
            raise
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *children: Child, within_seconds: float = 60.0) -> None:
        """Start *children* together and return when all are ready; `Fault` if one ends or takes too long."""
        started = [_Kept(child) for child in children]
        with self._lock:
            for kept in started:
                self._kept.append(kept)
                self._spawn(kept)
        deadline = time.monotonic() + within_seconds
        for kept in started:
            while not (kept.child.ready is None or kept.child.ready()):
                if kept.deaths or time.monotonic() > deadline:
                    raise Fault(self._why_not(kept))
                time.sleep(_LOOK_SECONDS)

    def remove(self, name: str) -> None:
        """End the child called *name* and forget it."""
        with self._lock:
            leaving = [kept for kept in self._kept if kept.child.name == name]
            self._kept = [kept for kept in self._kept if kept not in leaving]
        self._end(leaving)

    def pid(self, name: str) -> int | None:
        """Return the present process id of the child called *name*."""
        with self._lock:
            running = {kept.child.name: kept.process for kept in self._kept}
        process = running.get(name)
        return process.pid if process else None

    def wait(self) -> None:
        """Wait until `stop` is called, or a signal raises an exception."""
        self._stopping.wait()

    def stop(self) -> None:
        """End all children, those marked *last* at the end, and free the directory; safe to repeat."""
        self._stopping.set()
        self._thread.join()
        self._end([kept for kept in self._kept if not kept.child.last])
        self._end([kept for kept in self._kept if kept.child.last])
        self._kept.clear()
        if self._ours >= 0:
            os.close(self._theirs)
            # The watchers end a moment after their programs: wait for them too.
            os.close(_locked(self._directory / "fleet.lock", wait_seconds=ORPHAN_SECONDS))
            os.close(self._ours)
            self._ours = -1

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            with self._lock:
                for kept in self._kept:
                    self._look_after(kept)

    def _look_after(self, kept: _Kept) -> None:
        _shorten(self._log(kept.child.name))
        now = time.monotonic()
        if kept.process is not None and kept.process.poll() is not None:
            kept.deaths = 1 if now - kept.started > STEADY_SECONDS else kept.deaths + 1
            wait = BACKOFF_SECONDS[min(kept.deaths, len(BACKOFF_SECONDS)) - 1]
            kept.start_at = now + wait
            log.warning(
                "%s ended (exit %d): it starts again in %g s; its output is in %s",
                kept.child.name,
                kept.process.returncode,
                wait,
                self._log(kept.child.name),
            )
            kept.process = None
            self._name_process(kept)
        if kept.start_at is not None and now >= kept.start_at:
            try:
                self._spawn(kept)
            except OSError as error:  # for example no memory or a full disk, which may pass
                log.warning("%s can't be started (%s)", kept.child.name, error.strerror)
                kept.start_at = now + BACKOFF_SECONDS[-1]

    def _spawn(self, kept: _Kept) -> None:
        child = kept.child
        held = [self._theirs]
        if not child.last:
            held += [other.end for other in self._kept if other.child.last]
        descriptors = [kept.leash, *held]
        leashed = [sys.executable, "-I", "-S", leash.__file__, str(ORPHAN_SECONDS)]
        path = self._log(child.name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with path.open("ab") as output:
            kept.process = subprocess.Popen(
                [*leashed, ",".join(map(str, descriptors)), *child.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **child.env},
                cwd=self._directory,  # Celery imports from here first; it holds no foreign modules
                pass_fds=descriptors,
                start_new_session=True,  # so that Ctrl-C reaches only us, and we end the children
            )
        kept.started, kept.start_at = time.monotonic(), None
        self._name_process(kept)

    def _log(self, name: str) -> Path:
        return self._directory / "logs" / f"{name}.log"

    def _name_process(self, kept: _Kept) -> None:
        file = self._directory / "logs" / f"{kept.child.name}.pid"
        with suppress(OSError):  # the file only informs people
            if kept.process is None:
                file.unlink()
            else:
                file.write_text(f"{kept.process.pid}\n")

    def _end(self, leaving: Sequence[_Kept]) -> None:
        for kept in leaving:
            if kept.process is not None:
                kept.process.terminate()
        since = time.monotonic()
        for kept in leaving:
            if kept.process is not None:
                _reap(kept.process, since + kept.child.grace_seconds - time.monotonic())
                kept.process = None
            self._name_process(kept)
            os.close(kept.end)
            os.close(kept.leash)

    def _why_not(self, kept: _Kept) -> str:
        path = self._log(kept.child.name)
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        words = text.splitlines()[-1][:300].strip() if text else "nothing"
        what = "ended at once" if kept.deaths else "did not become ready"
        return f"{kept.child.name} {what}; the last line of {path} is: {words}"


def _shorten(log: Path) -> None:
    """Copy a long log to a file beside it, and empty it. The process appends, so it continues at the new beginning."""
    with suppress(OSError):  # no room for the copy, or no log yet: the next look tries again
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def _reap(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _locked(path: Path, *, wait_seconds: float) -> int:
    """Return a descriptor that holds the lock *path*; `Busy` if it isn't free within *wait_seconds*."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise Busy(
                    f"A fleet is running in {path.parent} already: end it first, or choose another "
                    "directory with PAGETRAIL_DATA_DIR."
                ) from None
            time.sleep(_LOOK_SECONDS)
        else:
            return descriptor
