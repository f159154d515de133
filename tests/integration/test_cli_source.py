"""A person runs the source commands: as a process, with a real Redis and storage on disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tasks.reading.catalog import CATALOG
from tests.cli_process import Pagetrail
from tests.manifests import manifest_document, manifest_text
from tests.simulator_process import SimulatorProcess, running_simulator
from workers.settings.vault_keys import generate_key

ACME, ACME_NEXT, ACME_USER = "acme-key-01234567890", "acme-key-next-345678", "acme-user-0123456789"
OTHER, EUROPE, UNKNOWN = "other-key-0123456789", "europe-key-012345678", "nobody-key-012345678"
ACCOUNTS = [
    {
        "subdomain": "acme",
        "incidents": 5,
        "abilities_off": ["audit"],
        "keys": [{"key": ACME}, {"key": ACME_NEXT}, {"key": ACME_USER, "kind": "user"}],
    },
    {"subdomain": "other", "incidents": 5, "keys": [{"key": OTHER}]},
    {"subdomain": "europe", "region": "eu", "incidents": 5, "keys": [{"key": EUROPE}]},
]


@pytest.fixture(scope="module")
def pagerduty() -> Iterator[SimulatorProcess]:
    """A PagerDuty with two regions."""
    with running_simulator(ACCOUNTS) as simulator:
        yield simulator


@pytest.fixture
def pagetrail(
    redis: Redis, redis_url: str, pagerduty: SimulatorProcess, tmp_path: Path, prefix: str
) -> Pagetrail:
    regions = {name: pagerduty.region(name) for name in ("us", "eu")}
    return Pagetrail(
        {
            "PAGETRAIL_DATA_DIR": str(tmp_path / "data"),
            "PAGETRAIL_REDIS_URL": redis_url,
            "PAGETRAIL_KEY_PREFIX": prefix,
            "PAGETRAIL_REGIONS": json.dumps(regions),
        }
    )


def everything(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def redis_content(redis: Redis) -> bytes:
    return b"".join(redis.dump(key) or b"" for key in redis.scan_iter())


def test_a_source_lives_from_connect_to_disconnect(
    pagetrail: Pagetrail, redis: Redis, tmp_path: Path
) -> None:
    connected = pagetrail.json("source", "connect", "acme/main", key=f"{ACME}\n")
    account = {"source": "acme/main", "region": "us", "subdomain": "acme", "credential": "account"}
    assert connected == account | {
        "fingerprint": connected["fingerprint"],
        "state": "active",
        "retention_months": None,
        "held_since": None,
        "purge": None,
        "former_subdomains": [],
        "resources": {
            name: {"readable": False, "reason": "plan"}
            if name == "audit_records"
            else {"readable": True, "reason": ""}
            for name in CATALOG
        },
    }
    shown = pagetrail.json("source", "show", "acme/main")
    assert shown == connected | {"renamed_to": None}
    assert pagetrail.json("source", "check", "acme/main") == connected
    assert pagetrail.json("source", "pause", "acme/main")["state"] == "paused"
    assert pagetrail.json("source", "resume", "acme/main")["state"] == "active"
    rotated = pagetrail.json("source", "rotate", "acme/main", key=ACME_NEXT)
    assert rotated["fingerprint"] != connected["fingerprint"]
    (listed,) = pagetrail.json("source", "list")["sources"]
    assert (listed["source"], listed["rotation_due"]) == ("acme/main", False)
    assert pagetrail.json("source", "disconnect", "acme/main")["state"] == "disconnected"
    for key in (ACME, ACME_NEXT):
        assert key.encode() not in everything(tmp_path) + redis_content(redis)


def test_a_table_shows_the_lists_that_a_key_can_read(pagetrail: Pagetrail) -> None:
    done = pagetrail("source", "connect", "acme/main", "--yes", key=ACME)
    assert done.returncode == 0
    rows = {words[0]: words[1:3] for words in map(str.split, done.stdout.splitlines()) if words}
    assert rows["services"] == ["yes"]
    assert rows["audit_records"] == ["no", "plan"]
    assert "Required abilities are unavailable" in done.stdout
    assert "can't read audit_records" in done.stderr


def test_a_key_file_with_one_newline_is_a_key(pagetrail: Pagetrail, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{ACME}\r\n")
    chosen = ("--key-file", str(path), "--resources", "teams,users", "--every", "never")
    assert list(pagetrail.json("source", "connect", "acme/main", *chosen)["resources"]) == [
        "teams",
        "users",
    ]


def test_a_second_connect_of_an_id_changes_nothing(pagetrail: Pagetrail) -> None:
    before = pagetrail.json("source", "connect", "acme/main", key=ACME)
    sentence = pagetrail.refused(1, "source", "connect", "acme/main", key=OTHER)
    assert "connected already" in sentence
    shown = pagetrail.json("source", "show", "acme/main")
    assert shown == before | {"renamed_to": None}


def test_a_key_of_the_other_region_is_sent_there(pagetrail: Pagetrail) -> None:
    sentence = pagetrail.refused(1, "source", "connect", "acme/main", key=EUROPE)
    assert "answers in region eu: connect with --region eu" in sentence
    connected = pagetrail.json("source", "connect", "acme/main", "--region", "eu", key=EUROPE)
    assert (connected["region"], connected["subdomain"]) == ("eu", "europe")


def test_an_unknown_key_is_refused_and_not_shown(pagetrail: Pagetrail) -> None:
    sentence = pagetrail.refused(1, "source", "connect", "acme/main", key=UNKNOWN)
    assert "does not know this key in any region (us, eu)" in sentence
    assert UNKNOWN not in sentence
    assert "There is no source acme/main" in pagetrail.refused(1, "source", "show", "acme/main")


@pytest.mark.parametrize("kind", ["status_503", "bare_429", "drop_middle", "cut_json"])
def test_a_request_that_fails_once_is_repeated(
    pagetrail: Pagetrail, pagerduty: SimulatorProcess, kind: str
) -> None:
    pagerduty.fault(kind, account="acme", path="*/teams", next=1)
    connected = pagetrail.json("source", "connect", "acme/main", key=ACME)
    assert connected["resources"]["teams"] == {"readable": True, "reason": ""}


def test_a_user_key_needs_consent(pagetrail: Pagetrail) -> None:
    sentence = pagetrail.refused(1, "source", "connect", "acme/main", key=ACME_USER)
    assert "--allow-user-key" in sentence
    allowed = ("source", "connect", "acme/main", "--allow-user-key")
    assert pagetrail.json(*allowed, key=ACME_USER)["credential"] == "user"


def test_a_key_of_another_account_never_replaces_one(pagetrail: Pagetrail) -> None:
    before = pagetrail.json("source", "connect", "acme/main", key=ACME)
    assert "belongs to other" in pagetrail.refused(1, "source", "rotate", "acme/main", key=OTHER)
    assert pagetrail.json("source", "check", "acme/main") == before


def test_a_disconnected_source_only_comes_back_with_its_account(pagetrail: Pagetrail) -> None:
    pagetrail.json("source", "connect", "acme/main", key=ACME)
    pagetrail.json("source", "disconnect", "acme/main")
    assert "key destroyed" in pagetrail.refused(1, "source", "check", "acme/main").replace(
        "is ", ""
    )
    assert "holds evidence of acme" in pagetrail("source", "connect", "acme/main", key=OTHER).stderr
    assert pagetrail.json("source", "connect", "acme/main", key=ACME_NEXT)["state"] == "active"


def test_evidence_alone_says_which_account_a_source_belongs_to(
    pagetrail: Pagetrail, tmp_path: Path
) -> None:
    """Even if the registry was lost or set back, two accounts can't be mixed under one name."""

    def leave(subdomain: str) -> None:
        account = {"region": "us", "subdomain": subdomain}
        manifest = manifest_document(account=account)
        path = tmp_path / "data/artifacts/acme/main/runs/00000001/manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest_text(manifest))

    leave("acme")
    sentence = pagetrail.refused(1, "source", "connect", "acme/main", key=OTHER)
    assert "holds evidence of acme" in sentence
    before = pagetrail.json("source", "connect", "acme/main", key=ACME)
    leave("another")
    for command in (("source", "rotate"), ("source", "check")):
        sentence = pagetrail.refused(1, *command, "acme/main", key=ACME_NEXT)
        assert "holds evidence of another" in sentence
    shown = pagetrail.json("source", "show", "acme/main")
    assert shown == before | {"renamed_to": None}


