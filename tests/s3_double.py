"""Serves objects in memory with the part of S3's interface that obstore uses, as strictly as a test wants.

The tests use SeaweedFS as the real server. This double has rules that SeaweedFS doesn't enforce.
"""

import hashlib
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "evidence"


@dataclass(frozen=True)
class Request:
    """One request as it was received. *key* is "" for a request to the bucket."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Rule = Callable[[Request], Answer | None]


def refusal(status: int, code: str, message: str, **headers: str) -> Answer:
    """Return an error in S3's format."""
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Answer(status, text.encode(), headers)


@dataclass
class S3Double:
    """The objects of a server, its requests, and the rules that can refuse a request before it takes effect."""

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """Return the standard variables with which any S3 client finds this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "double",
            "AWS_SECRET_ACCESS_KEY": "double-secret-key",
            "AWS_REGION": "us-east-1",
        }

    def answer(self, request: Request) -> Answer:
        """Carry out *request*, unless a rule refuses it."""
        with self._lock:
            self.requests.append(request)
            for rule in self.rules:
                if refused := rule(request):
                    return refused
            return self._carry_out(request)

    def _carry_out(self, request: Request) -> Answer:
        if request.method == "POST":
            return self._delete(request)
        if request.method == "PUT":
            return self._put(request)
        if not request.key:
            return self._list(request.query)
        data = self.objects.get(request.key)
        if data is None:
            return refusal(404, "NoSuchKey", "The specified key does not exist.")
        return _content(request, data)

    def _put(self, request: Request) -> Answer:
        before = self.objects.get(request.key)
        wanted = request.headers.get("if-match")
        if request.headers.get("if-none-match") == "*" and before is not None:
            return refusal(412, "PreconditionFailed", "At least one condition did not hold.")
        if wanted and (before is None or _tag(before) != wanted):
            return refusal(412, "PreconditionFailed", "At least one condition did not hold.")
        self.objects[request.key] = request.body
        return Answer(200, b"", {"ETag": _tag(request.body)})

    def _delete(self, request: Request) -> Answer:
        keys = _changed(request)
        for key in keys:
            self.objects.pop(key, None)
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return Answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

    def _list(self, query: Mapping[str, str]) -> Answer:
        """Answer a ListObjectsV2. A key with the delimiter counts as the name before the delimiter."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after, token = query.get("start-after", ""), query.get("continuation-token", "")
        names: dict[str, None] = {}
        for key in sorted(self.objects):
            head, cut, _ = key.removeprefix(prefix).partition(delimiter or "\0")
            name = prefix + head + cut
            if key.startswith(prefix) and key > after and name > token:
                names[name] = None
        page = list(names)[: int(query.get("max-keys", "1000"))]
        return Answer(200, self._listing(page, truncated=len(page) < len(names)).encode())

    def _listing(self, names: list[str], *, truncated: bool) -> str:
        contents = "".join(
            self._entry(name)
            if name in self.objects
            else f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in names
        )
        token = escape(names[-1]) if truncated else ""
        more = f"<NextContinuationToken>{token}</NextContinuationToken>" if truncated else ""
        told = f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{more}"
        return f"<ListBucketResult>{told}{contents}</ListBucketResult>"

    def _entry(self, key: str) -> str:
        data = self.objects[key]
        return (
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{_tag(data)}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        )


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'


def _content(request: Request, data: bytes) -> Answer:
    headers = {"ETag": _tag(data), "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
    if not span:
        return Answer(200, data, headers)
    start, end = int(span[1]), min(int(span[2]), len(data) - 1)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Answer(206, data[start : end + 1], headers)


def demand_checksum(request: Request) -> Answer | None:
    """Refuse a put without a checksum, as a bucket with Object Lock does, and one with a wrong checksum."""
    if request.method != "PUT":
        return None
    given = request.headers.get("x-amz-checksum-sha256")
    if given is None:
        return refusal(
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
            "Object Lock parameters",
        )
    if given != b64encode(hashlib.sha256(request.body).digest()).decode():
        return refusal(400, "BadDigest", "The SHA256 you specified did not match.")
    return None


class OneChangeASecond:
    """The rule of a store that accepts one change per object and second, such as Google's."""

    def __init__(self) -> None:
        self._latest: dict[str, float] = {}
        self.refused: list[str] = []

    def __call__(self, request: Request) -> Answer | None:
        now = time.monotonic()
        for key in _changed(request):
            if now - self._latest.get(key, now - 1) < 1:
                self.refused.append(key)
                return refusal(429, "SlowDown", "The object exceeded the limit for mutations.")
            self._latest[key] = now
        return None


def _changed(request: Request) -> list[str]:
    if request.method == "POST":
        return re.findall(r"<Key>(.*?)</Key>", request.body.decode())
    return [request.key] if request.method in ("PUT", "DELETE") else []


@contextmanager
def s3_double(*rules: Rule) -> Iterator[S3Double]:
    """Run a server with one empty bucket and *rules* until the block ends."""
    double = S3Double(rules=list(rules))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            key = unquote(parts.path).removeprefix(f"/{BUCKET}").removeprefix("/")
            self._send(double.answer(Request(self.command, key, query, headers, body)))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        double.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield double
        finally:
            server.shutdown()
