"""What a setting is: its default, its meaning, and how its text becomes a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import msgspec

from workers.errors import SettingsFault

Read = Callable[[str], object]
"""Returns the value of a text. Its `ValueError` gives a reason that repeats no secret; msgspec's error gives none."""


class Secret:
    """A text that no representation shows. It isn't a dataclass, because `asdict` would unpack it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Secret('**********')"


@dataclass(frozen=True, slots=True)
class Declared:
    """What is known of a setting.

    *allowed* completes the sentence "... must be". Messages repeat a value only if it may be *shown*.
    """

    meaning: str
    allowed: str
    read: Read
    shown: bool

    def value(self, variable: str, text: str) -> object:
        """Return the value of *text*; `SettingsFault` if it isn't allowed."""
        try:
            return self.read(text)
        except msgspec.ValidationError:
            reason = ""
        except ValueError as error:
            reason = str(error)
        # Outside of the block above: the errors can hold a secret, so they must not travel with the fault.
        raise SettingsFault(self._sentence(variable, text, reason))

    def _sentence(self, variable: str, text: str, reason: str) -> str:
        if self.shown:
            reason = f"it is {text[:60]!r}"
        sentence = f"{variable} must be {self.allowed}"
        return f"{sentence}; {reason}." if reason else f"{sentence}."


def setting(
    default: object, meaning: str, allowed: str, read: Read = str, *, shown: bool = True
) -> Any:
    """Declare a setting. A *default* that can be called makes the value."""
    given: Any = {"default_factory": default} if callable(default) else {"default": default}
    return field(**given, metadata={"declared": Declared(meaning, allowed, read, shown)})


def secret(meaning: str, allowed: str, read: Callable[[str], str]) -> Any:
    """Declare a setting that is unset by default, and whose value is a `Secret`."""
    return setting(None, meaning, allowed, lambda text: Secret(read(text)), shown=False)


def number(default: float, meaning: str, least: float, most: float) -> Any:
    """Declare a number. It is a whole number if its default is."""
    kind = "a whole number" if isinstance(default, int) else "a number"
    return setting(
        default, meaning, f"{kind} from {least} to {most}", limited(type(default), least, most)
    )


def limited(kind: type, least: float, most: float) -> Read:
    """Return what reads a number from *least* to *most*."""
    return partial(_converted, Annotated[kind, msgspec.Meta(ge=least, le=most)])


def matching(pattern: str) -> Callable[[str], str]:
    """Return what reads a text that *pattern* describes as a whole."""

    return lambda text: _allowed(text, ok=re.fullmatch(pattern, text) is not None)


def truth(text: str) -> object:
    """Return whether *text* says true."""
    return _converted(bool, text)


def one_of(*names: str) -> Read:
    """Return what reads one of *names*, in large or small letters."""
    return lambda text: _allowed(text.upper(), ok=text.upper() in names)


def _allowed(text: str, *, ok: bool) -> str:
    if not ok:
        raise ValueError("")
    return text


def _converted(kind: Any, text: str) -> object:
    return msgspec.convert(text.strip(), kind, strict=False)
