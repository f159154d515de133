"""Make cells that a spreadsheet shows as text. They don't run as formulas, and they aren't too long.

Anybody who can page can write titles and messages. When a spreadsheet opens a csv, the first
character of a cell decides whether it runs as a formula. In countries with a decimal comma, cells
also end at semicolons. Our quotes are then in the middle of a cell, and protect nothing. So an
apostrophe also goes before a formula that follows a semicolon, a tab or a line break
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.cli import output
from workers import exact

CELL = 32_767
"""UTF-16 units in a cell. This and `ROWS` are the limits of Excel, the smallest in common use
(https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3)."""
ROWS = 1_048_576
"""Rows of a sheet, including the titles."""
_NAMED = 5
"""How many columns a remark names."""

_SIGN = r"=+\-@\u207a\u207c\u208a\u208c\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
"""Every form of = + - @ in Unicode."""
_BREAK = r";\t\r\n"
_UNSEEN = r"\s\"\x00-\x1f\x7f\u00ad\u200b-\u200f\u2028-\u202f\u2060\ufeff"
"""Characters that a program may skip before it looks for a sign."""
# The second alternative stops at the next break, so that a search takes linear time.
_RISKY = re.compile(
    rf"\A(?=[\x00\t\r\n']|[{_UNSEEN}]*[{_SIGN}])"
    rf"|(?<=[{_BREAK}])(?='|(?:(?![{_BREAK}])[{_UNSEEN}])*[{_SIGN}])"
)
_PROTECTED = re.compile(rf"(\A|(?<=[{_BREAK}]))'")


def protected(text: str) -> str:
    """Return *text* with an apostrophe in each place where a spreadsheet would begin a formula.

    An apostrophe that is already there is doubled, so that different texts stay different.
    """
    return _RISKY.sub("'", text)


def unprotected(cell: str) -> str:
    """Return the text from which `protected` made *cell*."""
    return _PROTECTED.sub("", cell)


class Sheet:
    """Makes the rows of one spreadsheet, and remarks for the person who opens it."""

    def __init__(self) -> None:
        self._rows = 0
        self._cut: Counter[str] = Counter()

    def row(self, columns: Iterable[str], record: Mapping[str, Any]) -> list[str | None]:
        """Return the cells of *record* in the order of *columns*."""
        self._rows += 1
        return [self.cell(name, record.get(name)) for name in columns]

    def cell(self, column: str, value: Any) -> str | None:
        """Return *value* as text that fits a cell and is not a formula. Nested values become JSON."""
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
        """Sentences about text that was cut, and about rows that a spreadsheet does not show."""
        said = []
        if self._cut:
            cells = ", ".join(
                f"{output.counted(count, 'cell')} of {column}"
                for column, count in self._cut.most_common(_NAMED)
            )
            said.append(
                f"A spreadsheet cell holds {CELL:,} characters. Longer texts were cut and end in a "
                f"note: {cells}. Export with --format jsonl to get them complete."
            )
        if self._rows >= ROWS:
            said.append(
                f"The file has all {self._rows:,} records, but a spreadsheet shows only {ROWS - 1:,}: "
                "open it with another program, or export one run at a time with --run."
            )
        return tuple(said)


def _units(text: str) -> int:
    """Return the length of *text* as Excel counts it: a character beyond U+FFFF counts twice."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def _cut(text: str, marker: str) -> str:
    room = 2 * (CELL - _units(marker))
    return text.encode("utf-16-le")[:room].decode("utf-16-le", "ignore") + marker
