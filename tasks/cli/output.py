"""What commands print: documents and tables on stdout, sentences on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import orjson

from workers.errors import Fault, UsageFault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_ELSEWHERE = 10_000  # columns of an output that isn't a terminal: so wide that nothing is cut
Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(command: Function) -> Function:
    """Give a command the option --json, which it gets as `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout."
    )(command)


def emit(document: object) -> None:
    """Print *document* as the only JSON document of a command."""
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))


def emit_line(document: object) -> None:
    """Print *document* as one line of JSON, at once."""
    click.echo(orjson.dumps(document, option=orjson.OPT_UTC_Z))


def say(sentence: str) -> None:
    """Print one sentence on stderr."""
    click.echo(plain(sentence), err=True)


def end(exit_code: int) -> NoReturn:
    """End the command with *exit_code*."""
    raise click.exceptions.Exit(exit_code)


def plain(text: object) -> str:
    """Return *text* on one line, without characters that control a terminal."""
    line = " ".join(str(text).split())
    return "".join(each if each.isprintable() else "\ufffd" for each in line)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under column titles. If a title begins with `#`, its column is aligned to the right."""
    from rich.text import Text

    shown = grid()
    for title in columns:
        number = title.startswith("#")
        shown.add_column(title.lstrip("#"), justify="right" if number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(plain("" if cell is None else cell)) for cell in row))
    ours = console()
    with ours.capture() as made:
        ours.print(shown)
    for line in made.get().splitlines():
        click.echo(line.rstrip())  # rich fills every cell of the last column with spaces


def grid() -> Table:
    """Return an empty table in the style of all commands: without lines."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair per line."""
    shown = [(name, plain("" if value is None else value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:{width}}  {value}".rstrip())


def console(*, stderr: bool = False) -> Console:
    """Return a rich console that raises `BrokenPipeError` when its output is closed."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would exit with code 1

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Ours(
        stderr=stderr, highlight=False, markup=False, width=None if terminal else _WIDTH_ELSEWHERE
    )


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show *words* and a spinner on a terminal until the block ends."""
    with console(stderr=True).status(plain(words)) if sys.stderr.isatty() else nullcontext():
        yield


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person at a terminal, and raise `Fault` if they refuse. *yes* skips the question."""
    if yes or not sys.stdin.isatty():
        return
    if not click.confirm(plain(question), err=True):
        raise Fault("Nothing was changed.")


def confirm_name(warning: str, name: str, *, yes: bool) -> None:
    """Ask a person to type *name*, and raise `Fault` if they type anything else. *yes* skips the question.

    Raises `UsageFault` if stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageFault(f"{warning} Nobody can confirm this here: add --yes.")
    question = plain(f"{warning} Type {name} to continue")
    typed = click.prompt(question, default="", show_default=False, err=True)
    if typed != name:
        raise Fault("Nothing was changed.")


def utc(when: datetime | None) -> str:
    """Return *when* to the minute in UTC, `-` for None."""
    return f"{when:%Y-%m-%d %H:%M} UTC" if when else "-"


def span(seconds: float | None) -> str:
    """Return a length of time in its largest whole unit, `never` for None."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0 and (unit != "d" or seconds > size):
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def age(seconds: float) -> str:
    """Return a rounded length of time, like `4 s`, `90 min`, `20 h` or `3 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def months(count: int | None) -> str:
    """Return a number of months, `never` for None."""
    return "never" if count is None else counted(count, "month")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which is in the plural unless the number is 1."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(share: float) -> str:
    return f"{share * 100:g}%"


def size(count: float) -> str:
    """Return a number of bytes in KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
