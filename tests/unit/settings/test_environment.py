"""The environment becomes Settings, or one sentence that names the wrong variable."""

import base64
import json
import os
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from docs.reference import table
from tests.permissions import unprivileged
from workers.errors import Fault, RedisUnreachable, SettingsFault, VaultFault
from workers.settings.environment import Settings, load_settings
from workers.settings.vault_keys import generate_key

PASSWORD = "hunter2hunter2"
GOOD_KEY = base64.urlsafe_b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of the person who runs the tests, and work in an empty directory."""
    for name in [name for name in os.environ if name.upper().startswith("PAGETRAIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("workers.settings.secret_files.DEFAULT_DIR", tmp_path / "no secrets")
    monkeypatch.chdir(tmp_path)


def refusal() -> str:
    """Return the sentence of the fault that loading raises; check that its traceback holds no secret."""
    with pytest.raises(SettingsFault) as caught:
        load_settings()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    return sentence


def test_without_any_setting_one_machine_works_by_itself(tmp_path: Path) -> None:
    """Everything is then kept in .pagetrail of the current directory."""
    settings = load_settings()
    assert settings.data_dir == tmp_path / ".pagetrail"
    assert settings.storage_url_or_default == (tmp_path / ".pagetrail/artifacts").as_uri()
    assert settings.regions["us"] == "https://api.pagerduty.com"
    assert settings.regions["eu"] == "https://api.eu.pagerduty.com"
    assert not (tmp_path / ".pagetrail").exists()


def test_every_setting_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each variable of the table reaches its field."""
    keys = f"{generate_key()}, {generate_key()}"
    program = tmp_path / "server"
    program.touch(mode=0o755)
    given = {
        "DATA_DIR": str(tmp_path / "data"),
        "REDIS_URL": f"rediss://:{PASSWORD}@redis.example/1",
        "STORAGE_URL": "s3://bucket/prefix",
        "VAULT_KEYS": keys,
        "REGIONS": '{"us": "http://127.0.0.1:8080/"}',
        "SENTRY_DSN": "https://key@sentry.example/1",
        "REDIS_SERVER": str(program),
        "RESERVE": "25%",
        "LANES_START": "2",
        "LOG_LEVEL": "warning",
        "LOG_JSON": "1",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"PAGETRAIL_{name}", value)
    settings = load_settings()
    assert settings.data_dir == tmp_path / "data"
    assert settings.redis_url_or_embedded() == given["REDIS_URL"]
    assert settings.storage_url_or_default == "s3://bucket/prefix"
    assert settings.vault_keys_or_file() == tuple(keys.split(", "))
    assert settings.regions == {"us": "http://127.0.0.1:8080"}
    assert settings.redis_server == program
    assert (settings.reserve, settings.lanes_start) == (0.25, 2)
    assert (settings.log_level, settings.log_json) == ("WARNING", True)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass on variables that nobody has set."""
    monkeypatch.setenv("PAGETRAIL_REDIS_URL", "")
    monkeypatch.setenv("PAGETRAIL_LANES_MAX", "")
    assert load_settings().redis_url is None
    assert load_settings().lanes_max == 8


def test_settings_do_not_change() -> None:
    """No part of a process can change a setting for the others."""
    with pytest.raises(ValidationError):
        load_settings().lanes_max = 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RESERVE", "ten", "a share from 0 to 0.9, or 0% to 90%; it is 'ten'"),
        ("RESERVE", "95%", "0% to 90%"),
        ("RESERVE", "-1%", "0% to 90%"),
        ("RESERVE", "nan", "0% to 90%"),
        ("RESERVE", "10", "0% to 90%"),
        ("LANES_START", "0", "a whole number from 1 to 32; it is '0'"),
        ("LANES_MAX", "4.5", "a whole number from 1 to 32"),
        ("LANES_MAX", "many", "a whole number from 1 to 32"),
        ("PAGE_BUDGET_MINUTES", "inf", "a number from 1 to 1440"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "a number from 0.1 to 20"),
        ("LOG_LEVEL", "loud", "DEBUG, INFO, WARNING or ERROR"),
        ("LOG_JSON", "perhaps", "true or false"),
        ("KEY_PREFIX", "a:b", "letters, digits"),
        ("REDIS_SERVER", "/no/such/program", "a program that can be run"),
        ("STORAGE_URL", "ftp://host", "a file:///, s3://, gs:// or az:// URL"),
        ("STORAGE_URL", "memory://", "a file:///, s3://, gs:// or az:// URL"),
        ("STORAGE_URL", f"s3://key:{PASSWORD}@bucket", "credentials"),
        ("REDIS_URL", f"http://:{PASSWORD}@host", "a redis://, rediss:// or unix:// URL"),
        ("REDIS_URL", f"redis://:{PASSWORD}@", "the host is missing"),
        ("SENTRY_DSN", f"{PASSWORD}@sentry", "a Sentry DSN"),
        ("VAULT_KEYS", PASSWORD, "32 bytes of URL-safe base64"),
        ("VAULT_KEYS", f"{GOOD_KEY},{PASSWORD}", "Vault key 2"),
        ("VAULT_KEYS", " , ", "no key"),
        ("FLOWER_PASSWORD", f"{PASSWORD}\u00e9", "8 or more printable ASCII characters"),
        ("FLOWER_PASSWORD", "short", "8 or more printable ASCII characters"),
        ("REGIONS", "us=https://host", "it is not JSON"),
        ("REGIONS", "[1]", "JSON that gives each region"),
        ("REGIONS", '{"us": 1}', "JSON that gives each region"),
        ("REGIONS", "{}", "it names no region"),
        ("REGIONS", '{"us": "http://api.example.com"}', "region us uses plain http"),
        ("REGIONS", f'{{"us": "https://u:{PASSWORD}@h"}}', "region us has a user name"),
        ("REGIONS", '{"us": "https://h?q=1"}', "region us has a query"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """The sentence names the variable and its allowed values, and shows no secret."""
    monkeypatch.setenv(f"PAGETRAIL_{name}", value)
    sentence = refusal()
    assert f"PAGETRAIL_{name} must be " in sentence
    assert words in sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"LANES_START": "9"}, "LANES_START must not be above PAGETRAIL_LANES_MAX"),
        ({"PAGE_LEASE_SECONDS": "5"}, "PAGE_LEASE_SECONDS must be above PAGETRAIL_REQUEST_TIMEOUT"),
        ({"PROBE_SECONDS": "1000"}, "PROBE_SECONDS must not be above PAGETRAIL_PROBE_MAX_SECONDS"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    """Both variables are named."""
    for name, value in given.items():
        monkeypatch.setenv(f"PAGETRAIL_{name}", value)
    assert words in refusal()


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the variable and the setting that was probably meant."""
    monkeypatch.setenv("PAGETRAIL_VAULT_KEY", PASSWORD)
    assert "PAGETRAIL_VAULT_KEY isn't a setting: did you mean PAGETRAIL_VAULT_KEYS?" in refusal()


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file with the name of the variable is read. The environment takes precedence."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/pagetrail_redis_url").write_text(f"redis://:{PASSWORD}@one\n")
    (tmp_path / "secrets/PAGETRAIL_LANES_MAX").write_text("7\n")
    monkeypatch.setenv("PAGETRAIL_SECRETS_DIR", str(tmp_path / "secrets"))
    assert load_settings().redis_url_or_embedded() == f"redis://:{PASSWORD}@one"
    assert load_settings().lanes_max == 7
    monkeypatch.setenv("PAGETRAIL_REDIS_URL", "redis://two")
    assert load_settings().redis_url_or_embedded() == "redis://two"


