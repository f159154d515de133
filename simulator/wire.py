"""HTTP/1.1 over a socket. Replies are complete, or broken as a fault says.

An ASGI server can't do this, because some faults need the socket itself: a wrong length, a connection
that ends in the middle of a body, or no answer at all.
"""

import asyncio
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import httptools

Delivery = Literal[
    "whole", "drop_before", "drop_middle", "short_body", "trickle", "hang",
    "drip_head",  # the head byte by byte
    "bare",  # the body contains the head, and nothing else is sent
]  # fmt: skip
TRICKLE_PARTS = 20
SLICE_BYTES = 2**18  # larger bodies are written in slices, so that nothing large waits in a buffer
BODILESS = (204, 304)
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


@dataclass(slots=True)
class Request:
    """One request, complete with its body."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool


@dataclass(slots=True)
class Reply:
    """One answer and how to deliver it. *stream* replaces the body and is sent in chunks."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    delivery: Delivery = "whole"
    delay_seconds: float = 0
    spread_seconds: float = 0
    parts: int = TRICKLE_PARTS  # number of parts of a trickle
    stream: AsyncIterator[bytes] | None = None


def gzipped(reply: Reply) -> None:
    """Compress a reply's body in place."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    reply.body = packer.compress(reply.body) + packer.flush()
    reply.headers.append(("Content-Encoding", "gzip"))


class Connection(asyncio.Protocol):
    """One client connection. Requests are answered one after another, in order."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop sending."""
        self._waiting.clear()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Hold streams until the client has read more."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let streams continue."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse. Bytes that aren't HTTP end the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(STATUS_LINES[400] + b"Content-Length: 0\r\n\r\n")
            self._transport.close()
        self._next()  # outside the parser, which would hide our own exceptions

    def on_message_begin(self) -> None:
        """Start a request."""
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue the request."""
        path, _, query = self._url.partition(b"?")
        self._waiting.append(Request(
            self._parser.get_method().decode(), unquote(path.decode("latin-1")),
            parse_qsl(query.decode("latin-1"), keep_blank_values=True),
            self._headers, b"".join(self._body), self._parser.should_keep_alive(),
        ))  # fmt: skip

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        request = self._waiting.popleft()
        reply = self._answer(request)
        if reply.delay_seconds > 0:
            loop = asyncio.get_running_loop()
            loop.call_later(reply.delay_seconds, self._send, request, reply)
        else:
            self._send(request, reply)

    def _send(self, request: Request, reply: Reply) -> None:
        if self._transport.is_closing() or reply.delivery == "hang":
            return
        if reply.delivery == "drop_before":
            self._transport.abort()
        elif reply.delivery in ("drop_middle", "short_body"):
            share = len(reply.body) // 2 if reply.delivery == "drop_middle" else -7
            self._transport.write(_head(reply, request) + reply.body[:share])
            self._transport.close()
        elif reply.delivery == "whole" and reply.stream is None and len(reply.body) <= SLICE_BYTES:
            self._transport.write(_head(reply, request))
            self._transport.write(reply.body)
            self._finish(request)
        else:
            self._task = asyncio.get_running_loop().create_task(self._stream(request, reply))

    async def _stream(self, request: Request, reply: Reply) -> None:
        async for part in _parts(reply, request):
            self._transport.write(part)
            await self._writable.wait()
            # Give other connections a turn, even if this client reads at once.
            await asyncio.sleep(0)
        self._task = None
        if reply.delivery == "bare":
            self._transport.close()
        self._finish(request)

    def _finish(self, request: Request) -> None:
        self._busy = False
        if not request.keep_alive:
            self._transport.close()
        self._next()


async def _parts(reply: Reply, request: Request) -> AsyncIterator[bytes]:
    """Yield head and body in the parts and at the pace of the delivery."""
    head = b"" if reply.delivery == "bare" else _head(reply, request)
    if reply.delivery == "drip_head":
        for byte in head:
            yield bytes((byte,))
            await asyncio.sleep(reply.spread_seconds)
    elif head:
        yield head
    if reply.stream is not None:
        async for part in reply.stream:
            if not part:
                continue  # an empty chunk would end the body
            yield part if reply.delivery == "bare" else b"%x\r\n%b\r\n" % (len(part), part)
        yield b"0\r\n\r\n"
        return
    trickles = reply.delivery == "trickle"
    size = max(1, -(-len(reply.body) // reply.parts)) if trickles else SLICE_BYTES
    for start in range(0, len(reply.body), size):
        if trickles:
            await asyncio.sleep(reply.spread_seconds / reply.parts)
        yield reply.body[start : start + size]


_date: list[Any] = [0, b""]


def _date_line() -> bytes:
    now = int(time.time())
    if _date[0] != now:
        _date[:] = [now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode()]
    line: bytes = _date[1]
    return line


def _head(reply: Reply, request: Request) -> bytes:
    """Return status line and headers. Headers that the reply has replace the default ones."""
    said = {name.lower() for name, _ in reply.headers}
    lines = [STATUS_LINES.get(reply.status) or b"HTTP/1.1 %d Odd\r\n" % reply.status]
    if "date" not in said:
        lines.append(_date_line())
    if reply.stream is not None:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif reply.status not in BODILESS and "content-length" not in said:
        lines.append(b"Content-Length: %d\r\n" % len(reply.body))
    if reply.status not in BODILESS:
        lines.append(f"Content-Type: {reply.content_type}\r\n".encode())
    lines += [f"{name}: {value}\r\n".encode() for name, value in reply.headers]
    if not request.keep_alive:
        lines.append(b"Connection: close\r\n")
    return b"".join((*lines, b"\r\n"))
