"""Every command, in a situation in which it can't work, gives one sentence and its exit code, and does nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from redis import Redis

from tasks.cli import pagetrail, perform
from tests.permissions import unprivileged
from tests.simulator_process import SimulatorProcess, running_simulator
from workers.runtime import runtime
from workers.settings.vault_keys import generate_key

KEY = "acme-key-01234567890"
SOURCE = "acme/main"
RUN_THINGS = {
    "up",
    "demo",
    "completion",
    "schema",
}  # these aren't part of a fleet; `up` has its own tests
MALFORMED = (
    "",
    "acme",
    "../x",
    "acme/..",
    "acme/main/more",
    "Acme/main",
    "acm\u00e9/main",
    "acme/ma in",
    "acme/main\n",
    "a" * 300 + "/main",
)
Set = Callable[..., None]


def leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command below *command*, with its necessary options."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found
                yield from leaves(found, (*words, name))
        return
    names = {param.name for param in command.params}
    needed = {"resource": ("--resource", "users"), "yes": ("--yes",)}
    options = tuple(word for name, words in needed.items() if name in names for word in words)
    options += ("--every", "6h") if words[-1] == "set" else ()
    yield (*words, *(("SOURCE",) if "source" in names else ()), *options)


def on(words: tuple[str, ...], source: str = SOURCE) -> list[str]:
    return [source if word == "SOURCE" else word for word in words]


def named(words: tuple[str, ...]) -> str:
    return " ".join(words)


COMMANDS = [words for words in leaves(pagetrail, ()) if words[0] not in RUN_THINGS]
OF_A_SOURCE = [words for words in COMMANDS if "SOURCE" in words]
CONNECT = next(words for words in COMMANDS if words[:2] == ("source", "connect"))
STORAGE_ALONE = [
    words
    for words in COMMANDS
    if words[0] in ("artifact", "verify") or words[:2] in (("run", "list"), ("run", "show"))
]
REDIS_ALONE = {
    *("source list", "source show SOURCE", "source check SOURCE", "source release SOURCE"),
    *("source set SOURCE --every 6h", "status", "events"),
}
OF_THE_SIGNER = {"keys rotate"}
"""Commands that need neither Redis nor the evidence: the signer has a store of its own."""


def forget() -> None:
    """Close everything that the last command left open, so that the next command reads the settings again."""
    if runtime.cache_info().currsize:
        runtime().pagerduty.close()
        runtime().redis.close()
    runtime.cache_clear()


@pytest.fixture(scope="module")
def pagerduty() -> Iterator[SimulatorProcess]:
    with running_simulator(
        [{"subdomain": "acme", "incidents": 5, "keys": [{"key": KEY}]}]
    ) as simulator:
        yield simulator


@pytest.fixture
def setting(
    monkeypatch: pytest.MonkeyPatch,
    pagerduty: SimulatorProcess,
    redis: Redis,
    redis_url: str,
    prefix: str,
    tmp_path: Path,
) -> Iterator[Set]:
    """Change settings. At first they are those of a fleet in a directory of the test."""

    def change(**settings: str) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"PAGETRAIL_{name.upper()}", value)
        forget()

    change(
        data_dir=str(tmp_path / "data"),
        storage_url=(tmp_path / "storage").as_uri(),
        redis_url=redis_url,
        key_prefix=prefix,
        regions=f'{{"us": "{pagerduty.region("us")}"}}',
    )
    yield change
    forget()


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    redis: Redis,
    tmp_path: Path,
) -> Callable[..., str]:
    """Run a command that must fail and change nothing. Return its sentence."""

    def state() -> object:
        objects = {path for path in (tmp_path / "storage").rglob("*") if path.is_file()}
        kept = (b":limiter:", b":troubles")  # requests use budget; status keeps failures
        keys = (key for key in redis.scan_iter() if not any(each in key for each in kept))
        return objects, {key: redis.dump(key) for key in keys}

    def refused(exit_code: int, arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(KEY.encode())))
        before = state()
        assert perform(arguments) == exit_code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "unexpected" not in err
        assert KEY not in err
        assert state() == before
        return err

    return refused


@pytest.fixture
def connected(
    request: pytest.FixtureRequest,
    setting: Set,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A source that was connected normally and then paused, so that `resume` has something to do."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(KEY.encode())))
    assert perform(["source", "connect", SOURCE, "--resources", "users", "--yes"]) == 0
    if request.node.callspec.params["words"][:2] == ("source", "resume"):
        assert perform(["source", "pause", SOURCE]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("words", OF_A_SOURCE, ids=named)
def test_an_impossible_source_id_is_refused_by_every_command(
    words: tuple[str, ...], setting: Set, refused: Callable[..., str]
) -> None:
    for source in MALFORMED:
        assert len(refused(2, on(words, source))) < 400


@pytest.mark.parametrize("words", [each for each in OF_A_SOURCE if each != CONNECT], ids=named)
def test_a_source_that_does_not_exist_is_named_by_every_command(
    words: tuple[str, ...], setting: Set, refused: Callable[..., str]
) -> None:
    assert "acme/none" in refused(1, on(words, "acme/none"))


@pytest.mark.parametrize(
    "words",
    [each for each in COMMANDS if each not in STORAGE_ALONE and named(each) not in OF_THE_SIGNER],
    ids=named,
)
def test_without_redis_no_command_does_anything(
    words: tuple[str, ...], connected: None, setting: Set, refused: Callable[..., str]
) -> None:
    setting(redis_url="redis://127.0.0.1:1/0")
    assert "Redis does not answer" in refused(1, on(words))


each_that_reads_storage = pytest.mark.parametrize(
    "words",
    [each for each in COMMANDS if named(each) not in REDIS_ALONE | OF_THE_SIGNER],
    ids=named,
)


@each_that_reads_storage
def test_without_storage_no_command_does_anything(
    words: tuple[str, ...],
    connected: None,
    setting: Set,
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    setting(storage_url=(tmp_path / "file" / "below").as_uri())
    source = "acme/other" if words == CONNECT else SOURCE
    refused(1, on(words, source))


@each_that_reads_storage
def test_a_storage_without_permission_stops_every_command(
    words: tuple[str, ...],
    connected: None,
    setting: Set,
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    setting(vault_keys=(tmp_path / "data" / "vault.key").read_text().strip())
    (tmp_path / "storage").chmod(0)
    source = "acme/other" if words == CONNECT else SOURCE
    try:
        with unprivileged(tmp_path):
            sentence = refused(1, on(words, source))
    finally:
        (tmp_path / "storage").chmod(0o700)
    assert "Permission denied" in sentence or "storage" in sentence


@pytest.mark.parametrize("words", [("source", "check", "SOURCE"), ("vault", "rotate")], ids=named)
def test_another_vault_key_opens_nothing_and_changes_nothing(
    words: tuple[str, ...], connected: None, setting: Set, refused: Callable[..., str]
) -> None:
    setting(vault_keys=generate_key())
    assert "PAGETRAIL_VAULT_KEYS" in refused(1, on(words))


@pytest.mark.parametrize(
    "words",
    [
        ("collect", "SOURCE"),
        ("run", "list", "SOURCE"),
        ("run", "show", "SOURCE"),
        ("run", "cancel", "SOURCE"),
    ],
    ids=named,
)
def test_the_rest_of_a_run_without_its_plan_is_not_an_open_run(
    words: tuple[str, ...], connected: None, refused: Callable[..., str], tmp_path: Path
) -> None:
    page = tmp_path / "storage" / SOURCE / "runs/00000001/pages/users/all.1/000000.json.zst"
    page.parent.mkdir(parents=True)
    page.touch()
    assert "plan.json is missing" in refused(1, on(words))
