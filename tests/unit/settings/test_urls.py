"""URLs that the settings accept and refuse."""

import pytest

from workers.settings import urls


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.pagerduty.com", "https://api.pagerduty.com"),
        ("https://api.pagerduty.com/", "https://api.pagerduty.com"),
        ("https://proxy.example:8443/pd", "https://proxy.example:8443/pd"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost:1/", "http://localhost:1"),
    ],
)
def test_regions_are_https_or_loopback(url: str, kept: str) -> None:
    """A region's URL is kept without its final slash."""
    assert urls.check_regions({"us": url}) == {"us": kept}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://api.pagerduty.com", "plain http"),
        ("http://127.0.0.1.example.com", "plain http"),
        ("http://localhost.example.com", "plain http"),
        ("http://10.0.0.1", "plain http"),
        ("https://user@api.pagerduty.com", "user name"),
        ("https://:secret@api.pagerduty.com", "user name"),
        ("https://api.pagerduty.com?x=1", "query"),
        ("https://api.pagerduty.com#x", "query or fragment"),
        ("https://", "no https URL"),
        ("api.pagerduty.com", "no https URL"),
        ("ftp://api.pagerduty.com", "no https URL"),
        ("https://api.pagerduty.com:99999", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://api.pagerduty.com\\@example.com", "not a URL"),
        ("https://api.pagerduty.com/ x", "not a URL"),
    ],
)
def test_other_regions_are_refused(url: str, reason: str) -> None:
    """The error gives the reason and repeats nothing of the URL."""
    with pytest.raises(ValueError, match=reason) as caught:
        urls.check_regions({"us": url})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "regions", [{}, {"": "https://a"}, {"US": "https://a"}, {"a b": "https://a"}]
)
def test_regions_have_plain_names(regions: dict[str, str]) -> None:
    """At least one region is needed, and its name must be easy to type."""
    with pytest.raises(ValueError, match="region"):
        urls.check_regions(regions)


@pytest.mark.parametrize(
    "url", ["file:///srv/evidence", "s3://b", "s3://b/", "s3://b/p/q/", "gs://b/.p/q..", "az://c/p"]
)
def test_storage_urls(url: str) -> None:
    """A directory or a bucket, with or without a prefix."""
    urls.check_storage(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://", "scheme"),
        ("http://host/bucket", "scheme"),
        ("/srv/evidence", "scheme"),
        ("file://srv/evidence", "three slashes"),
        ("file:///", "absolute path"),
        ("s3:///prefix", "bucket is missing"),
        ("s3://key:secret@bucket", "credentials"),
        ("s3://bucket?secret=1", "credentials"),
        ("s3://bucket//prefix", "part of the path is empty"),
        ("s3://bucket/a//b", "part of the path is empty"),
        ("gs://bucket/a/../b", "part of the path is empty"),
        ("file:///srv/./evidence", "part of the path is empty"),
    ],
)
def test_other_storage_urls_are_refused(url: str, reason: str) -> None:
    """Memory can't be shared by a fleet, and credentials don't belong in a URL."""
    with pytest.raises(ValueError, match=reason) as caught:
        urls.check_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host:6379/3",
        "redis://host/",
        "rediss://user:secret@host:6380/0?ssl_cert_reqs=required",
        "unix:///run/redis.sock?db=2",
    ],
)
def test_redis_urls(url: str) -> None:
    """TCP, TLS or a socket."""
    urls.check_redis(url)


@pytest.mark.parametrize(
    "url",
    ["localhost:6379", "http://host", "redis://", "redis://host:x", "redis://host/db", "unix://"],
)
def test_other_redis_urls_are_refused(url: str) -> None:
    """A URL that redis-py would misread or fail on later is refused at once."""
    with pytest.raises(ValueError, match=r"scheme|host|not a URL|number"):
        urls.check_redis(url)


def test_sentry_dsns() -> None:
    """A DSN has a key, a host and a project."""
    urls.check_sentry("https://key@sentry.example/42")
    for url in ("https://sentry.example/42", "https://key@sentry.example", "key@sentry.example/42"):
        with pytest.raises(ValueError, match=r"missing|scheme"):
            urls.check_sentry(url)


@pytest.mark.parametrize(
    "uri",
    [
        "file:/etc/pagetrail/signer.pem",
        "file:///etc/pagetrail/signer.pem",
        "awskms:alias/seals",
        "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "azurekms://vault.vault.azure.net/keys/seals",
        "hv:seals",
    ],
)
def test_a_signer_is_a_file_or_a_key_service(uri: str) -> None:
    assert urls.check_signer(uri) == uri


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "scheme"),
        ("/etc/signer.pem", "scheme"),
        ("file2:/etc/signer.pem", "scheme"),
        ("https://kms.example/key", "scheme"),
        ("file:signer.pem", "absolute path"),
        ("file://host/signer.pem", "absolute path"),
        ("file:///", "name of the key"),
        ("awskms:", "name of the key"),
        ("azurekms://vault.vault.azure.net/seals", "/keys/NAME"),
        ("azurekms://me:secret@vault.vault.azure.net/keys/seals", "credentials"),
        ("hv:seals?token=secret", "credentials"),
    ],
)
def test_other_signers_are_refused(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        urls.check_signer(uri)
    assert "secret" not in str(caught.value)
