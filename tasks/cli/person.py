"""Who gives a command, for the records that name a person."""

import getpass
import os
import socket


def typist() -> str:
    """Return who types: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user needs no name
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
