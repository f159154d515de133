"""One authenticated GET of a PagerDuty region becomes one Reply, which says only what came over the wire.

The process can send nothing but GET to a configured region. It keeps no cookies and follows no redirects, so nothing
from one credential's answer reaches another credential's request. It uses the proxy of HTTPS_PROXY and the certificates
of SSL_CERT_FILE, which many companies need; loopback is always direct.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version
from itertools import islice
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import httpx

from workers import exact
from workers.errors import SettingsFault, UsageFault
from workers.pagerduty.bodies import read_body
from workers.pagerduty.transport import PunctualTransport, left, within
from workers.room import NoRoom, Share
from workers.settings.urls import check_proxy, is_loopback

CONNECTIONS = 80
"""The most slots that a process can have: waiting for a connection would count as PagerDuty's silence. httpx's pool
slows down steeply above about 100."""
KEEPALIVE_SECONDS = 20.0
WORDS_LENGTH = 300
_MARGIN_SECONDS = 0.5
"""A body stops waiting for memory this long before its deadline, so that it doesn't count as late."""
KEY_LENGTH = 20  # PagerDuty's keys today
SHORTEST_KEY, LONGEST_KEY = 16, 200

_KEY = re.compile(r"[A-Za-z0-9_+-]+")
_PATH = re.compile(r"(/[A-Za-z0-9_-]+)+")
"""Paths of characters that no program on the way decodes, encodes or folds, so they arrive as the recipe says."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=/+-]{1,100}")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,40}/[A-Za-z0-9.+-]{1,60}")


class Outcome(StrEnum):
    """The meaning of a reply for the page that asked."""

    OK = "ok"
    RETRY = "retry"  # ask the same again later
    WAIT = "wait"  # wait for budget
    STOP = "stop"  # stop the source: its key is refused
    CROWDED = "crowded"  # ask again later: other pages in this process take all the memory
    UNAVAILABLE = "unavailable"  # `Reply.reason` says why
    BAD_REQUEST = "bad_request"  # never ask the same again


_HEADERS = (
    ("Accept", "application/vnd.pagerduty+json;version=2"),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", f"pagetrail/{version('pagetrail')}"),
)
_OUTCOMES: Mapping[int, tuple[Outcome, str]] = {
    401: (Outcome.STOP, "key"),
    402: (Outcome.UNAVAILABLE, "plan"),
    403: (Outcome.UNAVAILABLE, "role"),
    404: (Outcome.UNAVAILABLE, "gone"),
    408: (Outcome.RETRY, "error"),
    429: (Outcome.WAIT, ""),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request, or the fact that no whole answer came."""

    outcome: Outcome
    status: int | None = None  # None: no whole answer arrived
    body: bytes = field(default=b"", repr=False)  # after content decoding
    reason: str = ""  # "plan", "role", "key", "gone", "error" or ""
    words: str = ""  # one short line: `words_of` the answer, or the failure of the connection
    request_id: str | None = None
    date: datetime | None = None  # the server's, aware UTC
    limit: int | None = None
    remaining: int | None = None
    reset_seconds: int | None = None
    timed_out: bool = False
    # The wanted members of the body; always set if the outcome is OK.
    members: Mapping[str, exact.Written] | None = field(default=None, repr=False, compare=False)

    @property
    def gist(self) -> str:
        """Return a line for PagerDuty's support: status, words, request id."""
        request = self.request_id and f"request id {self.request_id}"
        return ", ".join(filter(None, (str(self.status or "no answer"), self.words, request)))


class ReadOnlyTransport(httpx.BaseTransport):
    """Passes on GET requests to its origins, and refuses everything else before it is sent."""

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
        url = self._url(region, path, params)

        def grow(size: int) -> None:
            if share is not None:
                share.take(size, max(0.0, left() - _MARGIN_SECONDS))

        request = httpx.Request(
            "GET",
            url,
            headers=[*_HEADERS, ("Authorization", f"Token token={key}")],
        )
        if str(request.url) != url:
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

    def _url(self, region: str, path: str, params: Sequence[tuple[str, str]]) -> str:
        base = self._bases.get(region)
        if base is None:
            raise SettingsFault(f"The region {region!r} is not known: add it to PAGETRAIL_REGIONS.")
        if not _PATH.fullmatch(path):
            raise ValueError(
                "Only a path of plain segments is sent: others may be changed on the way."
            )
        return f"{base}{path}?{urlencode(params)}" if params else f"{base}{path}"


def fingerprint(region: str, key: str) -> str:
    """Return the 16 hex digits that name a credential without showing it."""
    return hashlib.sha256(f"{region}\n{key}".encode()).hexdigest()[:16]


