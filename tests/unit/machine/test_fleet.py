"""The environment of the processes of one machine's fleet."""

from pathlib import Path

import pytest

from workers.machine.fleet import _environment
from workers.settings.environment import load_settings


def test_processes_in_another_directory_get_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").touch(mode=0o755)
    (tmp_path / "secrets").mkdir()
    named = {"DATA_DIR": "data", "REDIS_SERVER": "server", "SECRETS_DIR": "secrets"}
    for name, path in named.items():
        monkeypatch.setenv(f"PAGETRAIL_{name}", path)
    told = _environment(load_settings())
    expected = {f"PAGETRAIL_{name}": str(tmp_path / path) for name, path in named.items()}
    assert {name: told.get(name) for name in expected} == expected
