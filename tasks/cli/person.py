"""The person who typed a command, for records that name a person."""

import getpass
import os
import socket


def typist() -> str:
    """Return the user and the machine, as `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user in a container may have no name
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
