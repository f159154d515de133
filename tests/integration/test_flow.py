"""The number of messages in Redis without a worker, or with one slow worker: with real ticks, ledger and queues."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks import plan
from tasks.runs import messages, restoring
from tests.integration.steps import RUN, Fleet
from workers.app import QUEUES, celery
from workers.state.ledger import Opening

HANDFUL = 100
PAGES = 6
VISIBILITY_SECONDS, LEASE_SECONDS = 30, 40
Message = tuple[str, list[Any]]


class Flow:
    """Beat's ticks, once a second by the ledger's clock, and the lists of Celery's messages."""

    def __init__(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.redis, self.runtime, self.ledger = fleet.redis, fleet.runtime, fleet.runtime.ledger
        self.most = Counter[str]()  # the largest number of messages in each queue
        restoring.restore(fleet.runtime)  # sets the marks in Redis
        monkeypatch.setattr(celery, "send_task", self.send)

    def send(self, name: str, args: tuple[Any, ...], queue: str, **_shown: str) -> None:
        length = self.redis.lpush(f"pagetrail:{queue}", orjson.dumps([name, args]))
        self.most[queue] = max(self.most[queue], int(length))

    def take(self, queue: str) -> Message | None:
        text: Any = self.redis.rpop(f"pagetrail:{queue}")
        return None if text is None else tuple(orjson.loads(text))

    def next_page(self) -> Message:
        message = self.take("fetch")
        assert message, "there is always something to do"
        return message

    def length(self, queue: str) -> int:
        return int(self.redis.llen(f"pagetrail:{queue}"))

    def tick(self) -> None:
        assert self.ledger.now_ms
        self.ledger.now_ms += 1_000
        plan.tick()

    def open(
        self, sources: Iterable[str], *, pages: int = 0, lanes: int = 1, hold: str = ""
    ) -> None:
        """Open a run of each of *sources*."""
        for source in sources:
            lists = [Opening(f"p{n}/all.1/000000", "", f"p{n}/all.1") for n in range(pages)]
            outcome = self.ledger.open(
                source,
                RUN,
                lists,
                queue="fetch",
                region="us",
                lanes=(lanes, lanes),
                hold=hold or None,
            )
            messages.publish(self.runtime, source, RUN, outcome)

    def claim(self, message: Message) -> Any:
        _, (source, run, page, number, queue) = message
        return self.ledger.claim(source, run, page, number, queue)

    def work(self, message: Message) -> str:
        """Do the step of *message*, but only in the ledger. Return its source."""
        name, (source, *rest) = message
        match name.rpartition(".")[2]:
            case "plan_run":
                self.ledger.schedule(source, None)
            case "seal_run" if self.ledger.seal(source, rest[0], "sealer"):
                self.ledger.finish(source, rest[0], None, "{}")
            case "probe_source":
                self.ledger.probed(source, rest[0], ok=True, resource="probes", sent=1)
            case "fetch_resource" | "fetch_page" if claim := self.claim(message):
                group, _, number = claim.page.rpartition("/")
                follower = Opening(f"{group}/{int(number) + 1:06d}", "", group)
                outcome = self.ledger.close(claim, [follower], resource="p", sent=1)
                messages.publish(self.runtime, source, RUN, outcome)
        return str(source)


@pytest.fixture
def flow(make: Callable[[Path], Fleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flow:
    return Flow(make(tmp_path / "data"), monkeypatch)


def named(what: str, count: int) -> list[str]:
    return [f"{what}{n:05d}/main" for n in range(count)]


def due(flow: Flow, sources: Iterable[str]) -> None:
    """Make runs of all *sources* due at this moment."""
    for name in ("schedule", "due"):
        flow.redis.zadd(f"pagetrail:{name}", dict.fromkeys(sources, float(flow.ledger.now_ms or 0)))


def test_ten_minutes_without_a_worker_leave_a_handful_of_messages(flow: Flow) -> None:
    """Each message is sent once. The rest stays in the ledger, and is sent when a worker takes messages."""
    reading, sealing, waiting = named("read", 20), named("seal", 110), named("due", 110)
    flow.open(reading, pages=PAGES, lanes=4)
    flow.open(sealing)
    flow.open(named("held", 5), pages=1, hold="key")
    due(flow, waiting)
    for _ in range(600):
        flow.tick()
    assert flow.length("fetch") == flow.most["fetch"] == 4 * len(reading)
    assert (flow.most["plan"], flow.most["seal"], flow.most["backfill"]) == (HANDFUL, HANDFUL, 0)

    served = set()
    for _ in range(60):
        for queue in ("plan", "seal"):
            while message := flow.take(queue):
                served.add(flow.work(message))
        flow.tick()
    assert served >= {*waiting, *sealing}


def test_two_thousand_sources_on_one_slow_worker_that_dies_now_and_then(flow: Flow) -> None:
    """There are never more fetch messages than lanes plus the slots of dead workers, whose messages come twice."""
    lanes, slots, sources = 2, 8, named("slow", 2_000)
    flow.open(sources, pages=PAGES, lanes=lanes)
    dead = deque[tuple[int, Message]]()
    died = 0
    for second in range(100):
        flow.tick()
        for _ in range(5):
            flow.work(flow.next_page())
        if second % 25 == 10:
            died += 1
            for _ in range(slots):
                message = flow.next_page()
                assert flow.claim(message)
                dead.append((second + VISIBILITY_SECONDS, message))
        while dead and dead[0][0] <= second:  # before all others, as the broker does it
            flow.redis.rpush("pagetrail:fetch", orjson.dumps(dead.popleft()[1]))
        assert flow.length("fetch") <= lanes * len(sources) + slots * died
    assert died == 4
    assert flow.length("fetch") >= lanes * len(sources) - slots * died, "every lane has a page"
    assert {queue: flow.most[queue] for queue in QUEUES if queue != "fetch"} == dict.fromkeys(
        ("plan", "backfill", "seal", "sign"), 0
    )


def test_ten_thousand_sources_due_at_once_are_taken_in_bounded_batches(flow: Flow) -> None:
    """Each source gets one message, and no tick handles more than its batch."""
    sources = named("many", 10_000)
    due(flow, sources)
    told = Counter[str]()
    ticks = 0
    while told.total() < len(sources) and ticks < 150:
        before = flow.redis.zcount("pagetrail:due", "-inf", flow.ledger.now_ms or 0)
        flow.tick()
        left = flow.redis.zcount("pagetrail:due", "-inf", flow.ledger.now_ms or 0)
        assert int(before) - int(left) <= plan.BATCH
        while message := flow.take("plan"):
            told[flow.work(message)] += 1
        ticks += 1
    assert told == dict.fromkeys(sources, 1)
    assert flow.most["plan"] <= HANDFUL