def test_settings_are_changed_one_by_one(pagetrail: Pagetrail) -> None:
    chosen = ("--every", "6h", "--resources", "teams,users", "--retention", "24")
    pagetrail.json("source", "connect", "acme/main", *chosen, key=ACME)

    def settings() -> dict[str, object]:
        (row,) = pagetrail.json("source", "list")["sources"]
        return {name: row[name] for name in ("every_seconds", "resources", "reserve")} | {
            "retention_months": row["retention_months"]
        }

    first = {"every_seconds": 21_600, "resources": ["teams", "users"], "reserve": 0.1}
    first |= {"retention_months": 24}
    assert settings() == first
    due = pagetrail.json("status")["sources"][0]["next_due"]
    pagetrail.json("source", "set", "acme/main", "--every", "never", "--reserve", "25%")
    assert settings() == first | {"every_seconds": None, "reserve": 0.25}
    assert (due is None, pagetrail.json("status")["sources"][0]["next_due"]) == (False, None)
    pagetrail.json("source", "set", "acme/main", "--resources", "all", "--retention", "never")
    assert settings() == {"every_seconds": None, "resources": None, "reserve": 0.25} | {
        "retention_months": None
    }
    assert "--retention" in pagetrail.refused(2, "source", "set", "acme/main")
    assert "not a retention" in pagetrail.refused(
        2, "source", "set", "acme/main", "--retention", "0"
    )


