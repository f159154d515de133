"""The client with a real server on loopback: the requests that it sends, and the reply for each kind of answer."""

import gzip
import json
import logging
import re
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.pagerduty_server import KEY, Connection, Script, Server, get
from workers.pagerduty import client as pagerduty_client
from workers.pagerduty.client import PagerDuty
from workers.pagerduty.replies import Outcome, Reply


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


def test_a_region_may_be_written_in_capitals(server: Server) -> None:
    client = PagerDuty({"us": server.origin.replace("http://127.0.0.1", "HTTP://LOCALHOST")})
    assert get(client).outcome is Outcome.OK
    client.close()
    assert server.heads[0].startswith("GET /users?limit=100 HTTP/1.1")


def test_an_address_that_the_library_would_change_is_not_sent(
    client: PagerDuty, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be another one than the stored page names: dots are folded away, for example."""
    monkeypatch.setattr(pagerduty_client, "_PATH", re.compile(".*"))
    for path in ("/teams/../members", "/teams/./members"):
        with pytest.raises(ValueError, match="different address"):
            get(client, path)
    assert server.heads == []


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
def test_a_broken_answer_is_requested_again(
    client: PagerDuty, server: Server, script: Script
) -> None:
    server.script = script
    reply = get(client)
    assert (reply.outcome, reply.reason, reply.timed_out) == (Outcome.RETRY, "error", False)
    assert KEY not in repr(reply)


def test_without_a_listener_there_is_no_answer() -> None:
    with Server() as gone:
        regions = {"us": gone.origin}
    client = PagerDuty(regions)
    reply = get(client)
    client.close()
    assert (reply.outcome, reply.status, reply.timed_out) == (Outcome.RETRY, None, False)
    assert reply.words == "No whole answer: ConnectError."


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "snake"])
def test_an_encoding_that_was_not_asked_for_is_not_unpacked(
    client: PagerDuty, server: Server, encoding: str
) -> None:
    server.script = lambda to: to.send(200, gzip.compress(b"{}"), f"Content-Encoding: {encoding}")
    reply = get(client)
    assert (reply.outcome, reply.words) == (Outcome.RETRY, "No whole answer: DecodingError.")


def test_the_members_that_are_asked_for_are_found_in_a_body(
    client: PagerDuty, server: Server
) -> None:
    server.script = lambda to: to.send(200, b'{"users": [1, 2], "more": true, "other": {}}')
    reply = client.get("us", "/users", [], KEY, deadline_seconds=5, members=("users", "total"))
    assert {name: bytes(text) for name, text in (reply.members or {}).items()} == {
        "users": b"[1, 2]"
    }


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


@pytest.mark.parametrize(
    "behind",
    [b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"whose":"A\'s"}', b"no HTTP at all\r\n\r\n"],
    ids=["answer", "garbage"],
)
def test_what_follows_an_answer_is_never_taken_for_the_answer_to_the_next_request(
    client: PagerDuty, server: Server, behind: bytes
) -> None:
    """Bytes that arrive before a request is sent can't be its answer. The request goes over another connection."""

    def script(connection: Connection) -> None:
        mine = len(server.heads) == 1
        body = b'{"whose":"first"}' if mine else b'{"whose":"second"}'
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection.wfile.write(head + body + (behind if mine else b""))

    server.script = script
    first = get(client)
    second = get(client, "/users/other")
    assert (first.body, second.body) == (b'{"whose":"first"}', b'{"whose":"second"}')
    assert server.connections == 2


def test_requests_one_after_another_share_a_connection(client: PagerDuty, server: Server) -> None:
    for _ in range(5):
        get(client)
    assert server.connections == 1


def test_many_threads_share_the_allowed_connections(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(connection: Connection) -> None:
        time.sleep(0.01)
        connection.send(200, b"{}")

    monkeypatch.setattr(pagerduty_client, "CONNECTIONS", 8)
    server.script = slowly
    client = PagerDuty({"us": server.origin})
    with ThreadPoolExecutor(24) as threads:
        replies = list(threads.map(lambda _: get(client), range(240)))
    client.close()
    assert {reply.outcome for reply in replies} == {Outcome.OK}
    assert server.connections <= 8


def test_a_proxy_of_the_environment_never_gets_loopback_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = PagerDuty({"us": server.origin})
    assert get(client).outcome is Outcome.OK
    client.close()


def test_a_proxy_may_be_named_without_its_scheme(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"user:word@{server.origin.removeprefix('http://')}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    server.script = lambda to: to.send(403)
    client = PagerDuty({"us": "https://api.pagerduty.example"})
    assert get(client).words == "No whole answer: ProxyError."
    client.close()
    assert server.heads[0].startswith("CONNECT api.pagerduty.example:443 ")


def test_a_handshake_that_fails_behind_a_proxy_does_not_occupy_a_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise such connections would add up until the process could send no more requests."""
    monkeypatch.setattr(pagerduty_client, "CONNECTIONS", 2)
    monkeypatch.setattr(pagerduty_client, "_proxy", lambda _: server.origin)
    server.script = lambda to: to.send(200) or "close"  # type: ignore[func-returns-value]  # it returns None
    client = PagerDuty({"us": "https://api.pagerduty.example"})
    assert {get(client).words for _ in range(5)} == {"No whole answer: ConnectError."}
    server.script = lambda to: to.send(403)
    assert get(client).words == "No whole answer: ProxyError."
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
    """A certificate for 127.0.0.1 that no authority signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(day - timedelta(days=1))
        .not_valid_after(day + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
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


@pytest.fixture
def secure(server: Server, certificate: Path) -> str:
    """The origin of the server, which speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server.origin.replace("http:", "https:")


def test_a_server_with_an_untrusted_certificate_gets_no_request(
    server: Server, secure: str
) -> None:
    client = PagerDuty({"us": secure})
    assert get(client).words == "No whole answer: ConnectError."
    assert server.heads == []
    client.close()


def test_a_server_with_a_trusted_certificate_answers_and_its_silence_times_out(
    server: Server,
    secure: str,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: threading.Event,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client = PagerDuty({"us": secure})
    assert get(client).outcome is Outcome.OK
    server.script = lambda _: released.wait(20) and "close"
    assert get(client, seconds=0.2).timed_out
    client.close()