def test_the_usual_secrets_directory_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """/run/secrets, the usual place in containers, needs no variable."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/pagetrail_lanes_max").write_text("7")
    monkeypatch.setattr("workers.settings.secret_files.DEFAULT_DIR", tmp_path / "run")
    assert load_settings().lanes_max == 7


def test_a_missing_secrets_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that a variable names must exist."""
    monkeypatch.setenv("PAGETRAIL_SECRETS_DIR", "/no/such/directory")
    assert "PAGETRAIL_SECRETS_DIR must be a directory that can be read" in refusal()


def test_secret_files_that_cannot_be_used_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file without permission, a file that is not text, or a directory in its place stops the start."""
    secret = tmp_path / "secrets/pagetrail_redis_url"
    secret.parent.mkdir()
    monkeypatch.setenv("PAGETRAIL_SECRETS_DIR", str(secret.parent))
    secret.write_text(f"redis://:{PASSWORD}@one")
    secret.chmod(0)
    with unprivileged(tmp_path):
        assert f"Permission denied: '{secret}'" in refusal()
    secret.chmod(0o600)
    secret.write_bytes(b"redis://" + PASSWORD.encode() + b"\xff")
    assert "not UTF-8 text" in refusal()
    secret.unlink()
    secret.mkdir()
    assert "found a directory instead" in refusal()


def test_a_secret_file_that_would_never_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reading a pipe would wait forever."""
    secret = tmp_path / "secrets/pagetrail_redis_url"
    secret.parent.mkdir()
    monkeypatch.setenv("PAGETRAIL_SECRETS_DIR", str(secret.parent))
    os.mkfifo(secret)
    assert "found a FIFO instead" in refusal()


