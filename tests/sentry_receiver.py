"""Sentry's endpoint for envelopes, on loopback. It keeps and reads every byte that was sent."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard

ENDPOINT = "/api/1/envelope/"


@dataclass
class Receiver:
    """The envelopes that have arrived at *dsn* so far."""

    dsn: str
    bodies: list[bytes] = field(default_factory=list)

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Return the items of one type ("event", "check_in"), in the order of arrival."""
        found = (_items(body) for body in list(self.bodies))
        return [json.loads(item) for items in found for type_, item in items if type_ == kind]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.items("event")


def _items(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield type and payload of each item. Items follow the envelope's line; a payload has a length or is one line."""
    _, _, rest = body.partition(b"\n")
    while rest:
        line, _, rest = rest.partition(b"\n")
        if not line:
            continue
        header = json.loads(line)
        length = header.get("length", rest.find(b"\n") % (len(rest) + 1))
        yield header["type"], rest[:length]
        rest = rest[length:].removeprefix(b"\n")


def _plain(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "zstd":
            return zstandard.ZstdDecompressor().stream_reader(body).read()
        case "":
            return body
    raise AssertionError(f"an encoding of its own: {encoding}")


@contextmanager
def sentry() -> Iterator[Receiver]:
    """Accept envelopes until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            ok = self.path == ENDPOINT and "sentry_key=public" in self.headers["X-Sentry-Auth"]
            if ok:
                receiver.bodies.append(_plain(body, self.headers.get("Content-Encoding", "")))
            self.send_response(200 if ok else 403)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://public@127.0.0.1:{server.server_port}/1")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield a DSN of a host that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://public@127.0.0.1:{server.getsockname()[1]}/1"
