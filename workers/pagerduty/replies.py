"""The result of a request: PagerDuty's answer, or the reason why there isn't one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from workers import exact

if TYPE_CHECKING:  # httpx is slow to load, and only a process that asks PagerDuty needs it
    import httpx

WORDS_LENGTH = 300
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
    return Outcome.RETRY, "error"  # 5xx; also 3xx, which only a program on the way can have sent


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
    """Return *text* if it has the *shape*, or else None, so that no other text of a header is passed on."""
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
