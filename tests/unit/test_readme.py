"""What the README says is what the program does."""

import re
from pathlib import Path

from workers.settings import settings_table

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def rows() -> list[str]:
    """Return the settings table as the README has it."""
    return [
        f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.allowed} | {row.meaning} |"
        for row in settings_table()
    ]


def test_the_settings_table_is_the_settings() -> None:
    """Every setting is in the README's table, with its default, its limits and its meaning."""
    between = re.search(r"<!-- settings.*?-->\n(.*?)<!-- end of settings", README, re.S)
    assert between
    assert between[1].strip().splitlines()[2:] == rows()
