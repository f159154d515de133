"""The command's frame: help, wrong usage, faults and interruptions."""

import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from tasks import cli
from tasks.cli import output, perform
from tasks.cli.interrupts import until_signalled
from tests.processes import ROOT, environment
from workers.errors import Fault, UsageFault
from workers.state.events import Event

Captured = pytest.CaptureFixture[str]


def said(exit_code: int, arguments: list[str], captured: Captured) -> str:
    """Run a command that must end with *exit_code* and return its one sentence."""
    assert perform(arguments) == exit_code
    out, err = captured.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_help_names_every_command(capsys: Captured) -> None:
    assert perform(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("source", "collect", "run", "artifact", "verify", "recover", "vault", "status"):
        assert f"  {name} " in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["source", "connect", "--help"],
        ["source", "list", "--help"],
        ["collect", "--help"],
        ["run", "show", "--help"],
        ["artifact", "export", "--help"],
        ["verify", "--help"],
        ["recover", "--help"],
        ["vault", "rotate", "--help"],
        ["keys", "--help"],
        ["keys", "rotate", "--help"],
        ["status", "--help"],
        ["events", "--help"],
        ["source", "set", "--help"],
        ["source", "purge", "--help"],
        ["completion", "--help"],
        ["schema", "--help"],
    ],
)
def test_every_command_has_help_and_takes_json(capsys: Captured, arguments: list[str]) -> None:
    assert perform(arguments) == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["--nothing"],
        ["source", "nothing"],
        ["source", "connect"],
        ["source", "connect", "../x"],
        ["source", "connect", ""],
        ["source", "connect", "a" * 300],
        ["source", "connect", "acm\u00e9/main"],
        ["source", "connect", "acme/main", "surplus"],
        ["source", "connect", "acme/main", "--nothing"],
        ["source", "connect", "acme/main", "--since", "2026-02-30"],
        ["source", "connect", "acme/main", "--since", "2126-01-01"],
        ["source", "connect", "acme/main", "--every", "daily"],
        ["source", "connect", "acme/main", "--reserve", "200%"],
        ["source", "connect", "acme/main", "--resources", "incidents,nothing"],
        ["source", "show", "acme"],
        ["collect", "../../etc"],
        ["run", "show", "acme/main", "--run", "../1"],
        ["artifact", "export", "acme/main"],
        ["artifact", "export", "acme/main", "--resource", "nothing"],
        ["artifact", "export", "acme/main", "--resource", "users", "--format", "xml"],
        ["artifact", "export", "a/b", "--resource", "users", "--run", "1", "--as-of", "2"],
        ["artifact", "export", "a/b", "--resource", "users", "--as-of", "soon"],
        ["verify", "acme/main", "--run", "x"],
        ["events", "--since", "yesterday"],
        ["source", "set", "acme/main"],
        ["source", "set", "acme/main", "--retention", "0"],
        ["completion", "tcsh"],
        ["schema", "nothing"],
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(capsys: Captured, arguments: list[str]) -> None:
    said(2, arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["source", "connet"],
            "No such command 'connet': did you mean one of: 'connect', 'disconnect'? "
            "`pagetrail source --help` lists them all.",
        ),
        (
            ["status", "--wach"],
            "No such option '--wach': did you mean '--watch'? "
            "`pagetrail status --help` lists them all.",
        ),
    ],
)
def test_a_suggestion_reads_as_a_question(
    capsys: Captured, arguments: list[str], sentence: str
) -> None:
    assert perform(arguments) == 2
    assert capsys.readouterr().err == f"{sentence}\n"


def test_no_line_of_a_table_ends_in_spaces(capsys: Captured) -> None:
    output.table(("NAME", "REASON"), [("users", None), ("teams", "plan")])
    assert capsys.readouterr().out.splitlines() == ["NAME   REASON", "users", "teams  plan"]


def test_an_event_is_a_line_with_values_as_json_has_them(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"state": "complete", "backlog": False, "records": 7, "resources": ["users"]}
    at = datetime(2026, 1, 2, tzinfo=UTC)
    sealed = Event(
        position="1-0",
        id="acme/main/00000001/run.sealed",
        kind="run.sealed",
        at=at,
        source="acme/main",
        run="00000001",
        data=data,
    )
    monkeypatch.setattr("tasks.api.events", lambda *_, **__: iter([sealed]))
    monkeypatch.setattr("tasks.cli.events.runtime", lambda: None)
    assert perform(["events"]) == 0
    assert capsys.readouterr().out == (
        "2026-01-02T00:00:00Z run.sealed acme/main 00000001 "
        "state=complete backlog=false records=7\n"
    )


