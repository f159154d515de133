"""The simulator as a process: faults on the wire, the control API, and how it ends."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.simulator_process import ROOT, ControlRefused, SimulatorProcess, running_simulator

KEY = "wire-key"
ACCOUNT = {
    "subdomain": "wired", "incidents": 900, "days": 60, "services": 80, "users": 60, "teams": 4,
    "audit_records": 900, "keys": [{"key": KEY, "limit": 100_000}],
}  # fmt: skip
IMPATIENT = httpx.Timeout(60, read=0.2)
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    """One simulator for the module."""
    with running_simulator([ACCOUNT], "--minute-seconds", "600") as running:
        yield running


@pytest.fixture
def simulator(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The simulator without the rules and counts of earlier tests. After the test, it must not have failed inside."""
    process.clear_faults()
    process.reset_stats()
    yield process
    assert process.stats()["bugs"] == 0


def get(
    simulator: SimulatorProcess, path: str = "/services?limit=100", **options: Any
) -> httpx.Response:
    """Send one request."""
    headers = {
        "Authorization": f"Token token={KEY}",
        "Accept": "application/vnd.pagerduty+json;version=2",
    }
    headers |= options.pop("headers", {})
    return simulator.http.get(f"{simulator.region('us')}{path}", headers=headers, **options)


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [("status_500", 500, "text/html"), ("status_502", 502, "text/html"), ("status_503", 503, "text/html"),
     ("status_504", 504, "text/html"), ("unauthorized", 401, "text/html"),
     ("status_408", 408, "application/json"), ("bare_429", 429, "text/plain"),
     ("status_429", 429, "application/json")],
)  # fmt: skip
def test_faults_with_a_status(
    simulator: SimulatorProcess, kind: str, status: int, content_type: str
) -> None:
    """Gateways answer in HTML, and a bare 429 has neither body nor headers. The next request succeeds."""
    simulator.fault(kind, next=1, account="wired", key=KEY, path="/services")
    answer = get(simulator)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(content_type)
    assert ("ratelimit-reset" in answer.headers) == (kind == "status_429")
    assert (not answer.content) == (kind == "bare_429")
    assert get(simulator).status_code == 200
    assert simulator.stats()["faults"] == {kind: 1}


@pytest.mark.parametrize("kind", ["drop_before", "drop_middle", "short_body"])
def test_connections_that_break(simulator: SimulatorProcess, kind: str) -> None:
    """A connection is cut before or within the answer, or the stated length is longer than the body."""
    simulator.fault(kind, next=1)
    with pytest.raises(BROKEN):
        get(simulator)
    assert get(simulator).status_code == 200


def test_cut_json_arrives_as_a_consistent_answer(simulator: SimulatorProcess) -> None:
    """It is a 200 with the right length, and its JSON ends in the middle."""
    simulator.fault("cut_json", next=1)
    answer = get(simulator)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_late_answers(simulator: SimulatorProcess) -> None:
    """A slow answer arrives whole, and so does one in drops. A hanging one never arrives."""
    whole = get(simulator).content
    for kind in ("slow", "trickle"):
        simulator.fault(kind, next=1, seconds=0.05)
        assert get(simulator).content == whole
        simulator.fault(kind, next=1, seconds=30)
        with pytest.raises(httpx.ReadTimeout):
            get(simulator, timeout=IMPATIENT)
    simulator.fault("hang", next=1)
    with pytest.raises(httpx.ReadTimeout):
        get(simulator, timeout=IMPATIENT)


def test_pages_other_than_expected(simulator: SimulatorProcess) -> None:
    """A smaller page says its size. A repeated cursor is that of the request. An expired cursor is a 400."""
    simulator.fault("smaller", next=1, served=7)
    assert (page := get(simulator).json())["limit"] == len(page["services"]) == 7
    first = get(simulator, "/audit/records?limit=2&since=" + recently()).json()
    follow = f"/audit/records?limit=2&since={recently()}&cursor={first['next_cursor']}"
    simulator.fault("cursor_repeated", next=1)
    assert get(simulator, follow).json()["next_cursor"] == first["next_cursor"]
    simulator.fault("cursor_expired", next=1)
    assert get(simulator, follow).status_code == 400
    assert get(simulator, follow).json()["records"]


