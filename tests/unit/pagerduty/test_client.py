"""The meaning of PagerDuty's statuses and bodies, and the form of keys, without a network."""

import json
import traceback
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import SettingsFault, UsageFault
from workers.pagerduty.client import PagerDuty, ReadOnlyTransport
from workers.pagerduty.keys import fingerprint, plausible_key
from workers.pagerduty.replies import WORDS_LENGTH, Outcome, Reply, reply_to, words_of

KEY = "u+Abcdefgh-123456_xy"


def response(status: int, body: bytes | object = b"", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, content=content)


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        (200, {"incidents": []}, Outcome.OK, ""),
        (201, {"overrides": []}, Outcome.OK, ""),
        (200, rb'{"incidents": [{"title": "cut \ud83d"}]}', Outcome.OK, ""),
        (200, b'{"incidents": [{"title": "caf\xe9"}]}', Outcome.OK, ""),
        (200, b'{"incidents": [', Outcome.RETRY, "error"),
        (200, b"<html>busy</html>", Outcome.RETRY, "error"),
        (200, b"[]", Outcome.RETRY, "error"),
        (200, b"", Outcome.RETRY, "error"),
        (204, b"", Outcome.RETRY, "error"),
        (302, b"", Outcome.RETRY, "error"),
        (400, {"error": "no"}, Outcome.BAD_REQUEST, "error"),
        (401, b"<html>", Outcome.STOP, "key"),
        (402, {"error": {"code": 2014}}, Outcome.UNAVAILABLE, "plan"),
        (403, {"error": {"code": 403}}, Outcome.UNAVAILABLE, "role"),
        (404, b"", Outcome.UNAVAILABLE, "gone"),
        (405, b"", Outcome.BAD_REQUEST, "error"),
        (408, {"error": {"code": 2016}}, Outcome.RETRY, "error"),
        (422, b"", Outcome.BAD_REQUEST, "error"),
        (429, b"", Outcome.WAIT, ""),
        (500, b"", Outcome.RETRY, "error"),
        (503, b"<html>", Outcome.RETRY, "error"),
        (599, b"", Outcome.RETRY, "error"),
    ],
)
def test_the_status_alone_decides_the_outcome(
    status: int, body: object, outcome: Outcome, reason: str
) -> None:
    answer = response(status, body)
    reply = reply_to(answer, answer.content, KEY)
    assert (reply.status, reply.outcome, reply.reason) == (status, outcome, reason)
    assert reply.timed_out == (status == 408)
    assert (reply.members is not None) == (outcome is Outcome.OK)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "Not Found", "code": 2100}}, "Not Found"),
        ({"error": {"message": "Bad", "code": 1, "errors": ["One.", "Two."]}}, "Bad; One.; Two."),
        ({"error": {"message": "Bad", "errors": "One."}}, "Bad; One."),
        ({"error": {"message": "Bad", "errors": {"name": ["is long"]}}}, "Bad; name: is long"),
        ({"error": {"message": "Bad", "errors": None}}, "Bad"),
        ({"error": {"message": "Bad", "errors": []}}, "Bad"),
        ({"error": {"message": None, "errors": [None, 3, {"x": 1}]}}, ""),
        ({"error": "plain words"}, "plain words"),
        ({"error": ["one", "two"]}, "one; two"),
        ({"error": None, "message": "outside"}, "outside"),
        ({"errors": {"since": ["is late"]}}, "since: is late"),
        (b"", ""),
        ({"error": "a\x1b[2Jb\u202ec\nd"}, "a [2Jb c d"),
        ({"error": f"key {KEY} is unknown"}, "key [key] is unknown"),
    ],
)
def test_the_error_message_of_every_known_error_body_is_found(body: object, words: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = reply_to(response(400, content), content, KEY)
    assert reply.words == words


PERSON = "Zebulon Quartermain"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, f'{{"users": [{{"name": "{PERSON}"', "not a JSON object, 41 bytes, content type unknown"),
        (200, f"<p>{PERSON}</p>", "not a JSON object, 26 bytes, content type unknown"),
        (200, f'["{PERSON}"]', "not a JSON object, 23 bytes, content type unknown"),
        (302, f"<p>{PERSON}</p>", "not a JSON object, 26 bytes, content type unknown"),
        (502, f"<p>{PERSON}</p>", "not JSON, 26 bytes, content type unknown"),
        (404, f'"{PERSON}"', ""),
        (404, f'[{{"message": "{PERSON}"}}]', ""),
        (500, f'{{"users": [{{"name": "{PERSON}"}}]}}', ""),
        (500, f'{{"error": {{"user": "{PERSON}"}}, "message": "{PERSON}"}}', ""),
        (400, f'{{"error": {{"message": "Bad", "errors": [{{"a": "{PERSON}"}}]}}, "user": "{PERSON}"}}', "Bad"),
    ],
)  # fmt: skip
def test_only_the_message_of_an_error_is_quoted_from_a_body(
    status: int, body: str, words: str
) -> None:
    answer = response(status, body.encode(), x_request_id=PERSON)
    reply = reply_to(answer, answer.content, KEY)
    assert reply.words == words
    assert "Zebulon" not in f"{reply!r} {reply.gist}"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("text/html; charset=utf-8", "text/html"),
        ("application/vnd.pagerduty+json", "application/vnd.pagerduty+json"),
        (f"text/{PERSON}", "unknown"),
        ("x" * 500, "unknown"),
        ("", "unknown"),
    ],
)
def test_a_body_that_is_not_json_is_described_by_its_size_and_content_type(
    header: str, kind: str
) -> None:
    answer = response(503, b"busy", content_type=header)
    assert reply_to(answer, b"busy", KEY).words == f"not JSON, 4 bytes, content type {kind}"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text() | st.just(KEY),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["error", "message", "errors", KEY]) | st.text(), inner)
    ),
    max_leaves=20,
)


