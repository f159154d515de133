"""The client against a real server on loopback: what it sends, and what becomes of every answer."""

import gzip
import json
import logging
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from workers import pagerduty
from workers.pagerduty import Outcome, PagerDuty, Reply
from workers.settings import Settings

KEY = "u+Abcdefgh-123456_xy"

Script = Callable[["Connection"], object]


class Connection(socketserver.StreamRequestHandler):
    """Reads one request head after the other and lets the test's script answer it in raw bytes."""

    server: "Server"

    def handle(self) -> None:
        while head := self._head():
            self.server.heads.append(head)
            if self.server.script(self) == "close":
                return

    def send(self, status: int, body: bytes = b"", *headers: str) -> None:
        length = f"Content-Length: {len(body)}"
        lines = (f"HTTP/1.1 {status} Words", length, *headers)
        self.wfile.write("\r\n".join((*lines, "", "")).encode() + body)

    def _head(self) -> str:
        lines = []
        try:
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != "":
                lines.append(line)
        except OSError:
            return ""
        return "\n".join(lines)


class Server(socketserver.ThreadingTCPServer):
    """A loopback server that remembers the heads of its requests."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.heads: list[str] = []
        self.connections = 0
        self.script: Script = lambda connection: connection.send(200, b"{}")

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def client(server: Server) -> Iterator[PagerDuty]:
    made = PagerDuty({"us": server.origin, "eu": f"{server.origin}/eu/"})
    yield made
    made.close()


def get(client: PagerDuty, path: str = "/users", *, seconds: float = 5.0) -> Reply:
    return client.get("us", path, [("limit", "100")], KEY, deadline_seconds=seconds)


def test_a_request_carries_the_key_the_version_and_who_asks(
    client: PagerDuty, server: Server
) -> None:
    client.get(
        "eu",
        "/incidents",
        [
            ("statuses[]", "triggered"),
            ("statuses[]", "resolved"),
            ("since", "2026-01-01T00:00:00Z"),
        ],
        KEY,
        deadline_seconds=5,
    )
    first, *lines = server.heads[0].split("\n")
    assert first == (
        "GET /eu/incidents?statuses%5B%5D=triggered&statuses%5B%5D=resolved"
        "&since=2026-01-01T00%3A00%3A00Z HTTP/1.1"
    )
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert headers.pop("user-agent").startswith("pagetrail/")
    assert headers == {
        "host": server.origin.removeprefix("http://"),
        "accept": "application/vnd.pagerduty+json;version=2",
        "accept-encoding": "gzip",
        "authorization": f"token token={KEY}".lower(),
    }


def test_an_answer_becomes_a_reply_with_its_headers(client: PagerDuty, server: Server) -> None:
    server.script = lambda to: to.send(
        200,
        b'{"users": [1]}',
        "X-Request-Id: abc-1",
        "Date: Mon, 23 Nov 2026 10:00:00 GMT",
        "ratelimit-limit: 960",
        "ratelimit-remaining: 959",
        "ratelimit-reset: 60",
    )
    assert get(client) == Reply(
        Outcome.OK,
        200,
        b'{"users": [1]}',
        request_id="abc-1",
        date=datetime(2026, 11, 23, 10, tzinfo=UTC),
        limit=960,
        remaining=959,
        reset_seconds=60,
    )


def test_a_compressed_answer_is_read(client: PagerDuty, server: Server) -> None:
    body = json.dumps({"users": ["ü" * 1000] * 100}).encode()
    server.script = lambda to: to.send(200, gzip.compress(body), "Content-Encoding: gzip")
    assert get(client).body == body


def cut_short(connection: Connection) -> str:
    connection.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"users": [')
    return "close"


def corrupt_gzip(connection: Connection) -> None:
    connection.send(200, b"\x1f\x8b\x08 no gzip", "Content-Encoding: gzip")


def cut_gzip(connection: Connection) -> None:
    connection.send(200, gzip.compress(b'{"users": []}' * 99)[:40], "Content-Encoding: gzip")


def not_http(connection: Connection) -> str:
    connection.wfile.write(b"\x00\x01 what?\r\n\r\n")
    return "close"


@pytest.mark.parametrize("script", [cut_short, corrupt_gzip, cut_gzip, not_http, lambda _: "close"])
def test_a_broken_answer_is_one_to_ask_for_again(
    client: PagerDuty, server: Server, script: Script
) -> None:
    server.script = script
    reply = get(client)
    assert (reply.outcome, reply.reason, reply.timed_out) == (Outcome.RETRY, "error", False)
    assert KEY not in repr(reply)


def test_nobody_listening_is_no_answer() -> None:
    with Server() as gone:
        regions = {"us": gone.origin}
    client = PagerDuty(regions)
    reply = get(client)
    client.close()
    assert (reply.outcome, reply.status, reply.timed_out) == (Outcome.RETRY, None, False)
    assert reply.words == "No whole answer: ConnectError."


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_silent_server_times_out_at_the_deadline(
    client: PagerDuty, server: Server, released: threading.Event
) -> None:
    server.script = lambda _: released.wait(20) and "close"
    reply = get(client, seconds=0.2)
    assert (reply.outcome, reply.timed_out) == (Outcome.RETRY, True)


def test_a_trickling_answer_times_out_although_no_single_read_does(
    client: PagerDuty, server: Server, released: threading.Event
) -> None:
    def trickle(connection: Connection) -> str:
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
        while not released.wait(0.02):
            connection.wfile.write(b" ")
        return "close"

    server.script = trickle
    reply = get(client, seconds=0.3)
    assert (reply.outcome, reply.timed_out) == (Outcome.RETRY, True)


def test_no_slot_waits_for_a_connection_of_another(client: PagerDuty, server: Server) -> None:
    """The server answers when as many requests are there as a process has slots at most."""
    [slots] = [
        each.le for each in Settings.model_fields["worker_slots"].metadata if hasattr(each, "le")
    ]
    together = threading.Barrier(slots, timeout=20)

    def answer(connection: Connection) -> None:
        together.wait()
        connection.send(200, b"{}")

    server.script = answer
    with ThreadPoolExecutor(slots) as threads:
        replies = list(threads.map(lambda _: get(client), range(slots)))
    assert {reply.outcome for reply in replies} == {Outcome.OK}


@pytest.mark.parametrize("compress", [False, True])
def test_a_body_without_end_is_not_read_to_the_end(
    client: PagerDuty, server: Server, monkeypatch: pytest.MonkeyPatch, *, compress: bool
) -> None:
    monkeypatch.setattr(pagerduty, "BODY_BYTES", 2**20)
    body = b'"' + b" " * 2**21 + b'"'
    headers = ["Content-Encoding: gzip"] if compress else []
    server.script = lambda to: to.send(200, gzip.compress(body) if compress else body, *headers)
    reply = get(client)
    assert (reply.outcome, reply.words) == (Outcome.RETRY, "No whole answer: TooLarge.")


def test_a_redirect_is_not_followed(client: PagerDuty, server: Server) -> None:
    server.script = lambda to: to.send(302, b"", f"Location: {server.origin}/elsewhere")
    assert get(client).outcome is Outcome.RETRY
    assert len(server.heads) == 1


def test_a_cookie_of_one_answer_is_never_sent_with_another_request(
    client: PagerDuty, server: Server
) -> None:
    server.script = lambda to: to.send(200, b"{}", "Set-Cookie: tenant=one")
    get(client)
    get(client)
    assert "cookie" not in server.heads[1].lower()


def test_requests_one_after_another_share_a_connection(client: PagerDuty, server: Server) -> None:
    for _ in range(5):
        get(client)
    assert server.connections == 1


def test_many_threads_share_at_most_sixty_connections(client: PagerDuty, server: Server) -> None:
    def slowly(connection: Connection) -> None:
        time.sleep(0.02)
        connection.send(200, b"{}")

    server.script = slowly
    with ThreadPoolExecutor(80) as threads:
        replies = list(threads.map(lambda _: get(client), range(240)))
    assert {reply.outcome for reply in replies} == {Outcome.OK}
    assert server.connections <= 60


def test_a_proxy_of_the_environment_never_gets_loopback_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = PagerDuty({"us": server.origin})
    assert get(client).outcome is Outcome.OK
    client.close()


def test_nothing_is_logged_about_a_request(
    client: PagerDuty, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    get(client)
    assert caplog.records == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(day - timedelta(days=1))
        .not_valid_after(day + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_server_whose_certificate_nobody_vouches_for_gets_no_request(
    server: Server, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    client = PagerDuty({"us": server.origin.replace("http:", "https:")})
    assert get(client).words == "No whole answer: ConnectError."
    assert server.heads == []
    client.close()
