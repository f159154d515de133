"""Sends a GET with one deadline for all of it: a server that sends a byte now and then never exceeds a read timeout."""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
_NAMES = (
    *("ConnectError", "ReadError", "WriteError", "NetworkError", "ProxyError"),
    *("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "TimeoutException"),
    *("LocalProtocolError", "RemoteProtocolError", "ProtocolError", "UnsupportedProtocol"),
)
_MEANING = {getattr(httpcore, name): getattr(httpx, name) for name in _NAMES}
"""Both libraries use the same names for their exceptions; if one drops a name, the program doesn't start."""

_ends_at: ContextVar[float] = ContextVar("ends_at", default=math.inf)
_unheard: ContextVar[bool] = ContextVar("unheard", default=False)
"""Whether this thread has read nothing since it sent a request."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit all reads and writes of this thread in the block to *seconds* together; then httpx's time-outs are raised.

    Two things can take longer. Looking up a name takes as long as the system's resolver allows. Reads through a proxy
    that is reached over TLS have only their own time-outs.
    """
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def left() -> float:
    """Return the seconds that are left in this thread's `within` block."""
    return _ends_at.get() - time.monotonic()


class PunctualTransport(httpx.BaseTransport):
    """httpcore's pool behind httpx's interface.

    Each step ends after CONNECT_SECONDS or READ_SECONDS, and all of them together end with the caller's `within` block.
    httpx's own transport can't use our network backend, but httpcore's pool can. A connection serves one account after
    the other. So bytes that arrive before a request is sent are never taken for the answer to that request.
    """

    def __init__(self, *, connections: int, keepalive_seconds: float, proxy: str | None) -> None:
        self._connections = connections
        context = httpx.create_ssl_context()
        options: dict[str, Any] = {
            "ssl_context": context,
            "max_connections": connections,
            "max_keepalive_connections": connections,
            "keepalive_expiry": keepalive_seconds,
            "network_backend": _Backend(),
        }
        self._pool: httpcore.ConnectionPool
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
        else:
            way = httpx.Proxy(proxy)
            if way.url.scheme == "https":
                options["proxy_ssl_context"] = context
            self._pool = httpcore.HTTPProxy(_address(way.url), proxy_auth=way.raw_auth, **options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a GET unchanged; the caller reads the body of the answer."""
        with _translated():
            answer = self._answer(request)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def _answer(self, request: httpx.Request) -> httpcore.Response:
        """Return the answer to *request*; if bytes came before it was sent, sends it again over another connection."""
        step = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS}
        for _ in range(self._connections):
            asked = httpcore.Request(
                request.method,
                _address(request.url),
                headers=request.headers.raw,
                extensions={"timeout": {**step, "pool": _left()}},
            )
            _unheard.set(False)
            try:
                answer = self._pool.handle_request(asked)
            except httpcore.RemoteProtocolError:
                if not _unheard.get():
                    raise
                continue
            if not _unheard.get():
                return answer
            answer.close()
        raise httpcore.RemoteProtocolError(
            "every connection had an answer before the request was sent"
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        with _translated():
            self._answer.close()


def _address(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Raise httpx's exception in place of httpcore's."""
    try:
        yield
    except tuple(_MEANING) as error:
        meaning = next(_MEANING[kind] for kind in type(error).__mro__ if kind in _MEANING)
        raise meaning(str(error)) from error


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *options: Any, **named: Any
    ) -> httpcore.NetworkStream:
        """Return a connection to the first address that takes one; all of them share the deadline."""
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _addresses(host, port):
            try:
                return _Stream(
                    super().connect_tcp(address, port, _left(timeout), *options, **named)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return [str(address[0]) for *_, address in found]


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        _unheard.set(False)
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _unheard.set(True)
        self._stream.write(buffer, _left(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            self.close()
            return _Broken(error)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Broken(httpcore.NetworkStream):
    """A stream whose handshake failed; it raises the failure when it is used.

    Behind a proxy, httpcore's pool is not told about earlier failures, and the connection would keep its place there.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        raise self._error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        raise self._error

    def close(self) -> None:
        """Do nothing: the stream is closed already."""


def _left(step: float | None = None) -> float:
    """Return the seconds that a step may take, at most *step*; raises httpcore's ReadTimeout if no time is left."""
    seconds = left()
    if seconds <= 0:
        raise httpcore.ReadTimeout("the request has had its time")
    return min(seconds, READ_SECONDS if step is None else step)
