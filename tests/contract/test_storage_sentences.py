"""Each way in which a store can refuse us gives one sentence that says what to do, without a secret."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.test_storage_faults import assert_plain
from tests.s3_double import Answer, Request, S3Double, refusal
from tests.tls_process import tls_relay
from workers.errors import StorageUnreachable
from workers.storage import Storage, Version, objects, open_storage
from workers.storage.objects import ObjectStorage

Call = Callable[[Storage], object]
CALLS: dict[str, Call] = {
    "list": lambda storage: list(storage.list("a")),
    "children": lambda storage: storage.children("a"),
    "get": lambda storage: storage.get("a"),
    "open": lambda storage: storage.open("a"),
    "put": lambda storage: storage.put_new("a", b"1"),
    "replace": lambda storage: storage.replace_if("a", b"2", Version('"1"')),
    "delete": lambda storage: storage.delete("a"),
}

ANSWERS = [
    # AWS, and stores with the same interface
    (400, "ExpiredToken", "The provided token has expired.", "credentials have expired"),
    (403, "InvalidAccessKeyId", "does not exist in our records.", "credentials are refused"),
    (403, "SignatureDoesNotMatch", "does not match.", "credentials are refused"),
    (403, "RequestTimeTooSkewed", "The difference is too large.", "this machine's clock"),
    (400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'", "in another region"),
    (301, "PermanentRedirect", "must be addressed using the endpoint", "in another region"),
    (404, "NoSuchBucket", "The specified bucket does not exist", "bucket does not exist"),
    (403, "QuotaExceeded", "No more.", "quota is used up"),
    (402, "PaymentRequired", "Pay.", "quota is used up"),
    (400, "BadDigest", "The SHA256 you specified did not match.", "other bytes than were sent"),
    # Backblaze B2's refusal of conditional writes
    (501, "NotImplemented", "A header you provided implies …", "conditional writes"),
    # Azure and Cloudflare
    (403, "BlobImmutableDueToPolicy", "This operation is not permitted.", "is locked"),
    (403, "ObjectLockedByBucketPolicy", "The object is locked.", "is locked"),
    (403, "AuthenticationFailed", "Server failed to authenticate.", "credentials are refused"),
    # not a store
    (418, "Teapot", "short and stout", "it fails: look at its health"),
]


def said(call: Call, storage: str | Storage) -> str:
    """Return the sentence with which *call* fails."""
    with pytest.raises(StorageUnreachable) as caught:
        call(open_storage(storage) if isinstance(storage, str) else storage)
    assert_plain(str(caught.value))
    assert "double-secret-key" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("status", "code", "message", "words"), ANSWERS)
def test_an_answer_says_what_to_do(
    double: S3Double,
    double_url: str,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    message: str,
    words: str,
) -> None:
    """The sentence depends only on the answer, not on the request, and has the server's own code."""
    monkeypatch.setitem(objects._RETRY, "max_retries", 0)
    double.rules.append(lambda _: refusal(status, code, message))
    storage = open_storage(double_url)
    for call in CALLS.values():
        sentence = said(call, storage)
        assert words in sentence
        assert f"({code})" in sentence or status == 301  # obstore doesn't show this body


def test_a_missing_right_is_named(double: S3Double, double_url: str) -> None:
    """The sentence names the right that the call needs."""
    double.rules.append(lambda _: refusal(403, "AccessDenied", "Access Denied"))
    storage = open_storage(double_url)
    rights = ("list", "list", "read", "read", "write", "write", "delete")
    for call, right in zip(CALLS.values(), rights, strict=True):
        assert f"may not {right} objects" in said(call, storage)


def test_a_right_to_read_but_not_to_list_fails_the_check(double: S3Double, double_url: str) -> None:
    """Without that right, S3 calls a missing object forbidden, so the two can't be told apart."""

    def no_lists(request: Request) -> Answer | None:
        missing = request.method == "GET" and request.key not in double.objects
        return refusal(403, "AccessDenied", "Access Denied") if missing else None

    double.rules.append(no_lists)
    assert "or not list them" in said(lambda storage: storage.check(), double_url)


def test_a_locked_object_is_reported_when_it_is_deleted(double: S3Double, double_url: str) -> None:
    """A store that refuses a deletion says so inside an answer with status 200."""
    locked = (
        b"<DeleteResult><Error><Key>prefix/a</Key><Code>AccessDenied</Code><Message>Access Denied "
        b"because object protected by object lock.</Message></Error></DeleteResult>"
    )
    double.rules.append(lambda r: Answer(200, locked) if r.method == "POST" else None)
    assert "is locked: delete it when its retention has ended" in said(CALLS["delete"], double_url)


def test_a_profile_is_not_read(
    double: S3Double, double_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If AWS_PROFILE is set without keys, the sentence says that it is ignored."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "evidence")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    assert "AWS_PROFILE is not read" in said(CALLS["get"], double_url)
    assert double.requests == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_ENDPOINT_URL", "storage"),
        ("AWS_ENDPOINT_URL", "http://storage example"),
        ("AWS_ENDPOINT_URL", "http://storage:99999"),
        ("AWS_ACCESS_KEY_ID", "key\nid"),
        ("AWS_REGION", "eu\nwest"),
    ],
)
def test_a_malformed_variable_is_not_a_panic(
    double: S3Double, double_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """obstore panics on these, and `except Exception` doesn't catch a panic."""
    monkeypatch.setenv(variable, value)
    assert "variables is malformed" in said(CALLS["get"], double_url)


def test_an_unknown_certificate_and_a_server_without_tls(
    double: S3Double, double_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = int(double.endpoint.rpartition(":")[2])
    with tls_relay(port, tmp_path) as (secure, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{secure}")
        assert "certificate is not known" in said(CALLS["get"], double_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{port}")
    assert "doesn't speak TLS" in said(CALLS["get"], double_url)


def test_a_host_that_is_not_there(
    double: S3Double, double_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://nosuch.invalid")
    assert "host can't be found" in said(CALLS["get"], double_url)


def test_other_panics_pass() -> None:
    """A panic of another library is not taken for one of obstore."""
    with pytest.raises(KeyboardInterrupt), ObjectStorage("memory://")._plain_faults():
        raise KeyboardInterrupt
