"""`pagetrail keys` shows what auditors need, and nothing secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.cli import perform
from workers.runtime import runtime
from workers.signing.keys import PublicKeys

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory of its own, and no other settings."""
    monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path / "data"))
    runtime.cache_clear()
    yield tmp_path / "data"
    runtime.cache_clear()


def test_there_is_no_key_before_the_first_seal(capsys: Captured, data: Path) -> None:
    """Showing keys makes none, and needs no fleet."""
    assert perform(["keys"]) == 0
    out, err = capsys.readouterr()
    assert (out, err.startswith("There are no keys yet")) == ("", True)
    assert perform(["keys", "--json"]) == 0
    assert PublicKeys.from_json(capsys.readouterr().out.encode()) == PublicKeys()
    assert not data.exists()


def test_a_new_key_is_shown_after_the_old_one(capsys: Captured, data: Path) -> None:
    assert perform(["keys", "rotate"]) == 0
    capsys.readouterr()
    secret = (data / "signer.key").read_text()
    assert perform(["keys", "rotate", "--json"]) == 0
    keys = PublicKeys.from_json(capsys.readouterr().out.encode())
    old, new = keys.keys
    assert old.last_day
    assert new.last_day is None
    assert (data / "signer.key").read_text() != secret
    assert perform(["keys"]) == 0
    out = capsys.readouterr().out
    assert all(each in out for key in keys.keys for each in (key.id, key.pem))
    assert "PRIVATE" not in out


def test_a_key_that_a_setting_names_is_not_replaced(
    capsys: Captured, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGETRAIL_SIGNER_URI", "awskms:alias/seals")
    assert perform(["keys", "rotate"]) == 1
    assert "name a new key there" in capsys.readouterr().err
    assert not data.exists()
