"""Remembers answers for a moment, because the same questions are asked again and again."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Answers by key, each at most *seconds* old. Safe to share between threads, though several may read at once."""

    def __init__(self, read: Callable[[str], T], seconds: float, most: int = 4096) -> None:
        """Get unknown answers from *read*; keep at most *most* of them."""
        self._read = read
        self._seconds = seconds
        self._most = most
        self._answers: dict[str, tuple[float, T]] = {}

    def get(self, key: str) -> T:
        """Return the answer for *key*. Errors of *read* are passed on and not remembered."""
        known = self._answers.get(key)
        now = time.monotonic()
        if known is not None and now - known[0] < self._seconds:
            return known[1]
        answer = self._read(key)
        if len(self._answers) >= self._most:
            self._answers.clear()
        self._answers[key] = (now, answer)
        return answer

    def forget(self) -> None:
        """Forget all answers."""
        self._answers.clear()
