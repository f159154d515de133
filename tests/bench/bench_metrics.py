"""Measures the cost of metrics per page: the CPU time of each step with them, less the same without."""

import timeit
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from workers.pagerduty.replies import Outcome, Reply
from workers.process import metrics, signals
from workers.process.measured import MeasuredStorage
from workers.state.limiter import Permit
from workers.storage import Storage

CALLS, ROUNDS = 20_000, 7
PERMIT = Permit("us-0123456789abcdef", True, 0.0, 0, 1, "")
REPLY = Reply(Outcome.OK, 200)


class Page(signals.TimedTask):
    name = "tasks.fetch.fetch_page"

    def run(self, *_: Any) -> None:
        """Do nothing."""


class Nowhere:
    """A storage that immediately forgets everything."""

    def put_new(self, key: str, data: bytes) -> bool:
        return True


TASK, NOWHERE = Page(), Nowhere()
MEASURED = MeasuredStorage(cast(Storage, NOWHERE))
IDENTITY = ("acme/main", "00000001", "incidents/all.1/000000", 1, "fetch")


def ask() -> None:
    metrics.count_permit(PERMIT)
    begun = perf_counter()
    metrics.count_reply("us", REPLY, perf_counter() - begun)


STEPS: tuple[tuple[str, Callable[[], object], Callable[[], object]], ...] = (
    ("task", lambda: TASK(*IDENTITY), lambda: TASK.run(*IDENTITY)),
    ("permit and request", ask, lambda: None),
    ("store", lambda: MEASURED.put_new("a/b", b""), lambda: NOWHERE.put_new("a/b", b"")),
    ("close", lambda: metrics.pages("closed").inc(), lambda: None),
)


def microseconds(call: Callable[[], object]) -> float:
    """Return the shortest CPU time of a call, because other work on the machine only adds to it."""
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def main() -> None:
    costs = {name: microseconds(with_) - microseconds(bare) for name, with_, bare in STEPS}
    print("Metrics per page, microseconds of CPU")
    for name, cost in (*costs.items(), ("all", sum(costs.values()))):
        print(f"  {name:<20}{cost:6.2f}")


if __name__ == "__main__":
    main()
