"""Answers that are remembered for a moment."""

from collections.abc import Callable
from typing import Any

import pytest

from workers.state import recent
from workers.state.recent import Recent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the monotonic clock."""
    monkeypatch.setattr(recent.time, "monotonic", lambda: now[0])
    now = [0.0]

    def at(seconds: float) -> None:
        now[0] = seconds

    return at


def test_an_answer_is_remembered_for_its_seconds_and_not_longer(
    clock: Callable[[float], None],
) -> None:
    asked: list[str] = []
    memory = Recent(lambda key: asked.append(key) or len(asked), 2.0)
    assert [memory.get("a"), memory.get("a"), memory.get("b")] == [1, 1, 2]
    clock(1.9)
    assert memory.get("a") == 1
    clock(2.0)
    assert memory.get("a") == 3


def test_a_forgotten_answer_is_asked_for_again() -> None:
    asked: list[str] = []
    memory = Recent(lambda key: asked.append(key) or len(asked), 60.0)
    memory.get("a")
    memory.forget()
    assert memory.get("a") == 2


def test_a_failure_is_not_remembered() -> None:
    answers: list[Any] = [ValueError("away"), 7]

    def read(_: str) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    memory = Recent(read, 60.0)
    with pytest.raises(ValueError, match="away"):
        memory.get("a")
    assert memory.get("a") == 7


def test_memory_is_bounded() -> None:
    memory = Recent(str.upper, 60.0, most=10)
    for number in range(1000):
        memory.get(str(number))
    assert len(memory._answers) <= 10