def test_a_legal_hold_is_shown_and_outlives_the_connection(pagetrail: Pagetrail) -> None:
    pagetrail.json("source", "connect", "acme/main", key=ACME)
    held = pagetrail.json("source", "hold", "acme/main")
    assert held["held_since"]
    assert pagetrail.json("source", "hold", "acme/main") == held
    assert "active, held" in pagetrail("source", "list").stdout
    assert "legal hold" in pagetrail("source", "show", "acme/main").stdout
    pagetrail.json("source", "disconnect", "acme/main")
    again = pagetrail.json("source", "connect", "acme/main", key=ACME)
    assert again["held_since"] == held["held_since"]
    assert "Released acme/main" in pagetrail("source", "release", "acme/main").stderr
    for command in ("release", "show"):
        assert pagetrail.json("source", command, "acme/main")["held_since"] is None
    again = pagetrail("source", "release", "acme/main")
    assert (again.returncode, again.stderr) == (0, "acme/main was not under legal hold.\n")


def test_a_purge_that_is_not_allowed_says_so_before_it_asks(pagetrail: Pagetrail) -> None:
    """When a person is told to add --yes, or has to type the name, nothing else prevents the purge."""
    assert "There is no source" in pagetrail.refused(1, "source", "purge", "acme/main")
    pagetrail.json("source", "connect", "acme/main", key=ACME)
    assert "source pause acme/main" in pagetrail.refused(1, "source", "purge", "acme/main")
    pagetrail.json("source", "pause", "acme/main")
    assert "--yes" in pagetrail.refused(2, "source", "purge", "acme/main")


@pytest.mark.parametrize(
    "command",
    [
        ("verify",),
        ("verify", "--run", "7"),
        ("artifact", "list"),
        ("artifact", "list", "--run", "7"),
        ("artifact", "export", "--resource", "users"),
        ("run", "list"),
        ("run", "show"),
        ("run", "cancel"),
        ("collect",),
    ],
)
def test_a_source_that_does_not_exist_is_called_unknown(
    pagetrail: Pagetrail, command: tuple[str, ...]
) -> None:
    assert "There is no source acme/none" in pagetrail.refused(1, *command, "acme/none")


