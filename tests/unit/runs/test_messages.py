"""Each step of the ledger sends the right messages, and no others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from tasks.evidence.envelopes import stamp
from tasks.reading.beginnings import child_pages, first_pages
from tasks.reading.pages import Page
from tasks.reading.windows import ALL, of
from tasks.runs import messages
from tests.lists_model import make
from workers.errors import RedisUnreachable
from workers.process.sender import Sender
from workers.runtime import Runtime
from workers.settings.environment import Settings
from workers.state.ledger import Effect, Offer

SOURCE, RUN = "acme/main", "00000001"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Told:
    """A Celery app that sends nothing and remembers everything."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []  # task, queue, arguments
        self.shown: list[tuple[str, str]] = []
        self.fleet = Runtime(Settings(), sender=Sender(self))  # type: ignore[arg-type]  # a double

    def send_task(
        self, name: str, args: tuple[Any, ...], *, queue: str, argsrepr: str, kwargsrepr: str
    ) -> None:
        self.sent.append((name, queue, *args))
        self.shown.append((argsrepr, kwargsrepr))


@pytest.fixture
def celery() -> Told:
    return Told()


def published(celery: Told, outcome: Effect) -> list[tuple[Any, ...]]:
    messages.publish(celery.fleet, SOURCE, RUN, outcome)
    return celery.sent


@pytest.mark.parametrize("queue", ["fetch", "backfill"])
def test_offers_are_sent_to_the_runs_own_queue_with_their_numbers(celery: Told, queue: str) -> None:
    """The first page of a list has its own task name, one for each resource."""
    pages = ["teams/all.1/000000", "teams/all.1/000099", "teams/all.2/000000", "users/all.1/000000"]
    offers = tuple(Offer(page, number) for number, page in enumerate(pages, 7))
    assert published(celery, Effect("closed", offers, queue)) == [
        ("tasks.fetch.fetch_resource", queue, SOURCE, RUN, pages[0], 7, queue),
        ("tasks.fetch.fetch_page", queue, SOURCE, RUN, pages[1], 8, queue),
        ("tasks.fetch.fetch_page", queue, SOURCE, RUN, pages[2], 9, queue),
        ("tasks.fetch.fetch_resource", queue, SOURCE, RUN, pages[3], 10, queue),
    ]


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (Effect("closed"), None),
        (Effect("joined", run="00000009"), None),
        (Effect("closed", seal=True), ("tasks.seal.seal_run", "seal", SOURCE, RUN)),
        (Effect("open", task="seal"), ("tasks.seal.seal_run", "seal", SOURCE, RUN)),
        (Effect("closed", seal=True, task="seal"), ("tasks.seal.seal_run", "seal", SOURCE, RUN)),
        (Effect("due", task="plan"), ("tasks.plan.plan_run", "plan", SOURCE)),
        (Effect("open", task="probe"), ("tasks.plan.probe_source", "plan", SOURCE, RUN)),
    ],
)
def test_due_work_is_sent_once(
    celery: Told, outcome: Effect, message: tuple[Any, ...] | None
) -> None:
    assert published(celery, outcome) == ([message] if message else [])


def test_recovery_is_one_message(celery: Told) -> None:
    messages.recover(celery.fleet)
    assert celery.sent == [("tasks.plan.recover", "plan")]


def test_a_redis_that_stops_answering_is_one_sentence(
    celery: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("Error 111 connecting to redis://:secret@10.0.0.1:6379")

    monkeypatch.setattr(celery, "send_task", refuse)
    with pytest.raises(RedisUnreachable, match="went away") as error:
        messages.recover(celery.fleet)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("page", "delay"),
    [
        (Page("teams", ALL), 0.0),
        (Page("teams", ALL, pass_=2), 1.0),
        (Page("teams", ALL, pass_=3), 5.0),
        (Page("teams", ALL, pass_=2, number=99), 0.0),
        (Page("teams", ALL, pass_=3, number=99), 0.0),
        (Page("team_members", of("T1"), parent={"id": "T1"}), 0.0),
    ],
)
def test_a_list_that_moved_gets_a_moment_before_it_is_read_again(page: Page, delay: float) -> None:
    (opening,) = messages.openings([page], 60.0, NOW)
    assert opening.delay_seconds == delay
    assert (opening.id, opening.group, opening.held) == (page.id, page.group, page.held)


@pytest.mark.parametrize(
    ("seconds_ago", "left"), [(0, 60), (45, 15), (60, 0), (1e6, 0), (-1e6, 60)]
)  # fmt: skip
def test_a_404_waits_for_a_minute_after_its_answer_and_no_clock_makes_that_longer(
    seconds_ago: float, left: float
) -> None:
    denied_at = stamp(NOW - timedelta(seconds=seconds_ago))
    page = Page("team_members", of("T1"), pass_=2, parent={"id": "T1"}, denied_at=denied_at)
    (opening,) = messages.openings([page], 60.0, NOW)
    assert opening.delay_seconds == left
    (further,) = messages.openings([replace(page, number=100)], 60.0, NOW)
    assert further.delay_seconds == 0.0


def test_the_ledger_gets_everything_that_a_worker_needs() -> None:
    """A worker gets the page back from its id and payload, with the id of its parent. The id begins with the group."""
    plan = make()
    feeds = [feed for feed in plan.feeds if feed.parent]
    pages = [
        *first_pages(plan),
        *child_pages(feeds, [{"id": "T/1", "summary": "Ops"}], make()),
        Page(
            "audit_records", str(plan.windows["audit_records"][0]), number=3, cursor="é=", mark="ab"
        ),
        Page("teams", ALL, number=198, end=298, held=True),
    ]
    for page, opening in zip(pages, messages.openings(pages, 60.0, NOW), strict=True):
        parent = page.parent and {"id": page.parent["id"]}
        assert Page.parse(opening.id, opening.payload) == replace(page, parent=parent)
        assert opening.id.startswith(f"{opening.group}/")


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("incidents/20260801T000000Z_20260901T000000Z.1/000300", "incidents 20260801..20260901 pass 1 offset 300"),
        ("audit_records/20260801T103000Z_20260802T000000Z.2/000003",
         "audit_records 20260801..20260802 pass 2 page 3"),
        ("team_members/of-P_1of-X.1/000000", "team_members of P_1of-X pass 1 offset 0"),
        ("schedules.shift/all.3/000099", "schedules.shift all pass 3 offset 99"),
        ("retired/all.1/000000", "retired all pass 1 offset 0"),
    ],
)  # fmt: skip
def test_flower_gets_a_description_of_each_task_and_the_id_of_its_page(
    celery: Told, page: str, words: str
) -> None:
    messages.publish(
        celery.fleet, SOURCE, RUN, Effect("closed", (Offer(page, 7),), "fetch", seal=True)
    )
    messages.recover(celery.fleet)
    assert celery.shown == [
        (f"{SOURCE} {words} run {RUN}", page),
        (f"{SOURCE} run {RUN}", ""),
        ("", ""),
    ]
