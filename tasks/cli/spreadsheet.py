"""What a cell of a spreadsheet may hold: nothing that runs as a formula, and no more than fits.

Titles and messages come from anybody who can page. A spreadsheet that opens a csv runs a cell as a
formula by its first character, and splits at semicolons where a comma is the decimal mark: our
quotes then stand inside a cell and protect nothing. So an apostrophe also goes in front of a formula
that follows a semicolon, a tab or a line break (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.cli import output
from workers import exact

CELL = 32_767
"""UTF-16 units in a cell; this and `ROWS` are Excel's, the smallest of the common limits
(https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3)."""
ROWS = 1_048_576
"""Rows of a sheet, the titles included."""
_NAMED = 5
"""Columns that a sentence names."""

_SIGN = r"=+\-@\u207a\u207c\u208a\u208c\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
"""Every form that Unicode has of = + - @."""
_BREAK = r";\t\r\n"
_UNSEEN = r"\s\"\x00-\x1f\x7f\u00ad\u200b-\u200f\u2028-\u202f\u2060\ufeff"
"""Characters that a program may drop before it looks for a sign."""
# The second half looks no further than the next break, so that the whole takes linear time.
_RISKY = re.compile(
    rf"\A(?=[\x00\t\r\n']|[{_UNSEEN}]*[{_SIGN}])"
    rf"|(?<=[{_BREAK}])(?='|(?:(?![{_BREAK}])[{_UNSEEN}])*[{_SIGN}])"
)
_PROTECTED = re.compile(rf"(\A|(?<=[{_BREAK}]))'")


def protected(text: str) -> str:
    """Return *text* with an apostrophe wherever a spreadsheet would begin a formula.

    An apostrophe of the text itself is doubled in these places, so that no two texts become equal.
    """
    return _RISKY.sub("'", text)


def unprotected(cell: str) -> str:
    """Return the text that `protected` made *cell* of."""
    return _PROTECTED.sub("", cell)


class Sheet:
    """Rows of one spreadsheet, and what a person must know who opens it."""

    def __init__(self) -> None:
        self._rows = 0
        self._cut: Counter[str] = Counter()

    def row(self, columns: Iterable[str], record: Mapping[str, Any]) -> list[str | None]:
        """Return the cells of *record* in the order of *columns*."""
        self._rows += 1
        return [self.cell(name, record.get(name)) for name in columns]

    def cell(self, column: str, value: Any) -> str | None:
        """Return *value* as text that fits and runs nothing; nested values as JSON."""
        if value is None:
            return None
        text = value if isinstance(value, str) else exact.dumps(value).decode()
        cell = text if isinstance(value, int | float) else protected(text[: CELL + 1])
        if _units(cell) <= CELL:
            return cell
        self._cut[column] += 1
        return _cut(cell, f" [cut by Pagetrail: {len(text):,} characters; --format jsonl has all]")

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences about what the cells leave out or a program would not show."""
        said = []
        if self._cut:
            cells = ", ".join(
                f"{output.counted(count, 'cell')} of {column}"
                for column, count in self._cut.most_common(_NAMED)
            )
            said.append(
                f"A spreadsheet's cell holds {CELL:,} characters, so the longest were cut, and end "
                f"in a note that says so: {cells}. Export with --format jsonl to get them whole."
            )
        if self._rows >= ROWS:
            said.append(
                f"The file has all {self._rows:,} records, and a spreadsheet shows {ROWS - 1:,} of "
                "them: open it with another program, or export one run at a time with --run."
            )
        return tuple(said)


def _units(text: str) -> int:
    """Return the length of *text* as Excel counts: a character beyond U+FFFF counts twice."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def _cut(text: str, marker: str) -> str:
    room = 2 * (CELL - _units(marker))
    return text.encode("utf-16-le")[:room].decode("utf-16-le", "ignore") + marker
