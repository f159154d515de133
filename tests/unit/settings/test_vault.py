"""Sealed secrets open only with their key and for their owner."""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.permissions import unprivileged
from workers.errors import VaultFault
from workers.settings.vault import Vault
from workers.settings.vault_keys import generate_key, key_in_file

SECRET = "u+SeCrEtOfACustomer20"
OWNER = "acme/main"


@given(st.text(), st.text())
def test_a_sealed_secret_opens(secret: str, owner: str) -> None:
    """Any text comes back for any owner, and the sealed text doesn't show it."""
    vault = Vault([generate_key()])
    sealed = vault.seal(secret, owner)
    assert vault.open(sealed, owner) == secret
    assert sealed.isascii()
    assert len(secret) < 8 or secret not in sealed


def test_sealing_twice_gives_two_texts() -> None:
    """The sealed texts don't show that two sources have the same key."""
    vault = Vault([generate_key()])
    assert vault.seal(SECRET, OWNER) != vault.seal(SECRET, OWNER)


def test_the_first_key_seals_and_all_open() -> None:
    """A vault key is rotated by putting a new one first and keeping the old one."""
    old, new = generate_key(), generate_key()
    sealed = Vault([old]).seal(SECRET, OWNER)
    both = Vault([new, old])
    assert both.open(sealed, OWNER) == SECRET
    assert not both.seals_with_first(sealed)
    again = both.seal(SECRET, OWNER)
    assert both.seals_with_first(again)
    assert Vault([new]).open(again, OWNER) == SECRET


def test_a_missing_vault_key_is_named_by_its_id() -> None:
    """So the key of another fleet is not mistaken for a changed text."""
    sealed = Vault([generate_key()]).seal(SECRET, OWNER)
    with pytest.raises(VaultFault, match="add it to PAGETRAIL_VAULT_KEYS") as caught:
        Vault([generate_key()]).open(sealed, OWNER)
    assert sealed.split(".")[1] in str(caught.value)


def test_a_moved_secret_stays_closed() -> None:
    """A secret that was sealed for one source can't be opened for another."""
    vault = Vault([generate_key()])
    sealed = vault.seal(SECRET, OWNER)
    for other in ("acme/other", "", "acme/mai", "acme/main "):
        with pytest.raises(VaultFault, match="changed or belongs to another"):
            vault.open(sealed, other)


def test_every_changed_byte_is_noticed() -> None:
    """Each byte of nonce, text and tag counts."""
    vault = Vault([generate_key()])
    version, key_id, text = vault.seal(SECRET, OWNER).split(".")
    data = base64.urlsafe_b64decode(text)
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        sealed = f"{version}.{key_id}.{base64.urlsafe_b64encode(changed).decode()}"
        with pytest.raises(VaultFault, match="changed"):
            vault.open(sealed, OWNER)


@pytest.mark.parametrize(
    "sealed", ["", "v1", "v1..", "v2.x.AAAA", "v1.x.AAAA", "v1.x.%%%", "v1.x.é", SECRET]
)
def test_any_other_text_is_a_fault(sealed: str) -> None:
    """The sentence says that it isn't a sealed text, and doesn't repeat it."""
    with pytest.raises(VaultFault, match="not a sealed text") as caught:
        Vault([generate_key()]).open(sealed, OWNER)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "short",
        "é" * 44,
        base64.urlsafe_b64encode(bytes(31)).decode(),
        base64.urlsafe_b64encode(bytes(32)).decode()[:-1],
    ],
)
def test_a_bad_vault_key_is_refused_without_being_shown(key: str) -> None:
    """The sentence names the key by its position."""
    with pytest.raises(VaultFault, match="Vault key 2 is not 32 bytes") as caught:
        Vault([generate_key(), key])
    assert len(key) < 6 or key not in str(caught.value)


def test_a_vault_needs_a_key() -> None:
    """An empty list of keys is refused."""
    with pytest.raises(VaultFault, match="no key"):
        Vault([])


def test_no_representation_shows_a_key() -> None:
    """Logs and tracebacks show key ids at most."""
    key = generate_key()
    vault = Vault([key])
    assert key not in repr(vault) + str(vault) + repr(vars(vault))
    assert repr(vault).startswith("Vault(")


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    """The first process makes it; all others read the same key."""
    path = tmp_path / "vault.key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: key_in_file(path), range(8)))
    assert len(keys) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    vault = Vault([keys.pop()])
    assert vault.open(vault.seal(SECRET, OWNER), OWNER) == SECRET


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o606])
def test_an_open_key_file_is_refused(tmp_path: Path, mode: int) -> None:
    """A vault key that other users could have read is refused with a sentence."""
    path = tmp_path / "vault.key"
    key = key_in_file(path)
    path.chmod(mode)
    with pytest.raises(VaultFault, match="chmod 600") as caught:
        key_in_file(path)
    assert key not in str(caught.value)


def test_an_unreadable_key_file_is_refused(tmp_path: Path) -> None:
    """A key file of another user, or one that isn't text, leads to one sentence."""
    path = tmp_path / "vault.key"
    key_in_file(path)
    path.chmod(0)
    with unprivileged(tmp_path), pytest.raises(VaultFault, match="Permission denied"):
        key_in_file(path)
    path.chmod(0o600)
    path.write_bytes(os.urandom(32) + b"\xff")
    with pytest.raises(VaultFault, match="not text"):
        key_in_file(path)
