"""Turns one authenticated GET to a PagerDuty region into one Reply, which says only what came over the wire.

The process can send nothing but GET to a configured region. It keeps no cookies and follows no redirects, so nothing
from one credential's answer reaches another credential's request. It uses the proxy of HTTPS_PROXY and the certificates
of SSL_CERT_FILE, which many companies need; loopback is always direct.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import httpx

from workers.errors import SettingsFault
from workers.pagerduty.bodies import read_body
from workers.pagerduty.keys import plausible_key
from workers.pagerduty.replies import Outcome, Reply, reply_to
from workers.pagerduty.transport import PunctualTransport, left, within
from workers.room import NoRoom, Share
from workers.settings.urls import check_proxy, is_loopback

CONNECTIONS = 80
"""As many as a process can have slots: waiting for a connection would take from the time that PagerDuty has to answer.
httpcore's pool slows down steeply above about 100."""
KEEPALIVE_SECONDS = 20.0
_MARGIN_SECONDS = 0.5
"""A body stops waiting for memory this long before its deadline, so that it doesn't count as late."""
_PATH = re.compile(r"(/[A-Za-z0-9_-]+)+")
"""Only characters that no program on the way decodes, encodes or folds, so that a path arrives as it was sent."""


_HEADERS = (
    ("Accept", "application/vnd.pagerduty+json;version=2"),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", f"pagetrail/{version('pagetrail')}"),
)


class ReadOnlyTransport(httpx.BaseTransport):
    """Sends GET requests to its origins, and refuses all other requests before they are sent."""

    def __init__(self, origins: Mapping[str, httpx.BaseTransport]) -> None:
        self._origins = origins

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*; raises PermissionError, before sending anything, unless it is a GET to an origin."""
        transport = self._origins.get(_origin(request.url))
        if request.method != "GET" or transport is None:
            raise PermissionError(f"Only GET to a configured region is sent, not {request.method}.")
        return transport.handle_request(request)

    def close(self) -> None:
        """Close every connection."""
        for transport in self._origins.values():
            transport.close()


class PagerDuty:
    """The only way to PagerDuty; one per process, safe to share between threads."""

    def __init__(self, regions: Mapping[str, str]) -> None:
        """Reach *regions* (name to base URL) and no other host; each has its own connections."""
        self._bases = {name: url.rstrip("/") for name, url in regions.items()}
        origins = {_origin(httpx.URL(base)) for base in self._bases.values()}
        self._transport = ReadOnlyTransport({origin: _connections(origin) for origin in origins})
        # At DEBUG, httpcore logs response headers.
        logging.getLogger("httpcore").setLevel(logging.WARNING)

    def get(
        self,
        region: str,
        path: str,
        params: Sequence[tuple[str, str]],
        key: str,
        *,
        deadline_seconds: float,
        members: Sequence[str] = (),
        share: Share | None = None,
    ) -> Reply:
        """Ask once and return the reply, with *members* of its body; a failure of the network is a reply too.

        The body's memory is taken from *share*, which keeps it; if there isn't enough in time, the reply is CROWDED. An
        answer that isn't complete by the deadline counts as timed out. Raises UsageFault for text that can't be a key,
        SettingsFault for an unknown region, and ValueError for a path that could be read in two ways; then nothing is
        sent.
        """
        plausible_key(key)
        base, asked = self._base(region), _address(path, params)

        def grow(size: int) -> None:
            if share is not None:
                share.take(size, max(0.0, left() - _MARGIN_SECONDS))

        request = httpx.Request(
            "GET",
            f"{base}{asked}",
            headers=[*_HEADERS, ("Authorization", f"Token token={key}")],
        )
        # httpx may write the region in another way, such as its host in small letters.
        if not str(request.url).endswith(asked):
            raise ValueError("httpx would send a different address from the one it was given.")
        try:
            with within(deadline_seconds), closing(self._transport.handle_request(request)) as came:
                try:
                    body = read_body(came, grow)
                except NoRoom:
                    crowded = reply_to(came, b"", key)
                    return replace(crowded, outcome=Outcome.CROWDED, reason="", words="")
        except httpx.RequestError as error:
            return _unanswered(error)
        return reply_to(came, body, key, members)

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def _base(self, region: str) -> str:
        base = self._bases.get(region)
        if base is None:
            raise SettingsFault(f"The region {region!r} is not known: add it to PAGETRAIL_REGIONS.")
        return base


def _address(path: str, params: Sequence[tuple[str, str]]) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError("Only a path of plain segments is sent: others may be changed on the way.")
    return f"{path}?{urlencode(params)}" if params else path


def _unanswered(error: httpx.RequestError) -> Reply:
    # PoolTimeout means too many of our own requests, not a slow server. The error's text is not used, because it may
    # quote a header.
    slow = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.PoolTimeout)
    words = f"No whole answer: {type(error).__name__}."
    return Reply(Outcome.RETRY, reason="error", words=words, timed_out=slow)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _connections(origin: str) -> httpx.BaseTransport:
    return PunctualTransport(
        connections=CONNECTIONS,
        keepalive_seconds=KEEPALIVE_SECONDS,
        proxy=_proxy(httpx.URL(origin).host),
    )


def _proxy(host: str) -> str | None:
    """Return the proxy for *host*, if the environment names one; `SettingsFault` if httpx can't use it."""
    named = getproxies().get("https")
    if not named or is_loopback(host) or proxy_bypass(host):
        return None
    try:
        return check_proxy(named)
    except ValueError:
        raise SettingsFault(
            "HTTPS_PROXY must be the http:// or https:// URL of a proxy, or its host and port."
        ) from None
