"""Loopback ports for tests to give to programs that can't choose one themselves."""

import os
import socket
from contextlib import suppress
from itertools import cycle

_SLICE = 400
_FIRST = 20_000 + _SLICE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Below what systems hand out by themselves (from 32768 on Linux, 49152 on macOS), and apart from the other test
# processes': nobody takes a port between its being found free and its use.
_ports = cycle(range(_FIRST, _FIRST + _SLICE))


def free_port() -> int:
    """Return a loopback port that is free, and that no other call gets soon."""
    for port in _ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("the ports never end")