def recently() -> str:
    """Return a time within the last month."""
    return (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_every_answer_carries_its_headers(simulator: SimulatorProcess) -> None:
    """Good answers and refusals have a request id, a date and the three rate limit headers."""
    ids = set()
    for path in ("/services", "/nowhere", "/incidents?since=x"):
        answer = get(simulator, path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["date"].endswith("GMT")
        assert {f"ratelimit-{name}" for name in ("limit", "remaining", "reset")} <= set(
            answer.headers
        )
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 3


def test_each_key_has_its_own_limit_and_counts(simulator: SimulatorProcess) -> None:
    """A key with a limit of five a minute gets five, and other keys get theirs. The statistics show both."""
    simulator.control("POST", "keys", account="wired", key="five", limit=5, first_reset_seconds=300)
    headers = {"Authorization": "Token token=five"}
    answers = [get(simulator, "/abilities", headers=headers) for _ in range(8)]
    assert [a.status_code for a in answers].count(200) == 5
    refused = answers[-1]
    assert refused.json() == {"error": {"message": "Rate Limit Exceeded", "code": 2020}}
    assert refused.headers["ratelimit-remaining"] == "0"
    assert 0 < int(refused.headers["ratelimit-reset"]) <= 300
    assert get(simulator, "/abilities").status_code == 200
    stats = simulator.stats()
    assert stats["keys"]["five"]["refused"] == stats["buckets"]["wired/five"]["refused"] == 3
    assert stats["buckets"]["wired/five"]["worst_minute"] == 5
    assert stats["keys"]["five"]["paths"] == {"/abilities": 8}


def test_keys_change_while_serving(simulator: SimulatorProcess) -> None:
    """A key can be made, disabled and enabled again."""
    simulator.control("POST", "keys", account="wired", key="new-key")
    headers = {"Authorization": "Token token=new-key"}
    for disabled, status in ((False, 200), (True, 401), (False, 200)):
        simulator.control("POST", "keys", account="wired", key="new-key", disabled=disabled)
        assert get(simulator, "/abilities", headers=headers).status_code == status


def test_abilities_and_habits_change_while_serving(simulator: SimulatorProcess) -> None:
    """A plan can lose an ability. Answers are gzipped only if the account does that and the request allows it."""
    assert "content-encoding" not in get(simulator).headers
    simulator.control("POST", "habits", account="wired", gzip=True, abilities_off=["teams"])
    zipped = get(simulator)
    assert zipped.headers["content-encoding"] == "gzip"
    assert get(simulator, "/teams").status_code == 402
    simulator.control("POST", "habits", account="wired", gzip=False, abilities_off=[])
    assert get(simulator).json() == zipped.json()


def test_an_account_is_renamed_while_serving(simulator: SimulatorProcess) -> None:
    """Every link has the new subdomain, also in the truth. Ids and names stay."""
    before = get(simulator, "/services").json()["services"]
    told = simulator.control("POST", "rename", account="wired", subdomain="wired-new")
    assert told["subdomain"] == "wired-new"
    after = get(simulator, "/services").json()["services"]
    truth = {each["id"]: each for each in simulator.truth("wired", "services")}
    simulator.control("POST", "rename", account="wired", subdomain="wired")
    for was, found in zip(before, after, strict=True):
        assert was["html_url"].startswith("https://wired.pagerduty.com/")
        assert found["html_url"] == was["html_url"].replace("wired", "wired-new", 1)
        assert truth[found["id"]]["html_url"] == found["html_url"]
        assert (found["id"], found["name"]) == (was["id"], was["name"])


def test_accounts_are_added_while_serving(simulator: SimulatorProcess) -> None:
    """A test can add its own account. A second account with that name is refused."""
    spec = {"subdomain": "late", "region": "eu", "incidents": 3, "keys": [{"key": "late-key"}]}
    assert simulator.control("POST", "accounts", **spec)["region"] == "eu"
    answer = simulator.http.get(
        f"{simulator.region('eu')}/incidents?date_range=all",
        headers={"Authorization": "Token token=late-key"},
    )
    assert len(answer.json()["incidents"]) == 3
    with pytest.raises(ControlRefused, match="already exists"):
        simulator.control("POST", "accounts", **spec)
    assert {a["subdomain"] for a in simulator.control("GET", "accounts")} >= {"wired", "late"}


@pytest.mark.parametrize(
    ("method", "name", "data"),
    [("POST", "faults", {"kind": "meteor"}), ("POST", "mutate", {"account": "wired", "do": "explode"}),
     ("POST", "mutate", {"account": "nobody", "do": "create_team"}), ("GET", "truth", {"account": "wired"}),
     ("GET", "truth", {"account": "wired", "resource": "moods"}), ("GET", "nothing", {}),
     ("POST", "churn", {"account": "wired"}), ("POST", "keys", {"account": "wired", "key": "x", "mood": 1})],
)  # fmt: skip
def test_wrong_control_requests_are_refused_in_words(
    simulator: SimulatorProcess, method: str, name: str, data: dict[str, Any]
) -> None:
    """The control API answers a mistake with a sentence, and doesn't fail."""
    with pytest.raises(ControlRefused, match="error"):
        simulator.control(method, name, **data)


def test_the_request_log_lists_the_requests(simulator: SimulatorProcess) -> None:
    """It has the method, path, query, status and fault of each request, oldest first."""
    simulator.fault("drop_before", next=1)
    with pytest.raises(BROKEN):
        get(simulator, "/services?limit=3")
    get(simulator, "/users/me")
    first, second = simulator.requests()
    assert (first["path"], first["query"], first["status"], first["fault"]) == (
        "/services", "limit=3", 0, "drop_before",
    )  # fmt: skip
    assert (second["pattern"], second["status"], second["key"]) == ("/users/me", 400, KEY)


def test_pages_read_under_churn_are_versions_the_records_had(simulator: SimulatorProcess) -> None:
    """While records change, each record on a page is a version that the truth has."""
    operations = ["create_service", "rename_service", "delete_service", "rename_team"]
    simulator.churn("wired", operations, 120, every_requests=1, seed=4)
    simulator.churn("wired", ["rename_user", "create_user"], 10, every_ms=2, seed=4)
    seen = [
        service
        for start in range(0, 4_000, 40)
        for service in get(
            simulator, f"/services?time_zone=UTC&limit=40&offset={start % 120}"
        ).json()["services"]
    ]
    assert sum(c["made"] for c in simulator.control("GET", "churn")) > 80
    lives = {
        x["id"]: x
        for x in simulator.truth("wired", "services", [("time_zone", "UTC")], history=True)
    }
    for service in seen:
        assert service in [v["record"] for v in lives[service["id"]]["versions"]]
    simulator.control("DELETE", "churn")


def test_requests_are_answered_while_the_truth_streams(simulator: SimulatorProcess) -> None:
    """A slow reader of the truth doesn't delay other requests."""
    where = urlsplit(simulator.url)
    with socket.create_connection((where.hostname, where.port)) as lazy:
        query = "account=wired&resource=incidents&include[]=services"
        lazy.sendall(f"GET /_control/truth?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert lazy.recv(100).startswith(b"HTTP/1.1 200")
        assert get(simulator).status_code == 200


def test_requests_sent_at_once_are_answered_in_order(simulator: SimulatorProcess) -> None:
    """Pipelined requests get their answers in order on the connection."""
    where = urlsplit(simulator.url)
    with socket.create_connection((where.hostname, where.port)) as sock:
        paths = ["/us/abilities", "/us/nowhere", "/us/abilities/teams"]
        head = f"Host: x\r\nAuthorization: Token token={KEY}\r\n"
        sock.sendall("".join(f"GET {p} HTTP/1.1\r\n{head}\r\n" for p in paths[:2]).encode())
        sock.sendall(f"GET {paths[2]} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"204"]


def test_many_clients_at_once(simulator: SimulatorProcess) -> None:
    """Twenty connections are served at the same time, each with its own answers."""
    found: list[set[int]] = []

    def read(offset: int) -> None:
        pages = [get(simulator, f"/services?limit=1&offset={offset}").json() for _ in range(20)]
        found.append({page["offset"] for page in pages})

    threads = [threading.Thread(target=read, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(tuple, found)) == [(n,) for n in range(20)]


def started(*options: str) -> subprocess.Popen[str]:
    """Start the demo's simulator and wait until it is ready."""
    command = [sys.executable, "-m", "simulator", *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["ready"]
    assert ready["regions"]["eu"] == ready["url"] + "/eu"
    return process


@pytest.mark.parametrize(
    "how", [signal.SIGTERM, signal.SIGINT, None], ids=["SIGTERM", "Ctrl-C", "leash"]
)
def test_it_ends_cleanly(how: signal.Signals | None) -> None:
    """SIGTERM, Ctrl-C and, on a leash, the end of stdin each end it with exit code 0."""
    with started("--demo", *([] if how else ["--leash"])) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.close() if how is None else process.send_signal(how)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_a_start_that_fails_says_why() -> None:
    """A wrong file gives one sentence on stderr and exit code 1."""
    ended = subprocess.run(
        [sys.executable, "-m", "simulator", "--accounts", "/nowhere.json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("The simulator can't start: ")
    assert len(ended.stderr.splitlines()) == 1


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "simulator", "--demo", "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    said = f"The simulator can't start: port {port} is taken, choose another --port.\n"
    assert (ended.returncode, ended.stderr) == (1, said)