def test_a_source_without_a_run_is_not_called_unknown(pagetrail: Pagetrail) -> None:
    pagetrail.json("source", "connect", "acme/main", key=ACME)
    assert "no sealed run yet" in pagetrail.refused(1, "verify", "acme/main")
    pagetrail.json("source", "disconnect", "acme/main")
    assert "no sealed run yet" in pagetrail.refused(1, "artifact", "list", "acme/main")


def test_a_key_due_for_rotation_is_warned_of(
    pagetrail: Pagetrail, redis: Redis, prefix: str
) -> None:
    pagetrail.json("source", "connect", "acme/main", key=ACME)
    document = json.loads(redis.hget(f"{prefix}:sources", "acme/main") or b"")
    document["keyed_at"] = "2024-01-01T00:00:00Z"
    redis.hset(f"{prefix}:sources", "acme/main", json.dumps(document))
    assert "pagetrail source rotate acme/main" in pagetrail("source", "list").stderr


def test_after_vault_rotate_the_old_vault_key_is_not_needed(pagetrail: Pagetrail) -> None:
    old, new = generate_key(), generate_key()
    pagetrail.json("source", "connect", "acme/main", key=ACME, PAGETRAIL_VAULT_KEYS=old)
    both = f"{new},{old}"
    rotated = {"resealed": 1, "already": 0, "failed": {}}
    assert pagetrail.json("vault", "rotate", PAGETRAIL_VAULT_KEYS=both) == rotated
    pagetrail.json("source", "check", "acme/main", PAGETRAIL_VAULT_KEYS=new)
    sentence = pagetrail.refused(1, "source", "check", "acme/main", PAGETRAIL_VAULT_KEYS=old)
    assert "PAGETRAIL_VAULT_KEYS" in sentence


def test_an_unknown_region_is_wrong_usage(pagetrail: Pagetrail) -> None:
    chosen = ("source", "connect", "acme/main", "--region", "mars")
    assert "us, eu" in pagetrail.refused(2, *chosen, key=ACME)
    assert "us, eu" in pagetrail.refused(2, *chosen, key="")  # before it asks for a key


def test_a_missing_key_file_is_wrong_usage(pagetrail: Pagetrail) -> None:
    chosen = ("source", "connect", "acme/main", "--key-file", "/nowhere/key")
    assert "/nowhere/key" in pagetrail.refused(2, *chosen)


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "is empty"), (f'"{ACME}"', "quotes"), (f" {ACME}", "space"), (ACME[:9], "cut off")],
)
def test_an_impossible_key_is_refused_before_anything_is_sent(
    pagetrail: Pagetrail, key: str, words: str
) -> None:
    sentence = pagetrail.refused(2, "source", "connect", "acme/main", key=key)
    assert words in sentence
    assert ACME not in sentence


def test_an_unreachable_redis_is_one_sentence(pagetrail: Pagetrail) -> None:
    nowhere = {"PAGETRAIL_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert "Redis" in pagetrail.refused(1, "source", "list", **nowhere)
    assert "Redis" in pagetrail.refused(1, "source", "connect", "acme/main", key=ACME, **nowhere)


def test_an_unusable_storage_is_one_sentence_and_nothing_is_registered(
    pagetrail: Pagetrail, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = {"PAGETRAIL_STORAGE_URL": (tmp_path / "file" / "artifacts").as_uri()}
    pagetrail.refused(1, "source", "connect", "acme/main", key=ACME, **blocked)
    assert pagetrail.json("source", "list") == {"sources": []}


def test_a_wrong_setting_is_one_sentence(pagetrail: Pagetrail) -> None:
    sentence = pagetrail.refused(1, "source", "list", PAGETRAIL_LOG_LEVEL="LOUD")
    assert "PAGETRAIL_LOG_LEVEL" in sentence


def test_a_reader_that_stops_early_is_not_an_error(pagetrail: Pagetrail) -> None:
    process = pagetrail.start("source", "list", "--json")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, "")
    process.stderr.close()