def test_neither_help_nor_wrong_usage_waits_for_the_redis_library() -> None:
    """Importing it takes longest, and Ctrl-C during the import would print a traceback."""
    script = (
        "import sys, tasks.cli; codes = [tasks.cli.perform([each]) for each in ('--help', 'none')]; "
        "sys.exit(codes != [0, 2] or 'redis' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["verify", "acme/main"],
        ["artifact", "list", "acme/main"],
        ["run", "list", "acme/main"],
        ["run", "show", "acme/main"],
    ],
    ids=" ".join,
)
def test_a_command_that_reads_evidence_loads_nothing_of_the_fleet(
    command: list[str], tmp_path: Path
) -> None:
    """It works from storage alone, and its start takes half as long."""
    script = (
        f"import sys, tasks.cli; code = tasks.cli.perform({command}); "
        "fleet = {'redis', 'celery', 'httpx', 'prometheus_client', 'sentry_sdk'}; "
        "print(code, fleet & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(data_dir=tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "There is no source acme/main" in done.stderr
    assert done.stdout == "1 set()\n"


def test_an_interrupted_purge_says_how_to_continue(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.api.check_purge", lambda *_: None)
    monkeypatch.setattr("tasks.api.purge", interrupted)
    monkeypatch.setattr("tasks.cli.source.runtime", lambda: None)
    err = said(1, ["source", "purge", "acme/main", "--yes"], capsys)
    assert "erased in part" in err
    assert "`pagetrail source purge acme/main` erases the rest" in err


def test_help_names_the_default_of_run(capsys: Captured) -> None:
    for arguments, default in [
        (["run", "show"], "the newest"),
        (["run", "cancel"], "the open one"),
        (["verify"], "all of them"),
        (["artifact", "list"], "the newest"),
    ]:
        assert perform([*arguments, "--help"]) == 0
        assert f"Its number; default: {default}." in capsys.readouterr().out


def test_a_command_alone_shows_its_help(capsys: Captured) -> None:
    assert perform([]) == 2
    assert "Commands" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "exit_code", "words"),
    [
        (Fault("Something\nis wrong."), 1, "Something is wrong."),
        (UsageFault("That can't be."), 2, "That can't be."),
        (KeyboardInterrupt(), 1, "Interrupted"),
        (click.Abort(), 1, "Interrupted"),
        (ConnectionResetError("secret"), 1, "unexpected"),
    ],
)
def test_every_failure_is_one_sentence(
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pytest.TempPathFactory,
    raised: BaseException,
    exit_code: int,
    words: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(cli.pagetrail, "invoke", fail)
    assert perform(["vault", "rotate"]) == exit_code
    err = capsys.readouterr().err.strip()
    assert words in err
    assert "\n" not in err
    assert "secret" not in err


def test_the_traceback_of_an_unexpected_error_has_no_secret(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """This holds for the log, and for the terminal if there is no log."""

    def fail(*_: object) -> None:
        raise ValueError("redis://:hunter2@127.0.0.1 and Token token=u+Abcdefghijklmno1_x")

    monkeypatch.setattr(cli.pagetrail, "invoke", fail)
    (tmp_path / "taken").touch()
    for data_dir in ("data", "taken"):
        monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path / data_dir))
        assert perform(["vault", "rotate"]) == 1
    said = capsys.readouterr().err + (tmp_path / "data" / "logs" / "cli.log").read_text()
    assert "[redacted]" in said
    assert "hunter2" not in said
    assert "Abcdef" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(capsys: Captured, shell: str) -> None:
    assert perform(["completion", shell]) == 0
    assert "_PAGETRAIL_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "fault"), [("acme/main", None), ("acme/other", Fault), ("", Fault), ("y", Fault)]
)
def test_an_irreversible_command_asks_for_the_name(
    monkeypatch: pytest.MonkeyPatch, typed: str, fault: type[Fault] | None
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "prompt", lambda *_, **__: typed)
    with pytest.raises(fault) if fault else nullcontext():
        output.confirm_name("It goes.", "acme/main", yes=False)


def test_without_a_terminal_a_confirmation_needs_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    output.confirm_name("It goes.", "acme/main", yes=True)
    with pytest.raises(UsageFault, match="--yes"):
        output.confirm_name("It goes.", "acme/main", yes=False)


def test_text_from_outside_cannot_control_the_terminal(capsys: Captured) -> None:
    output.say("a\x1b[2Jb\nc\u202ed")
    assert capsys.readouterr().err == "a\ufffd[2Jb c\ufffdd\n"
    output.table(("NAME",), [("[bold]x[/bold]\x1b]0;t\x07",)])
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (86_400, "24h"), (172_800, "2d"), (3_600, "1h"), (90, "90s"), (120, "2m")],
)
def test_a_length_of_time_is_short(seconds: int | None, text: str) -> None:
    assert output.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (2048, "2.0 KiB"), (3 << 40, "3072.0 GiB")]
)
def test_a_size_is_short(count: int, text: str) -> None:
    assert output.size(count) == text


class Finalized:
    """Gets a signal in its finalizer, where Python drops exceptions."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)
        pytest.fail("the signal raised nothing")


def test_a_signal_that_a_finalizer_swallows_still_ends_the_fleet() -> None:
    """Otherwise nothing could end `up`, because it ignores later signals."""
    told: list[str] = []
    with until_signalled():
        Finalized(signal.SIGTERM)
        told.append("swallowed")
        threading.Event().wait(30)
        told.append("never ended")
    assert told == ["swallowed"]


def test_ctrl_c_that_a_finalizer_swallows_still_ends_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def perform(_: object) -> int:
        Finalized(signal.SIGINT)
        told.append("swallowed")
        threading.Event().wait(30)
        return 0

    monkeypatch.setattr(cli, "perform", perform)
    with pytest.raises(KeyboardInterrupt):
        cli.main()
    assert told == ["swallowed"]
