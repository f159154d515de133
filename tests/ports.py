"""Loopback ports for programs that can't choose one themselves."""

import os
import socket
from contextlib import suppress
from itertools import cycle

_SLICE = 400
_FIRST = 20_000 + _SLICE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Below the ports that systems assign (from 32768 on Linux, 49152 on macOS), and different for each test process.
# So nobody takes a port between the check that it is free and its use.
_ports = cycle(range(_FIRST, _FIRST + _SLICE))


def free_port() -> int:
    """Return a free loopback port that no other call gets soon."""
    for port in _ports:
        # A port that is in use is passed over.
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("the ports never end")
