"""A spreadsheet shows the cells of a csv as text: no cell runs, no cell is too long, and cut text says so."""

import csv
import io
import unicodedata

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.cli import spreadsheet
from tasks.cli.formats import write_csv
from tasks.cli.spreadsheet import CELL, Sheet, protected, unprotected

FORMULA = "=+-@"
FORMS = [
    character
    for character in map(chr, range(0x110000))
    if unicodedata.normalize("NFKC", character) in tuple(FORMULA)
]
"""Every character that Unicode counts as another form of = + - @."""
BLANK = "\ufeff\u200b\u2060\x00\x1f\x7f"
"""Characters that str.strip keeps, although a program may drop them."""
nasty = st.text(alphabet=[*"=+-@'\"; ,\t\r\n a1", "\uff1d", "\u00a0", *BLANK], max_size=12)


def runs(cell: str) -> bool:
    """Say whether a program that skips invisible characters would find a formula."""
    seen = cell.strip().strip(BLANK + " \t\r\n")
    return unicodedata.normalize("NFKC", seen[:1]) in tuple(FORMULA)


def written(*records: dict[str, object]) -> str:
    """Return the csv of *records* without its byte order mark."""
    out = io.BytesIO()
    write_csv(map(orjson.dumps, records), out)
    return out.getvalue().decode("utf-8-sig")


def cells(text: str, delimiter: str = ",") -> list[str]:
    found = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [cell for row in found for cell in row]


def test_a_csv_says_that_it_is_utf_8() -> None:
    """Excel reads a csv without a byte order mark in the code page of the machine."""
    out = io.BytesIO()
    write_csv([b'{"id":"P1","name":"caf\xc3\xa9"}'], out)
    assert out.getvalue().startswith(b"\xef\xbb\xbfid,name\r\n")
    assert out.getvalue().count(b"\xef\xbb\xbf") == 1


@pytest.mark.parametrize("character", FORMS)
@pytest.mark.parametrize("before", ["", " ", "\u00a0", "\n", "\ufeff", '"'])
def test_no_form_of_a_formula_begins_a_cell(character: str, before: str) -> None:
    assert protected(f"{before}{character}1+1").startswith(f"'{before}")


@pytest.mark.parametrize("character", ["\t", "\r", "\n", "\0", "'"])
def test_no_cell_begins_with_a_character_that_programs_drop_or_hide(character: str) -> None:
    assert protected(f"{character}text") == f"'{character}text"


@given(st.lists(nasty, min_size=3, max_size=3), st.sampled_from([",", ";", "\t"]))
@example(["a", 'x;"=1+1', "b"], ";")
@example(["a", "x\n=1+1", "b"], ";")
def test_no_cell_runs_with_any_separator_of_a_locale(texts: list[str], separator: str) -> None:
    """If a comma is the decimal mark, a spreadsheet splits at semicolons and reads our quotes as text."""
    record = dict(zip(("id", "title", "late"), texts, strict=True))
    text = written(record, {**record, "title": {"nested": texts[1]}})
    assert not [cell for cell in cells(text, separator) if runs(cell)]


@given(nasty)
def test_protection_can_be_taken_back(text: str) -> None:
    """So two different texts, such as `=1+1` and `'=1+1`, never become equal."""
    assert unprotected(protected(text)) == text


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("", "P1", "don't", "a-b", "2 + 2 = 4", "line\nbreak", "a; b", '{"id":"P1"}'):
        assert protected(text) == text


def test_a_field_name_is_a_cell_like_any_other() -> None:
    assert cells(written({"id": "P1", "=cmd()": "x"}))[:2] == ["id", "'=cmd()"]


@pytest.mark.parametrize("character", ["a", "\n", "\u00e9", "\U0001f600", "'", "="])
def test_a_long_cell_is_cut_to_the_limit_and_says_so(character: str) -> None:
    """Excel counts UTF-16 units; PagerDuty's records reach 270,000 characters."""
    sheet = Sheet()
    cell = sheet.cell("body", character * 270_000)
    assert CELL - 2 < len(cell.encode("utf-16-le")) // 2 <= CELL
    assert cell.endswith(" [cut by Pagetrail: 270,000 characters; --format jsonl has all]")
    assert "1 cell of body" in " ".join(sheet.remarks)


def test_the_longest_cell_that_fits_is_whole() -> None:
    sheet = Sheet()
    assert sheet.cell("body", "a" * CELL) == "a" * CELL
    assert sheet.remarks == ()


def test_cut_text_is_named_once_per_column() -> None:
    sheet = Sheet()
    for _ in range(3):
        sheet.cell("body", "a" * 40_000)
    sheet.cell("channel", {"text": "a" * 40_000})
    (said,) = sheet.remarks
    assert "3 cells of body, 1 cell of channel" in said
    assert "--format jsonl" in said


def test_rows_below_the_end_of_a_sheet_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "ROWS", 3)
    out = io.BytesIO()
    done = write_csv([b'{"id":"P1"}'] * 2, out)
    assert (done.count, done.remarks) == (2, ())
    done = write_csv([b'{"id":"P1"}'] * 3, out)
    assert done.count == 3
    assert "all 3 records, but a spreadsheet shows only 2" in " ".join(done.remarks)
