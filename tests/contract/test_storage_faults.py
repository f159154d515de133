"""A storage that fails gives one plain sentence, soon and without a secret, and leaves nothing half done."""

import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.permissions import unprivileged
from tests.s3_double import Answer, OneChangeASecond, S3Double, refusal
from tests.seaweed import S3Server
from workers.errors import Busy, StorageConflict, StorageUnreachable
from workers.storage import Storage, Version, local, objects, open_storage
from workers.storage.local import LocalStorage

EVERY_CALL: dict[str, Callable[[Storage, Path], object]] = {
    "put_new": lambda storage, file: storage.put_new("a/b", b"1"),
    "put_new_file": lambda storage, file: storage.put_new_file("a/b", file),
    "get": lambda storage, file: storage.get("a/b"),
    "get_start": lambda storage, file: storage.get_start("a/b", 10),
    "open": lambda storage, file: list(storage.open("a/b") or ()),
    "list": lambda storage, file: list(storage.list("a")),
    "children": lambda storage, file: storage.children("a"),
    "delete": lambda storage, file: storage.delete("a/b"),
    "get_versioned": lambda storage, file: storage.get_versioned("a/b"),
    "replace_if": lambda storage, file: storage.replace_if("a/b", b"2", Version("0" * 64)),
    "check": lambda storage, file: storage.check(),
}
every_call = pytest.mark.parametrize("call", EVERY_CALL.values(), ids=EVERY_CALL)


@pytest.fixture
def spooled(tmp_path: Path) -> Path:
    (tmp_path / "spool").write_bytes(b"1")
    return tmp_path / "spool"


def assert_plain(message: str, server: S3Server | None = None) -> None:
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 300
    if server:
        assert server.secret_key not in message
        assert server.access_key not in message


@every_call
def test_a_missing_bucket_is_not_taken_for_a_missing_object(
    s3_url: str, s3: S3Server, spooled: Path, call: Callable[[Storage, Path], object]
) -> None:
    """A bucket that doesn't exist is reported as such, not as a missing key."""
    with pytest.raises(StorageUnreachable, match="bucket does not exist") as caught:
        call(open_storage("s3://no-such-bucket/evidence"), spooled)
    assert_plain(str(caught.value), s3)


@every_call
def test_refused_credentials_are_named_but_not_shown(
    s3_url: str,
    s3: S3Server,
    spooled: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Storage, Path], object],
) -> None:
    """A wrong secret key ends every call with a sentence that shows no part of it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-key")
    with pytest.raises(StorageUnreachable, match="credentials are refused") as caught:
        call(open_storage(s3_url), spooled)
    assert_plain(str(caught.value), s3)
    assert "wrong-secret-key" not in str(caught.value)


@every_call
@pytest.mark.timeout(30)
def test_a_server_that_is_down_is_reported_soon(
    s3_url: str,
    spooled: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Storage, Path], object],
) -> None:
    """A refused connection is only tried a few times."""
    with socket.socket() as taken:  # bound but not listening, so no other process gets the port
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StorageUnreachable, match="does not answer") as caught:
            call(open_storage(s3_url), spooled)
    assert_plain(str(caught.value))


@pytest.mark.timeout(60)
def test_a_silent_server_is_given_up(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts the request and never answers delays nobody for long."""
    monkeypatch.setattr(objects, "_REQUEST_TIMEOUT", timedelta(milliseconds=300))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageUnreachable, match="in time"):
            open_storage(s3_url).get("a")


