"""Runs a program that ends with the process that started it, however that one ends, on Linux and macOS.

    python leash.py GRACE_SECONDS LEASH_FD[,HELD_FD...] PROGRAM [ARGUMENT...]

The program takes this process's place: its pid and its exit status are what the starter sees. A forked watcher waits
until nobody holds the other end of the pipe LEASH_FD any more, then ends the program: SIGTERM, and SIGKILL after the
grace. As long as the program lives the watcher keeps the HELD_FDs open (locks, leashes of programs that must end
later); the program has none of them. Imports the standard library only, to start fast.
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
    # A process that ended is nobody's parent; unlike the pid itself, this can't be somebody else by now.
    return os.getppid() == program


if __name__ == "__main__":
    main()
