"""Runs a program and ends it when its starter ends, however the starter ends. For Linux and macOS.

    python leash.py GRACE_SECONDS LEASH_FD[,HELD_FD...] PROGRAM [ARGUMENT...]

The program replaces this process, so the starter sees the program's pid and exit status. A forked watcher waits until
no process holds the other end of the pipe LEASH_FD. Then it ends the program with SIGTERM, and with SIGKILL after
GRACE_SECONDS. As long as the program lives, the watcher (not the program) keeps the HELD_FDs open: locks, and leashes
of programs that must end later. This module imports only the standard library, so that it starts fast.
"""

import os
import select
import signal
import sys
import time

_LOOK_SECONDS = 1.0


def main() -> None:
    """Become the program named on the command line."""
    grace, descriptors, *argv = sys.argv[1:]
    leash, *held = map(int, descriptors.split(","))
    for descriptor in (leash, *held):
        os.set_inheritable(descriptor, False)
    program = os.getpid()
    if os.fork() == 0:
        _watch(program, leash, float(grace))
        os._exit(0)
    os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted


def _watch(program: int, leash: int, grace_seconds: float) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while _lives(program) and not select.select([leash], [], [], _LOOK_SECONDS)[0]:
        pass
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, _LOOK_SECONDS)):
        if _lives(program):
            os.kill(program, number)
        until = time.monotonic() + seconds
        while _lives(program) and time.monotonic() < until:
            time.sleep(0.05)


def _lives(program: int) -> bool:
    # When the program ends, this watcher gets another parent. The program's pid may then belong to another process.
    return os.getppid() == program


if __name__ == "__main__":
    main()