@pytest.mark.timeout(60)
def test_missing_credentials_are_reported(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are no credentials anywhere, the sentence says so."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StorageUnreachable, match="no credentials") as caught:
            open_storage(s3_url).get("a")
    assert_plain(str(caught.value))


def test_keys_may_be_files(
    s3_url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The secrets directory may hold the cloud's own keys. The environment takes precedence."""
    monkeypatch.setenv("PAGETRAIL_SECRETS_DIR", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
        (tmp_path / name).write_text(f"{s3.environment[name]}\n")
    assert open_storage(s3_url).put_new("a", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-key")
    with pytest.raises(StorageUnreachable, match="credentials are refused"):
        open_storage(s3_url).get("a")


def test_plain_http_is_for_loopback(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to other hosts are never sent unencrypted, unless a setting allows it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.invalid:80")
    with pytest.raises(StorageUnreachable, match="plain http is for loopback"):
        open_storage(s3_url).get("a")


def test_plain_http_elsewhere_can_be_asked_for(
    s3_url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_ALLOW_HTTP, the standard variable, is honoured."""
    monkeypatch.setattr(objects, "is_loopback", lambda _: False)
    with pytest.raises(StorageUnreachable, match="plain http"):
        open_storage(s3_url).get("a")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert open_storage(s3_url).get("a") is None


def test_a_server_that_overwrites_fails_the_check(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that ignores the condition of a put would lose evidence, so it is refused."""

    class Overwriting(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Overwriting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StorageUnreachable, match="overwrites objects that it should keep"):
            open_storage(s3_url).check()
        server.shutdown()


def test_the_start_of_an_object_is_one_request_for_that_range(
    double: S3Double, double_url: str
) -> None:
    double.objects["prefix/a/b"] = bytes(100_000)
    assert open_storage(double_url).get_start("a/b", 10) == bytes(10)
    [request] = double.requests
    assert request.headers["range"] == "bytes=0-9"


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: replace(answer, status=200),
        lambda answer: Answer(416, b"", {"Content-Range": "bytes */10"}),
        lambda answer: replace(answer, headers=answer.headers | {"Content-Range": "bytes 5-9/10"}),
        lambda answer: replace(answer, headers=answer.headers | {"Content-Range": "a lie"}),
    ],
    ids=["no range", "refused", "another range", "nonsense"],
)
def test_a_server_that_has_its_own_idea_of_ranges_is_asked_for_the_whole_object(
    double: S3Double, double_url: str, change: Callable[[Answer], Answer]
) -> None:
    double.objects["prefix/a/b"] = b"0123456789"
    carry_out = double.answer
    double.answer = lambda r: change(carry_out(r)) if "range" in r.headers else carry_out(r)  # type: ignore[method-assign]  # a double
    assert open_storage(double_url).get_start("a/b", 4) == b"0123"


def test_the_name_after_another_is_one_request(double: S3Double, double_url: str) -> None:
    """It is one request, however many objects come before it and below it."""
    for run in range(1, 4):
        keys = (f"prefix/t/runs/{run:08d}/pages/{page}" for page in range(1_500))
        double.objects.update(dict.fromkeys(keys, b""))
    storage = open_storage(double_url)
    names = ["", "00000001", "00000002", "00000003"]
    assert [storage.after("t/runs", name) for name in names] == [*names[1:], None]
    assert len(double.requests) == len(names)


def test_a_store_that_always_lists_from_the_beginning_fails_the_check(
    double: S3Double, double_url: str
) -> None:
    """If the store ignores where the list should start, the newest run would never be found."""
    double.objects["prefix/t/runs/00000001/plan.json"] = b""
    listed = double.answer
    double.answer = lambda r: listed(replace(r, query={**r.query, "start-after": ""}))  # type: ignore[method-assign]  # a double
    with pytest.raises(StorageUnreachable, match="lists from the beginning"):
        open_storage(double_url).after("t/runs", "00000001")


@pytest.mark.timeout(60)
def test_a_store_that_takes_one_change_a_second_passes_the_check(
    double: S3Double, double_url: str
) -> None:
    """This holds for many processes at once, and if the same object is changed again right away."""
    rule = OneChangeASecond()
    double.rules.append(rule)
    storage = open_storage(double_url)
    storage.check()
    assert rule.refused, "it wrote the same object twice"
    assert storage.replace_if("doc", b"1", None)
    _, version = storage.get_versioned("doc") or (b"", None)
    assert storage.replace_if("doc", b"2", version)
    storage.delete("doc")
    assert storage.get("doc") is None
    assert {key.rpartition("/")[2] for key in rule.refused} > {"doc"}


def test_each_process_checks_with_its_own_object(
    double: S3Double, double_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many processes check, they leave a bounded number of objects."""
    storage = open_storage(double_url)
    for process in range(3):
        monkeypatch.setattr(os, "getpid", lambda process=process: 1_000 + process)
        storage.check()
        storage.check()
    probes = [request.key for request in double.requests if request.method == "PUT"]
    assert len(probes) == 9, "two puts of the first check, one of the second"
    assert len(set(probes)) == 3
    monkeypatch.setattr(objects, "_CHECK_KEYS", 1)
    assert objects._check_key() == ".~check.00"


@pytest.mark.timeout(60)
def test_a_put_that_meets_another_is_sent_again(double: S3Double, double_url: str) -> None:
    """A 409 doesn't mean that the object exists, because the other put may have failed."""
    conflicts = [refusal(409, "ConditionalRequestConflict", "A conflict occurred.")] * 2
    double.rules.append(lambda r: conflicts.pop() if conflicts and r.method == "PUT" else None)
    storage = open_storage(double_url)
    assert storage.put_new("a", b"1")
    assert storage.get("a") == b"1"
    assert conflicts == []


@pytest.mark.timeout(60)
def test_a_store_that_always_says_409_is_given_up(double: S3Double, double_url: str) -> None:
    """The 409 becomes a fault, and is never taken for an existing object. An existing object stays."""
    storage = open_storage(double_url)
    assert storage.put_new("there", b"1")
    conflict = refusal(409, "OperationAborted", "A conflict occurred.")
    double.rules.append(lambda r: conflict if r.method == "PUT" else None)
    with pytest.raises(StorageUnreachable, match="changes the same object"):
        storage.put_new("a", b"1")
    assert not storage.put_new("there", b"2")
    assert storage.get("there") == b"1"
    _, version = storage.get_versioned("there") or (b"", None)
    assert not storage.replace_if("there", b"2", version)


@pytest.mark.parametrize("what", ["a directory", "a link to nothing"])
def test_something_else_in_the_place_of_an_object_is_reported(tmp_path: Path, what: str) -> None:
    """An empty directory or a dangling link in an object's place would otherwise make its writer try forever."""
    storage = LocalStorage(tmp_path)
    (tmp_path / "a").mkdir()
    if what == "a directory":
        (tmp_path / "a/b").mkdir()
    else:
        (tmp_path / "a/b").symlink_to("nowhere")
    assert storage.get("a/b") is None
    with pytest.raises(StorageConflict, match="can't be an object"):
        storage.put_new("a/b", b"1")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_clouds_without_configuration_fail_plainly(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud without configuration gives one sentence, too."""
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/no/such/file.json")
    with pytest.raises(StorageUnreachable) as caught:
        open_storage(f"{scheme}://bucket/evidence").get("a")
    assert_plain(str(caught.value))


def test_an_unknown_scheme_is_refused() -> None:
    """Only the known schemes can be opened."""
    with pytest.raises(StorageUnreachable, match="PAGETRAIL_STORAGE_URL is file, s3, gs or az"):
        open_storage("ftp://host/evidence")


@every_call
def test_a_directory_without_permission_is_reported(
    tmp_path: Path, spooled: Path, call: Callable[[Storage, Path], object]
) -> None:
    """Every call names the path that can't be used."""
    root = tmp_path / "evidence"
    LocalStorage(root).put_new("a/b", b"1")
    for directory in (root / "a", root):
        directory.chmod(0)
    try:
        with (
            unprivileged(tmp_path),
            pytest.raises(StorageUnreachable, match="permission") as caught,
        ):
            call(LocalStorage(root), spooled)
    finally:
        for directory in (root, root / "a"):
            directory.chmod(0o755)
    assert str(root) in str(caught.value)
    assert_plain(str(caught.value))


@every_call
def test_a_file_in_place_of_the_directory_is_reported(
    tmp_path: Path, spooled: Path, call: Callable[[Storage, Path], object]
) -> None:
    """A root that is a file, or is below one, can't be used. It isn't taken for an empty storage."""
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageUnreachable, match="not a directory"):
            call(LocalStorage(root), spooled)


def test_a_key_below_an_object_is_a_conflict(tmp_path: Path) -> None:
    """An object isn't used as a directory, and stays as it is."""
    storage = LocalStorage(tmp_path)
    storage.put_new("a", b"1")
    with pytest.raises(StorageConflict, match="below or above another"):
        storage.put_new("a/b", b"2")
    assert storage.get("a") == b"1"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_each_failure_of_the_file_system_has_its_sentence(number: int, words: str) -> None:
    """This covers the failures that the test can't cause for real."""
    with pytest.raises(StorageUnreachable, match=words) as caught, local._plain_faults(Path("/x")):
        raise OSError(number, os.strerror(number))
    assert_plain(str(caught.value))


def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    """If the file can't grow any more, there is no object and nothing is left over, and the next try works."""
    storage = LocalStorage(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StorageUnreachable, match="File too large"):
            storage.put_new("a", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert storage.get("a") is None
    assert storage.sweep(older_than_seconds=-60) == 0
    assert storage.put_new("a", bytes(100_000))


def test_a_killed_writer_leaves_nothing_visible(tmp_path: Path) -> None:
    """The rest that kill -9 leaves is in no list and blocks nobody. A sweep removes it when it is old."""
    spool, root = tmp_path / "fifo", tmp_path / "evidence"
    os.mkfifo(spool)
    program = (
        "import sys; from pathlib import Path; from workers.storage.local import LocalStorage\n"
        "LocalStorage(Path(sys.argv[1])).put_new_file('a/b', Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(root), str(spool)])
    with spool.open("wb", buffering=0) as feed:
        feed.write(bytes(200_000))  # larger than a pipe, so the copy is under way now
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    storage = LocalStorage(root)
    assert storage.get("a/b") is None
    assert list(storage.list("")) == []
    assert storage.children("") == []
    assert storage.put_new("a/b", b"next")
    assert storage.sweep(older_than_seconds=3600) == 0
    assert storage.sweep(older_than_seconds=-60) == 1
    assert storage.get("a/b") == b"next"


def test_a_removed_directory_comes_back(tmp_path: Path) -> None:
    """If somebody removed a directory in the meantime, it is made again."""
    storage = LocalStorage(tmp_path / "evidence")
    storage.put_new("a/b/c", b"1")
    shutil.rmtree(tmp_path / "evidence/a")
    assert storage.children("") == []
    assert storage.put_new("a/b/c", b"2")


def test_a_directory_another_process_pruned_comes_back(tmp_path: Path) -> None:
    """One process may remove a directory that another one made, with all directories above it."""
    worker, eraser = LocalStorage(tmp_path), LocalStorage(tmp_path)
    worker.put_new("t/s/runs/1/plan", b"1")
    eraser.delete("t/s/runs/1/plan")
    assert not (tmp_path / "t").exists()
    assert worker.put_new("t/s/runs/2/plan", b"2")
    eraser.delete("t/s/runs/2/plan")
    assert worker.put_new("t/s/runs/2/plan", b"2")


def test_writers_and_an_eraser_can_use_the_same_directories(tmp_path: Path) -> None:
    """If a directory is removed between its making and its use, it is made again, as often as necessary."""
    writers, eraser = [LocalStorage(tmp_path) for _ in range(2)], LocalStorage(tmp_path)

    def write(storage: Storage, mine: str) -> None:
        for number in range(50):
            key = f"t/s/{number % 2}/{mine}"
            assert storage.put_new(key, b"1")
            eraser.delete(key)

    with ThreadPoolExecutor(4) as threads:
        jobs = [
            threads.submit(write, storage, f"{index}.{thread}")
            for index, storage in enumerate(writers)
            for thread in range(2)
        ]
        for job in jobs:
            job.result()
    assert list(eraser.list("")) == []


@pytest.mark.parametrize("place", ["a", "a/b", "a/b/c"])
def test_a_file_in_place_of_a_directory_is_reported_until_it_is_moved_away(
    tmp_path: Path, place: str
) -> None:
    """A directory of this process may have become a file. When the file is gone, the directory is made again."""
    storage = LocalStorage(tmp_path)
    storage.put_new("a/b/c/1", b"1")
    shutil.rmtree(tmp_path / place)
    (tmp_path / place).touch()
    for key in ("a/b/c/2", "a/b/c/d/2"):
        with pytest.raises(StorageConflict, match="below or above another"):
            storage.put_new(key, b"2")
    (tmp_path / place).unlink()
    assert storage.put_new("a/b/c/d/2", b"2")
    assert storage.put_new("a/b/c/2", b"2")


def test_a_lock_that_is_held_too_long_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process that holds the lock doesn't block others forever."""
    monkeypatch.setattr(local, "_LOCK_SECONDS", 0.05)
    storage = LocalStorage(tmp_path)
    storage.put_new("doc", b"1")
    _, version = storage.get_versioned("doc") or (b"", None)
    with storage._locked(), pytest.raises(Busy, match="Another process holds"):
        storage.replace_if("doc", b"2", version)
    assert storage.replace_if("doc", b"2", version)
