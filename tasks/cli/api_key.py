"""Read an API key from a hidden prompt, a file or stdin, but never from an argument."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from workers.errors import UsageFault
from workers.pagerduty.keys import plausible_key

_MOST_BYTES = 4_096
"""Keys are shorter than this. A longer file is the wrong file, and we don't read the rest of it."""

key_file_option = click.option(
    "--key-file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Read the API key from FILE (- for stdin) instead of asking for it.",
)


def read_key(key_file: Path | None) -> str:
    """Return the key without a newline at its end. Raises `UsageFault` if the text can't be a key."""
    if key_file is None and sys.stdin.isatty():
        key = str(click.prompt("PagerDuty API key (not shown)", hide_input=True, err=True))
    else:
        key = _text(key_file)
    plausible_key(key)
    return key


def _text(key_file: Path | None) -> str:
    try:
        if key_file is None or str(key_file) == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with key_file.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageFault(
            f"{key_file} can't be read ({error.strerror}): name another file."
        ) from None
    if len(data) > _MOST_BYTES:
        raise UsageFault("This API key is far too long: give the key alone.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageFault("This API key is not text: give the key alone.") from None
    return text.removesuffix("\n").removesuffix("\r")
