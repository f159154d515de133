"""A variable that is nearly a setting is found; others are left alone."""

import pytest

from workers.settings.misspelt import misspelt

KNOWN = ["APP_REDIS_URL", "APP_REDIS_SERVER", "APP_STORAGE_URL", "APP_VAULT_KEYS", "APP_RESERVE"]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("APP_VAULT_KEY", "APP_VAULT_KEYS"),
        ("APP_STORAGE_ULR", "APP_STORAGE_URL"),
        ("app_reserv", "APP_RESERVE"),
        ("APP_STORAGE", "APP_STORAGE_URL"),
        ("APP_REDIS_URL_FILE", "APP_REDIS_URL"),
    ],
)
def test_a_name_that_is_nearly_a_setting_is_found(variable: str, meant: str) -> None:
    """Swapped or missing letters, and extra or missing words are noticed."""
    assert misspelt([variable, *KNOWN], KNOWN, "APP_") == (variable, meant)


@pytest.mark.parametrize(
    "variable",
    [
        "app_redis_url",
        "REDIS_URLS",
        "APP_SOMETHING_NEWER",
        "APP_REDIS_SERVICE_HOST",
        "APP_REDIS_SERVICE_PORT",
        "APP_REDIS_SERVICE_PORT_REDIS",
        "APP_REDIS_PORT",
        "APP_REDIS_PORT_6379_TCP",
        "APP_REDIS_PORT_6379_TCP_ADDR",
        "APP_REDIS_URL_PORT_6379_TCP_PROTO",
    ],
)
def test_other_names_are_left_alone(variable: str) -> None:
    """Settings, newer settings, and variables of other programs and of Kubernetes are accepted."""
    assert misspelt([variable], KNOWN, "APP_") is None
