"""Checks of the URLs in the settings; a `ValueError` gives the reason and repeats no secret."""

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

_STORAGE_SCHEMES = ("file", "s3", "gs", "az")
_SIGNER_SCHEMES = ("file", "awskms", "gcpkms", "azurekms", "hv")
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_REGION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def is_loopback(host: str) -> bool:
    """Say whether *host* (a name or an address) is certainly this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_web_address(url: str) -> bool:
    """Say whether *url* is an http or https URL that every program reads in the same way."""
    try:
        parts = _split(url)
    except ValueError:
        return False
    return url.isascii() and parts.scheme in ("http", "https") and bool(parts.hostname)


def check_regions(regions: Mapping[str, str]) -> dict[str, str]:
    """Return each region's base URL without a final slash: https, or plain http on loopback."""
    if not regions:
        raise ValueError("it names no region")
    return {name: _region(name, url) for name, url in regions.items()}


def check_storage(url: str) -> str:
    """Return *url* if evidence can be kept there; it must not hold credentials."""
    parts = _plain(url, _STORAGE_SCHEMES, "cloud")
    if parts.scheme != "file" and not parts.netloc:
        raise ValueError("the bucket is missing")
    if parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
        raise ValueError("a file URL has three slashes and an absolute path")
    if not {"", ".", ".."}.isdisjoint(parts.path.removesuffix("/").split("/")[1:]):
        raise ValueError("a part of the path is empty, or is . or ..")
    return url


def check_signer(uri: str) -> str:
    """Return *uri* if it can name a key that signs; it must not hold credentials."""
    parts = _plain(uri, _SIGNER_SCHEMES, "service")
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise ValueError("a file URI has an absolute path")
    if parts.scheme == "azurekms" and not re.fullmatch(r"/keys/[^/]+", parts.path):
        raise ValueError("after the vault's host comes /keys/NAME")
    if not parts.path.strip("/"):
        raise ValueError("the name of the key is missing")
    return uri


def check_redis(url: str) -> str:
    """Return *url* if both redis-py and Celery's transport accept it."""
    parts = _split(url, _REDIS_SCHEMES)
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("the host is missing")
    if parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError("the database is not a number")
    return url


def check_proxy(url: str) -> str:
    """Return *url*, an http or https URL, with its scheme. People leave it out, because curl and others allow that."""
    whole = url if "://" in url else f"http://{url}"
    parts = _split(whole)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the scheme is neither http nor https, or the host is missing")
    return whole


def check_sentry(url: str) -> str:
    """Return *url* if it is a DSN: scheme, public key, host and project."""
    parts = _split(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("the scheme is neither http nor https")
    if not (parts.username and parts.hostname and parts.path.strip("/")):
        raise ValueError("the key, host or project is missing")
    return url


def _region(name: str, url: str) -> str:
    if not _REGION_NAME.fullmatch(name):
        raise ValueError("a region's name may have small letters, digits and dashes only")
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"region {name} has no https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"region {name} has a user name or password")
    if parts.query or parts.fragment:
        raise ValueError(f"region {name} has a query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"region {name} uses plain http")
    return url.rstrip("/")


def _plain(url: str, schemes: Collection[str], whose: str) -> SplitResult:
    """Return the parts of *url*, which must leave credentials and options to the variables of a cloud or service."""
    parts = _split(url, schemes)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"credentials and options belong in the {whose}'s own variables")
    return parts


def _split(url: str, schemes: Collection[str] = ()) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed on first use; raises unless it is from 0 to 65535
    except ValueError:
        raise ValueError("it is not a URL") from None
    if re.search(r"[\s\\]", url):  # programs disagree on the host of such a URL
        raise ValueError("it is not a URL")
    if schemes and parts.scheme not in schemes:
        raise ValueError("its scheme is not one of these")
    return parts