def plausible_key(text: str) -> None:
    """Raise UsageFault if *text* can't be an API key; the sentence says why and doesn't repeat the text."""
    if _KEY.fullmatch(text) and SHORTEST_KEY <= len(text) <= LONGEST_KEY:
        return
    complaints = {
        "is empty": not text.strip(),
        "has quotes around or in it": any(sign in text for sign in "\"'`‘’“”«»"),
        "has a space or a line break in it": any(sign.isspace() for sign in text),
        "has a letter that no key has": not (text.isascii() and text.isprintable()),
        "has a sign other than letters, digits and _ - +": not _KEY.fullmatch(text),
        "looks cut off": len(text) < SHORTEST_KEY,
        "is far too long": len(text) > LONGEST_KEY,
    }
    what = next(words for words, is_so in complaints.items() if is_so)
    raise UsageFault(
        f"This can't be a PagerDuty API key: it {what}. "
        f"Copy the key alone, all {KEY_LENGTH} characters of it, and try again."
    )


def _unanswered(error: httpx.RequestError) -> Reply:
    # PoolTimeout means too many of our own requests, not a slow server. The error's text is not used, since it may
    # quote a header.
    slow = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.PoolTimeout)
    words = f"No whole answer: {type(error).__name__}."
    return Reply(Outcome.RETRY, reason="error", words=words, timed_out=slow)


def reply_to(response: httpx.Response, body: bytes, key: str, wanted: Sequence[str] = ()) -> Reply:
    """Return the reply for a *response* whose body was read whole, with the members *wanted*.

    The status alone decides the outcome, except that a success without these members is an error to retry.
    """
    status, headers = response.status_code, response.headers
    outcome, reason = _outcome(status)
    if outcome is not Outcome.OK:  # an error page may repeat the request, and with it the key
        body = body.replace(key.encode(), b"[key]")
    members = _members(body, wanted) if outcome is Outcome.OK else None
    if outcome is Outcome.OK and members is None:
        outcome, reason = Outcome.RETRY, "error"
    return Reply(
        outcome,
        status,
        body,
        reason,
        words="" if outcome is Outcome.OK else words_of(response, body, key),
        request_id=_matching(_REQUEST_ID, headers.get("x-request-id")),
        date=_date(headers.get("date")),
        limit=_whole(headers.get("ratelimit-limit")),
        remaining=_whole(headers.get("ratelimit-remaining")),
        reset_seconds=_whole(headers.get("ratelimit-reset")),
        timed_out=status == 408,
        members=members,
    )


def _outcome(status: int) -> tuple[Outcome, str]:
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    if 200 <= status < 300:
        return Outcome.OK, ""
    if 400 <= status < 500:
        return Outcome.BAD_REQUEST, "error"
    return Outcome.RETRY, "error"  # 5xx; and 3xx, which only something in between can have sent


def words_of(response: httpx.Response, body: bytes, key: str) -> str:
    """Return one short line about an answer that can't be used, without *key*.

    The line goes to logs, Sentry and Redis, and a body may hold records. So the line quotes only the error message of
    an error answer, in the shapes that PagerDuty is known to send. Any other body is described by its size and content
    type.
    """
    refused = response.status_code >= 400
    data = _decoded(body) if refused else None
    if data is not None:
        return _line("; ".join(islice(_error_texts(data), 20)).replace(key, "[key]"), WORDS_LENGTH)
    if refused and not body:
        return ""
    kind = _matching(_CONTENT_TYPE, response.headers.get("content-type", "").partition(";")[0])
    what = "not JSON" if refused else "not a JSON object"
    return f"{what}, {len(body)} bytes, content type {kind or 'unknown'}"


def _error_texts(data: object) -> Iterator[str]:
    """Yield the sentences of an error answer: `message` and `errors`, inside the member `error` or beside it."""
    error = data.get("error") or data if isinstance(data, dict) else None
    if not isinstance(error, dict):
        yield from _sentences(error)
        return
    yield from _sentences(error.get("message"))
    errors = error.get("errors")
    if not isinstance(errors, dict):
        yield from _sentences(errors)
        return
    for name, texts in errors.items():  # fields of a form, each with its complaints
        for text in _sentences(texts):
            yield f"{name}: {text}"


def _sentences(value: object) -> Iterator[str]:
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            yield text


def _matching(shape: re.Pattern[str], text: str | None) -> str | None:
    """Return *text* if it has the *shape*, or else None: other headers aren't repeated."""
    return text if text and shape.fullmatch(text) else None


def _line(text: str, length: int) -> str:
    """Return *text* as one line of at most *length* characters that a terminal can show."""
    visible = "".join(sign if sign.isprintable() else " " for sign in text[: 20 * length])
    line = " ".join(visible.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _members(body: bytes, names: Sequence[str]) -> Mapping[str, exact.Written] | None:
    try:
        exact.check_once(body, names)
        return exact.members(body, names)
    except ValueError:
        return None


def _decoded(body: bytes) -> Any | None:
    try:
        return exact.loads(body)
    except ValueError:
        return None


def _date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else None


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