@given(ANY_JSON.map(lambda data: json.dumps(data).encode()) | st.binary())
def test_words_of_any_body_are_one_short_line_without_the_key(body: bytes) -> None:
    words = words_of(response(400), body, KEY)
    assert len(words) <= WORDS_LENGTH
    assert words.isprintable()
    assert KEY not in words


def test_a_deeply_nested_body_is_described_too() -> None:
    data: object = "deep"
    for _ in range(100):
        data = {"error": [data]}
    assert words_of(response(400), json.dumps(data).encode(), KEY) == ""


def test_an_error_page_that_repeats_the_key_is_kept_without_it() -> None:
    body = b'{"error": "no such key ' + KEY.encode() + b'"}'
    assert KEY not in repr(reply_to(response(400, body), body, KEY))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("960", 960),
        ("0", 0),
        ("-1", None),
        ("1.5", None),
        ("x", None),
        ("", None),
        ("9" * 30, None),
    ],
)
def test_limit_headers_are_numbers_or_nothing(text: str, number: int | None) -> None:
    answer = response(200, b"{}", ratelimit_limit=text, ratelimit_remaining=text)
    reply = reply_to(answer, b"{}", KEY)
    assert (reply.limit, reply.remaining, reply.reset_seconds) == (number, number, None)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Mon, 23 Nov 2026 10:00:00 GMT", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("Mon, 23 Nov 2026 10:00:00 -0000", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("Mon, 23 Nov 2026 10:00:00 +0200", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_date_is_aware_utc_or_nothing(text: str, moment: datetime | None) -> None:
    assert reply_to(response(200, b"{}", date=text), b"{}", KEY).date == moment


def test_the_fingerprint_names_region_and_key_without_showing_either() -> None:
    name = fingerprint("us", KEY)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert name == fingerprint("us", KEY) != fingerprint("eu", KEY)


