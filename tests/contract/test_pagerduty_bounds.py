"""However slow or long an answer is, a request takes little time and memory."""

import gzip
import socket
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Queue
from typing import Any

import httpcore
import pytest

from tests.pagerduty_server import KEY, Connection, Server, get
from workers.pagerduty import bodies, transport
from workers.pagerduty.client import PagerDuty
from workers.pagerduty.replies import Outcome
from workers.room import Room
from workers.settings.environment import MOST_SLOTS


def test_a_silent_server_times_out_at_the_deadline(
    client: PagerDuty, server: Server, released: threading.Event
) -> None:
    server.script = lambda _: released.wait(20) and "close"
    reply = get(client, seconds=0.2)
    assert (reply.outcome, reply.timed_out) == (Outcome.RETRY, True)


DRIPPING = {  # sent at once, then drop by drop, then at the end, when the answer would be whole
    "before": (
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ),
    "head": (b"HTTP/1.1 200 OK\r\nX-Filler: ", b"x", b"\r\nContent-Length: 2\r\n\r\n{}"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1002\r\n\r\n", b" ", b"{}"),
}


@pytest.mark.parametrize("part", DRIPPING)
def test_a_dripping_answer_times_out_although_no_single_read_does(
    client: PagerDuty, server: Server, part: str
) -> None:
    begin, drop, end = DRIPPING[part]
    served: Queue[str] = Queue()

    def drip(connection: Connection) -> str:
        try:
            connection.wfile.write(begin)
            for _ in range(1000):
                time.sleep(0.02)
                connection.wfile.write(drop)
            connection.wfile.write(end)
            served.put("all of it")
        except OSError:
            served.put("as far as anybody listened")
        return "close"

    server.script = drip
    reply = get(client, seconds=0.2)
    assert (reply.outcome, reply.timed_out) == (Outcome.RETRY, True)
    assert served.get(timeout=30) == "as far as anybody listened"


def test_connecting_has_no_more_time_than_the_request(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If several addresses are silent, they share the time of the request."""
    tried = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as crowd:
        address = silent.getsockname()
        for _ in range(4):  # more than its queue can hold, so it answers nobody else
            waiting = crowd.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)

        def remember(self: socket.socket, address: object) -> None:
            tried.append(address)
            connect(self, address)  # type: ignore[arg-type]  # passed on

        def several(host: str, *which: Any, **kind: Any) -> list[Any]:
            return look_up("127.0.0.1", *which, **kind) * (5 if host == "localhost" else 1)

        monkeypatch.setattr(socket.socket, "connect", remember)
        monkeypatch.setattr(socket, "getaddrinfo", several)
        client = PagerDuty({"us": f"http://localhost:{address[1]}"})
        reply = get(client, seconds=0.2)
        client.close()
    assert reply.timed_out
    assert tried[1:] == [], "the first address took all the time"


def test_no_slot_waits_for_a_connection_of_another(client: PagerDuty, server: Server) -> None:
    """The server only answers when it has as many requests as a process can have slots."""
    together = threading.Barrier(MOST_SLOTS, timeout=20)

    def answer(connection: Connection) -> None:
        together.wait()
        connection.send(200, b"{}")

    server.script = answer
    with ThreadPoolExecutor(MOST_SLOTS) as threads:
        replies = list(threads.map(lambda _: get(client), range(MOST_SLOTS)))
    assert {reply.outcome for reply in replies} == {Outcome.OK}


@pytest.mark.parametrize("compress", [False, True])
def test_a_body_without_end_is_not_read_to_the_end(
    client: PagerDuty, server: Server, monkeypatch: pytest.MonkeyPatch, *, compress: bool
) -> None:
    monkeypatch.setattr(bodies, "BODY_BYTES", 2**20)
    body = b'"' + b" " * 2**21 + b'"'
    headers = ["Content-Encoding: gzip"] if compress else []
    server.script = lambda to: to.send(200, gzip.compress(body) if compress else body, *headers)
    reply = get(client)
    assert (reply.outcome, reply.words) == (Outcome.RETRY, "No whole answer: Oversized.")


def test_an_error_page_without_end_is_not_read_to_the_end(
    client: PagerDuty, server: Server
) -> None:
    server.script = lambda to: to.send(403, b" " * (bodies.ERROR_BYTES + 1))
    reply = get(client)
    assert (reply.outcome, reply.words) == (Outcome.RETRY, "No whole answer: Oversized.")


def test_a_small_answer_that_unpacks_without_end_takes_no_more_memory_than_a_page(
    client: PagerDuty, server: Server
) -> None:
    """128 MB arrive as 128 kB of gzip."""
    packed = gzip.compress(b'{"x":"' + b" " * 2**27 + b'"}', 9)
    assert len(packed) < 2**19
    server.script = lambda to: to.send(200, packed, "Content-Encoding: gzip")
    tracemalloc.start()
    reply = get(client, seconds=60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (reply.outcome, reply.words) == (Outcome.RETRY, "No whole answer: Oversized.")
    assert peak < bodies.BODY_BYTES * 1.3


def test_each_step_has_a_short_time_out_of_its_own(
    server: Server, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool gets a time-out for each step, so a request would end even if the deadline of the whole failed."""
    monkeypatch.setattr(transport, "READ_SECONDS", 0.2)
    monkeypatch.setattr(transport, "_Backend", httpcore.SyncBackend)
    client = PagerDuty({"us": server.origin})
    server.script = lambda _: released.wait(20) and "close"
    reply = get(client, seconds=1_000)
    client.close()
    assert (reply.outcome, reply.timed_out) == (Outcome.RETRY, True)
    assert not released.is_set()


def test_a_body_without_memory_counts_neither_as_late_nor_as_broken(
    client: PagerDuty, server: Server
) -> None:
    """It is requested again. The limit in the answer's headers is still used."""
    room = Room(2**20)
    server.script = lambda to: to.send(200, b"{}" + b" " * 2**19, "ratelimit-remaining: 7")
    with room.share() as other, room.share() as share:
        other.take(2**21)
        reply = client.get("us", "/users", [], KEY, deadline_seconds=1.0, share=share)
        assert (reply.outcome, reply.timed_out, reply.status) == (Outcome.CROWDED, False, 200)
        assert (reply.remaining, reply.words, reply.body) == (7, "", b"")
        other.give_back()
        reply = client.get("us", "/users", [], KEY, deadline_seconds=5.0, share=share)
        assert (reply.outcome, len(reply.body)) == (Outcome.OK, 2**19 + 2)
        assert share.size >= len(reply.body)