def test_no_representation_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a log nor a dump of the settings holds a password or a vault key."""
    keys = generate_key()
    monkeypatch.setenv("PAGETRAIL_REDIS_URL", f"redis://:{PASSWORD}@host")
    monkeypatch.setenv("PAGETRAIL_VAULT_KEYS", keys)
    monkeypatch.setenv("PAGETRAIL_SENTRY_DSN", f"https://{PASSWORD}@host/1")
    settings = load_settings()
    shown = repr(settings) + str(settings) + settings.model_dump_json() + str(settings.model_dump())
    assert PASSWORD not in shown
    assert keys not in shown


def test_the_embedded_redis_is_found_by_the_file_with_its_url(tmp_path: Path) -> None:
    """Every command with the same data directory finds the fleet's Redis."""
    settings = load_settings()
    with pytest.raises(RedisUnreachable, match="run `pagetrail up`"):
        settings.redis_url_or_embedded()
    settings.make_data_dir()
    settings.redis_url_path.touch()
    with pytest.raises(RedisUnreachable, match="run `pagetrail up`"):
        settings.redis_url_or_embedded()
    settings.redis_url_path.write_text("redis://127.0.0.1:1\n")
    assert settings.redis_url_or_embedded() == "redis://127.0.0.1:1"
    settings.redis_url_path.chmod(0)
    settings.data_dir.chmod(0o755)
    with unprivileged(tmp_path), pytest.raises(RedisUnreachable, match="can't be read"):
        settings.redis_url_or_embedded()


def test_the_vault_key_is_made_on_first_use(tmp_path: Path) -> None:
    """The data directory and the key in it are private, and the key stays."""
    settings = load_settings()
    keys = settings.vault_keys_or_file()
    assert load_settings().vault_keys_or_file() == keys
    assert (tmp_path / ".pagetrail").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".pagetrail/vault.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / ".pagetrail/vault.key").chmod(0o644)
    with pytest.raises(VaultFault, match="chmod 600"):
        settings.vault_keys_or_file()


def test_the_file_of_the_vault_key_takes_a_new_key_before_the_old_one(tmp_path: Path) -> None:
    """So the key can be changed in the file as in the variable, without a pause."""
    settings = load_settings()
    [old] = settings.vault_keys_or_file()
    new = generate_key()
    (tmp_path / ".pagetrail/vault.key").write_text(f"{new},{old}\n", "ascii")
    assert settings.vault_keys_or_file() == (new, old)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_unwritable_data_directory_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    """The sentence names the variable to change."""
    (tmp_path / "locked").mkdir(mode=0o555)
    monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path / "locked" / below))
    settings = load_settings()
    with unprivileged(tmp_path), pytest.raises(Fault, match="PAGETRAIL_DATA_DIR must be"):
        settings.vault_keys_or_file()


def test_a_file_in_place_of_the_data_directory_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file can't be the data directory."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PAGETRAIL_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(SettingsFault, match="PAGETRAIL_DATA_DIR must be a directory"):
        load_settings().make_data_dir()


def test_the_table_has_a_row_for_every_setting() -> None:
    """Each setting is documented, and nothing else."""
    rows = {row.variable: row for row in table()}
    fields = {f"PAGETRAIL_{name.upper()}" for name in Settings.model_fields}
    assert set(rows) == fields | {"PAGETRAIL_SECRETS_DIR"}
    assert all(row.meaning and row.allowed for row in rows.values())
    assert json.loads(rows["PAGETRAIL_REGIONS"].default)["eu"] == "https://api.eu.pagerduty.com"
    assert rows["PAGETRAIL_RESERVE"].default == "0.1"
    assert rows["PAGETRAIL_REDIS_URL"].default == ""