@pytest.mark.parametrize("key", [KEY, "abcdefghij0123456789", "pdus+_0XBPWQQ_dfd4aa17-abc"])
def test_keys_of_every_known_form_are_plausible(key: str) -> None:
    plausible_key(key)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        (f'"{KEY}"', "quotes"),
        (f"\u201c{KEY}\u201d", "quotes"),
        (f" {KEY}", "space"),
        (f"{KEY}\n", "space or a line break"),
        (f"Token token={KEY}", "space"),
        (f"token={KEY}", "a character other than"),
        ("u+Abcdefgh…456_xyzzy", "a letter that no key has"),
        ("u+Abcdefghé123456_xy", "a letter that no key has"),
        ("u+Abcdefgh\x00123456_xy", "a letter that no key has"),
        ("u+Abcd", "cut off"),
        ("x" * 201, "too long"),
    ],
)
def test_text_that_cannot_be_a_key_is_refused_and_not_repeated(text: str, complaint: str) -> None:
    with pytest.raises(UsageFault, match=complaint) as refused:
        plausible_key(text)
    assert not text.strip() or text not in str(refused.value)


class Recorder(httpx.BaseTransport):
    """Takes the place of the network."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return httpx.Response(200, content=b"{}")


@pytest.mark.parametrize(
    ("method", "url"),
    [(method, "https://api.pagerduty.com/users") for method in ("POST", "PUT", "PATCH", "DELETE")]
    + [(method, "https://api.pagerduty.com/users") for method in ("HEAD", "OPTIONS", "TRACE", "X")]
    + [
        ("GET", "http://api.pagerduty.com/users"),
        ("GET", "https://api.pagerduty.com:444/users"),
        ("GET", "https://api.pagerduty.com.example/users"),
        ("GET", "https://identity.pagerduty.com/oauth/token"),
        ("GET", "https://api.pagerduty.com@example.com/"),
    ],
)
def test_nothing_but_get_to_a_configured_region_is_sent(method: str, url: str) -> None:
    network = Recorder()
    transport = ReadOnlyTransport({"https://api.pagerduty.com": network})
    with httpx.Client(transport=transport) as client, pytest.raises(PermissionError):
        client.request(method, url)
    assert network.sent == []


def test_get_is_the_only_verb_the_client_has() -> None:
    verbs = {name for name in dir(PagerDuty) if not name.startswith("_")}
    assert verbs == {"get", "close"}


@pytest.fixture
def client() -> PagerDuty:
    return PagerDuty({"us": "https://api.pagerduty.com"})


def test_an_unknown_region_is_a_fault_of_the_settings(client: PagerDuty) -> None:
    with pytest.raises(SettingsFault, match="PAGETRAIL_REGIONS"):
        client.get("ap", "/users", [], KEY, deadline_seconds=1)


@pytest.mark.parametrize(
    "path",
    [
        "@example.com/",
        "",
        "/",
        "/teams/../members",
        "/teams/./members",
        "/teams//members",
        "/teams/%2E%2E/members",
        "/teams/a%2Fb/members",
        "/teams/P1?limit=1",
        "/teams/P1#x",
        "/teams/P1\r\nX-Evil: 1",
        "/teams/ü/members",
        "/teams/P1;x/members",
        "/teams/P1\\x",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(client: PagerDuty, path: str) -> None:
    with pytest.raises(ValueError, match="plain segments"):
        client.get("us", path, [], KEY, deadline_seconds=1)


def test_a_malformed_key_never_gets_into_a_header(client: PagerDuty) -> None:
    with pytest.raises(UsageFault):
        client.get("us", "/users", [], f"{KEY}\r\nX-Evil: 1", deadline_seconds=1)


@pytest.mark.parametrize(
    "proxy", ["socks5://u:hunter2@proxy:1080", "http://u:hunter2@", "u:hunter2@proxy:port"]
)
def test_a_proxy_that_nobody_can_use_is_a_sentence_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SettingsFault, match=r"^HTTPS_PROXY must be .*\.$") as caught:
        PagerDuty({"us": "https://api.pagerduty.example"})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("reply", "gist"),
    [
        (Reply(Outcome.RETRY, 500, words="Internal", request_id="r-1"), "500, Internal, request id r-1"),
        (Reply(Outcome.RETRY, 502), "502"),
        (Reply(Outcome.RETRY, words="ReadTimeout", timed_out=True), "no answer, ReadTimeout"),
    ],
)  # fmt: skip
def test_the_gist_of_a_reply_is_a_line_for_pagerdutys_support(reply: Reply, gist: str) -> None:
    assert reply.gist == gist
