"""The form of API keys, and the fingerprint that names a key without showing it."""

from __future__ import annotations

import hashlib
import re

from workers.errors import UsageFault

KEY_LENGTH = 20  # PagerDuty's keys today
SHORTEST_KEY, LONGEST_KEY = 16, 200

_KEY = re.compile(r"[A-Za-z0-9_+-]+")


def fingerprint(region: str, key: str) -> str:
    """Return the 16 hex digits that name a credential without showing it."""
    return hashlib.sha256(f"{region}\n{key}".encode()).hexdigest()[:16]


def plausible_key(text: str) -> None:
    """Raise UsageFault if *text* can't be an API key; the sentence says why and doesn't repeat the text."""
    if _KEY.fullmatch(text) and SHORTEST_KEY <= len(text) <= LONGEST_KEY:
        return
    complaints = {
        "is empty": not text.strip(),
        "has quotes around or in it": any(sign in text for sign in "\"'`‘’“”«»"),
        "has a space or a line break in it": any(sign.isspace() for sign in text),
        "has a letter that no key has": not (text.isascii() and text.isprintable()),
        "has a character other than letters, digits and _ - +": not _KEY.fullmatch(text),
        "looks cut off": len(text) < SHORTEST_KEY,
        "is far too long": len(text) > LONGEST_KEY,
    }
    what = next(words for words, is_so in complaints.items() if is_so)
    raise UsageFault(
        f"This can't be a PagerDuty API key: it {what}. "
        f"Copy the key alone, all {KEY_LENGTH} characters of it, and try again."
    )
