"""A loopback server whose raw answers a test writes, in the place of PagerDuty."""

import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from workers.pagerduty.client import PagerDuty
from workers.pagerduty.replies import Reply

KEY = "u+Abcdefgh-123456_xy"
Script = Callable[["Connection"], object]


class Connection(socketserver.StreamRequestHandler):
    """Reads one request head after the other. The test's script answers each in raw bytes."""

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
        super().process_request(request, client_address)  # type: ignore[arg-type]  # passed on

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


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()
