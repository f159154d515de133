"""Runs actors in every order of their steps. An actor stops after each call to a storage, and before each read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from workers.storage import Storage

_SECONDS = 20.0


class Died(BaseException):
    """The process of an actor was killed between two steps."""


class Actor:
    """One process. It does a step in its own thread whenever it is told to."""

    def __init__(self, act: Callable[[Storage], object], storage: Storage) -> None:
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._dies = False
        self.ended = False
        self.died = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(act, _Stopping(storage, self)))
        self._thread.daemon = True
        self._thread.start()

    def step(self, *, dies: bool = False) -> None:
        """Continue to the next stop, or die at this one."""
        self._dies = dies
        self._go.release()
        assert self._stopped.acquire(timeout=_SECONDS), "an actor waits for another"
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Wait for the next step."""
        self._stopped.release()
        self._wait()

    def _wait(self) -> None:
        assert self._go.acquire(timeout=_SECONDS), "nobody lets this actor go on"
        if self._dies:
            raise Died

    def _run(self, act: Callable[[Storage], object], storage: Any) -> None:
        try:
            self._wait()
            act(storage)
        except Died:
            self.died = True
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        self.ended = True
        self._stopped.release()


class _Stopping:
    """A storage at which an actor stops."""

    def __init__(self, storage: Storage, actor: Actor) -> None:
        self._storage = storage
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._storage, name)

        def stopping(*arguments: Any) -> Any:
            if name == "get":  # everything since its last stop is a separate step
                self._actor.stop()
            answer = call(*arguments)
            self._actor.stop()
            return answer

        return stopping


class Choices:
    """One walk through a tree of choices: the *planned* ones, then the first or, with *chance*, a random choice."""

    def __init__(self, planned: Sequence[int] = (), chance: Random | None = None) -> None:
        self._planned = planned
        self._chance = chance
        self.taken: list[tuple[int, int]] = []

    def choose(self, count: int) -> int:
        """Return which of *count* ways to take."""
        depth = len(self.taken)
        choice = self._chance.randrange(count) if self._chance else 0
        if depth < len(self._planned):
            choice = self._planned[depth]
        self.taken.append((choice, count))
        return choice


def every() -> Iterator[Choices]:
    """Yield walks until each way was taken."""
    planned: list[int] = []
    while True:
        choices = Choices(planned)
        yield choices
        path = choices.taken
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return
        planned = [choice for choice, _ in path[:-1]] + [path[-1][0] + 1]


def some(count: int) -> Iterator[Choices]:
    """Yield *count* random walks, the same ones each time."""
    chance = Random(count)
    for _ in range(count):
        yield Choices(chance=chance)


def interleave(
    choices: Choices,
    actors: Sequence[Actor],
    after_step: Callable[[], object] = lambda: None,
    *,
    deaths: int = 0,
) -> None:
    """Run *actors* to their ends in the order of *choices*. Up to *deaths* of them die on the way."""
    while live := [actor for actor in actors if not actor.ended]:
        may_die = deaths > sum(actor.died for actor in actors)
        choice = choices.choose(len(live) * (2 if may_die else 1))
        live[choice % len(live)].step(dies=choice >= len(live))
        after_step()
