"""The documentation agrees with the program: links, commands, settings and targets exist."""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from markdown.extensions.toc import slugify

from docs import reference
from tasks.cli import pagetrail
from tasks.reading.catalog import CATALOG
from tests.processes import ROOT
from workers.errors import Fault
from workers.settings.environment import PREFIX, variables
from workers.state.faults import sentences
from workers.storage.faults import reasons

PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
PICTURES = ROOT / "docs" / "img"
DRAWINGS = sorted(PICTURES.glob("*.svg"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCE = re.compile(r"^```.*?^```$", re.S | re.M)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PROGRAM = re.compile(r"(?:^|[\s/])pagetrail (?=[a-z])(.*)")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def code(page: Path) -> Iterator[str]:
    """Yield every piece of code: inline code, and the lines of fenced blocks."""
    text = page.read_text("utf-8")
    yield from CODE.findall(prose(page))
    for block in FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()[1:-1]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as the site and the usual forges make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {slugify(heading.replace("`", ""), "-") for heading in headings}


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of every call of the program in code."""
    for line in code(page):
        piece = line.rpartition(" -- ")[2]  # the command that kubectl passes on
        found = PROGRAM.search(piece)
        if found and not piece.lstrip().startswith(("kubectl", "Usage:")):
            yield shlex.split(re.split(r"[|;>&]", found[1])[0], comments=True)


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """Every relative link and picture names an existing file, and its anchor a heading in that file."""
    for target in LINK.findall(CODE.sub("", prose(page))):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_picture_is_shown() -> None:
    """Every file of docs/img is shown on a page."""
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", prose(page))
    }
    assert set(PICTURES.iterdir()) == {target for target in shown if target.parent == PICTURES}


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_a_drawing_stands_alone(drawing: Path) -> None:
    """A drawing describes itself in words, needs no other file, and looks like the other drawings."""
    text = drawing.read_text("utf-8")
    svg = ElementTree.fromstring(text)  # noqa: S314 - our own file
    assert len(text) < 15_000
    assert svg.get("aria-labelledby") == "title desc"
    for part in ("title", "desc"):
        found = svg.find(f"{{*}}{part}[@id='{part}']")
        assert found is not None
        assert found.text
    outside = text.replace("http://www.w3.org/2000/svg", "", 1).replace("url(#tip)", "")
    assert not re.findall(r"://|url\(|href|src=|@import|<image|<script|<foreignObject", outside)
    assert style(drawing) == style(DRAWINGS[0])


def style(drawing: Path) -> str:
    """Return a drawing's style. A drawing that is shown as a picture can't use the style of another file."""
    return "".join(re.findall(r"<style>.*?</style>", drawing.read_text("utf-8"), re.S))


def test_the_map_names_what_exists() -> None:
    """Every module on the map is a module or folder of tasks/ or workers/."""
    svg = ElementTree.parse(PICTURES / "rooms.svg")  # noqa: S314 - our own file
    lists = [str(each.text) for each in svg.iterfind(".//*[@class='note modules']")]
    modules = {path.stem for room in ("tasks", "workers") for path in (ROOT / room).rglob("*")}
    assert lists
    assert {name.rstrip("/") for name in " ".join(lists).split()} <= modules


@every_page
def test_every_command_can_be_typed(page: Path) -> None:
    """Every quoted `pagetrail ...` names a command that exists, with options it has."""
    for arguments in commands(page):
        command: click.Command = pagetrail
        ctx = reference.root()
        while isinstance(command, click.Group) and arguments and arguments[0][0] != "-":
            name = arguments.pop(0)
            below = command.get_command(ctx, name)
            assert below, f"{ctx.command_path} has no {name}"
            command, ctx = below, click.Context(below, parent=ctx, info_name=name)
        if (
            not isinstance(command, click.Group) or arguments
        ):  # this checks options, not their values
            command.make_context(ctx.info_name, arguments, ctx.parent, resilient_parsing=True)


@every_page
def test_every_setting_named_exists(page: Path) -> None:
    """Every name that looks like a setting exists."""
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text("utf-8")))
    assert named <= set(variables())


@every_page
def test_every_target_named_exists(page: Path) -> None:
    """Every quoted `make ...` is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = {found[1] for piece in code(page) if (found := re.match(r"make ([a-z-]+)", piece))}
    assert named <= targets


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_written_page_is_current(name: str) -> None:
    """The reference pages agree with the program. `make docs` writes them."""
    assert (ROOT / "docs" / name).read_text("utf-8") == reference.PAGES[name](), "run `make docs`"


def kinds(fault: type[Fault]) -> Iterator[str]:
    """Yield the names of *fault* and of every kind of it."""
    yield fault.__name__
    for kind in fault.__subclasses__():
        yield from kinds(kind)


def words(node: ast.expr) -> str:
    """Return the text of a message in the source, with … for each part that changes."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(map(words, node.values))
        case _:
            return "…"


def messages() -> set[str]:
    """Return the text of every fault that the program makes, except those that it only passes on."""
    made = {
        words(node.args[0])
        for room in ("workers", "tasks")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in set(kinds(Fault))
    }
    told = {f"Storage at … can't be used…: {changing(reason)}." for reason in reasons()}
    told |= set(map(changing, sentences()))
    return (made | told) - {"…", "Storage at … can't be used…: …."}


def changing(sentence: str) -> str:
    """Return an entry of a table, with … for each part that changes."""
    return re.sub(r"\{\w+\}", "…", sentence)


def test_every_message_is_explained() -> None:
    """docs/errors.md has exactly the sentences of all faults, word for word."""
    _, *tables = (ROOT / "docs" / "errors.md").read_text("utf-8").split("\n## ")
    explained = re.findall(r"^\| (?:`` (.+?) ``|`(.+?)`) \|", "\n".join(tables), re.M)
    assert {either or other for either, other in explained} == messages()


def test_the_readme_quotes_messages_of_the_program() -> None:
    """README.md quotes the beginnings of existing messages."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## What messages mean")[2]
    quoted = re.findall(r"^\| `([^`]+)`", section.partition("\n## ")[0], re.M)
    assert len(quoted) > 10
    for sentence in quoted:
        assert any(each.startswith(sentence.rstrip("… ")) for each in messages()), sentence


def test_the_guide_quotes_the_programs_words_for_a_refused_key() -> None:
    """docs/connect.md quotes messages that the program has."""
    table = (ROOT / "docs" / "connect.md").read_text("utf-8").partition("## When")[2]
    quoted = re.findall(r"^\| `([^`]+)`", table.partition("###")[0], re.M)
    said = "\n".join(messages())
    complaints = (ROOT / "workers" / "pagerduty" / "keys.py").read_text("utf-8")
    assert len(quoted) > 10
    for sentence in quoted:
        start, _, complaint = sentence.partition(" it ")
        start = re.sub(r"\b(us|eu)\b", "…", start)
        assert start.rstrip(":;") in said or start.partition(";")[0] in said, sentence
        assert "can't be a PagerDuty API key" not in start or f'"{complaint}"' in complaints


def test_each_bound_of_the_guarantees_is_the_programs_and_is_held_by_a_test() -> None:
    """docs/guarantees.md names constants with their values, settings that exist, and tests that exist."""
    page = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    bounds = re.findall(r"`([a-z.]+)\.((?:Cost\.)?[A-Z_]+)` \(([\d, ]+)\)", page)
    assert len(bounds) > 10
    for module, name, value in bounds:
        found = attrgetter(name)(import_module(module))
        assert found == ast.literal_eval(f"({value})"), f"{module}.{name}"
    assert set(re.findall(rf"`({PREFIX}[A-Z_]+)`", page)) <= set(variables())
    rows = [row for row in page.splitlines() if row.startswith("| ") and "::" in row]
    assert len(rows) > 25
    for row in rows:
        file, _, test = CODE.findall(row)[-1].partition("::")
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), row


def test_every_resource_of_the_catalog_is_explained() -> None:
    table = (ROOT / "docs" / "connect.md").read_text("utf-8").partition("## What is read")[2]
    rows = [row for row in table.partition("\n## ")[0].splitlines() if row.startswith("| `")]
    named = [name for row in rows for name in CODE.findall(row.split("|")[1])]
    assert named == list(CATALOG)
