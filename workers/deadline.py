"""One end for a whole request: httpx limits each read and write alone, so a server that drips has it for ever."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import httpcore
import httpx

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0


def timeouts(deadline: float) -> dict[str, float]:
    """Return the `timeout` extension of a request to end by *deadline*, a moment of time.monotonic().

    `PunctualTransport` takes moments where httpx takes durations, but for the pool. Waiting for a connection counts as
    reading.
    """
    pool = _left(deadline, READ_SECONDS)
    return {"connect": deadline, "write": deadline, "read": deadline, "pool": pool}


class PunctualTransport(httpx.HTTPTransport):
    """A transport whose requests, connecting and the bodies of their answers included, end in time.

    Only looking up a name takes as long as the system's resolver is set to, and what drips through a proxy that is
    reached by TLS as long as each drop may. No single step takes longer than CONNECT_SECONDS and READ_SECONDS. What is
    late raises httpx's exceptions of time-outs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool._network_backend = _Backend()  # noqa: SLF001 - httpx passes none on


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *options: Any, **named: Any
    ) -> httpcore.NetworkStream:
        """Try one address after the other: left to itself, a socket gives each of them the whole time."""
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _addresses(host, port):
            left = _left(timeout, CONNECT_SECONDS)
            try:
                return _Stream(super().connect_tcp(address, port, left, *options, **named))
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
        return self._stream.read(max_bytes, _left(timeout, READ_SECONDS))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, READ_SECONDS))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            left = _left(timeout, CONNECT_SECONDS)
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            self.close()
            return _Broken(error)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Broken(httpcore.NetworkStream):
    """What became of a stream whose handshake failed; says so when it is used.

    Of a failure before that, behind a proxy, httpcore's pool never hears: the connection would keep its place in it.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        raise self._error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        raise self._error

    def close(self) -> None:
        """Do nothing: it is closed."""


def _left(deadline: float | None, most: float) -> float:
    """Return the seconds until *deadline*, but at most *most*; raises httpcore's ReadTimeout where none is left."""
    left = most if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the request has had its time")
    return min(left, most)
