"""Make sure that Ctrl-C, and the signals that end a fleet, end the code that runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.1


@contextmanager
def unswallowed(handler: Callable[..., Any] = signal.default_int_handler) -> Iterator[None]:
    """Send SIGINT to *handler* again if the KeyboardInterrupt was raised in a finalizer.

    Python drops every exception that a finalizer raises, so Ctrl-C would have no effect.
    """

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            hook(lost)
            return
        signal.signal(signal.SIGINT, handler)
        main = threading.main_thread().ident
        again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook


@contextmanager
def until_signalled() -> Iterator[None]:
    """Leave the block at the first signal to end. Later signals are ignored until everything has ended."""

    def end(*_: object) -> NoReturn:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        with unswallowed(end):
            yield
    except KeyboardInterrupt:  # `end` raised it to leave the block
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
