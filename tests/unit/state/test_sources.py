"""A source's id and document."""

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import UsageFault
from workers.storage.registry import Source, SourceState, parse_source_id

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE = Source(
    id="acme/main",
    region="us",
    subdomain="acme",
    credential="account",
    fingerprint="0123456789abcdef",
    sealed_key="v1.sealed",
    keyed_at=WHEN,
    connected_at=WHEN,
    since=datetime(2025, 3, 1, tzinfo=UTC),
    every_seconds=86_400,
    resources=("services", "teams"),
    access={"services": "", "teams": "plan"},
)


@pytest.mark.parametrize("text", ["acme/main", "a/b", "0/9", "a.b/c_d-e", f"{'a' * 63}/{'b' * 63}"])
def test_a_tenant_and_a_name_make_a_source_id(text: str) -> None:
    assert parse_source_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "acme",
        "acme/",
        "/main",
        "acme/main/more",
        "../x",
        "a/../b",
        "acme/..",
        "acme/a..b",
        "./x",
        ".hidden/x",
        "-a/x",
        "Acme/main",
        "acmé/main",
        "acme/m\u0430in",
        "acme/main\n",
        " acme/main",
        "acme\\main",
        "acme/ma in",
        "acme/%2e%2e",
        "acme/\x00",
        f"{'a' * 64}/b",
        "a" * 300,
        f"a/{'b' * 300}",
        "\uff11/\uff12",
    ],
)
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageFault) as refused:
        parse_source_id(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.text(max_size=140))
def test_an_accepted_id_never_leaves_its_directory(text: str) -> None:
    """No accepted id has empty, dotted or further segments."""
    try:
        accepted = parse_source_id(text)
    except UsageFault:
        return
    tenant, name = accepted.split("/")
    assert not {tenant, name} & {"", ".", ".."}
    assert accepted.isascii()
    assert len(accepted) <= 127


def test_a_document_gives_its_source_back() -> None:
    assert Source.from_json(SOURCE.to_json()) == SOURCE


def test_a_disconnected_source_has_a_document_too() -> None:
    bare = Source.from_json(SOURCE.to_json().replace(b'"v1.sealed"', b"null"))
    assert bare.sealed_key is None
    assert Source.from_json(bare.to_json()) == bare


def test_a_document_says_since_when_a_source_is_held() -> None:
    held = replace(SOURCE, held_since=WHEN, retention_months=24)
    assert Source.from_json(held.to_json()) == held


def test_a_document_keeps_members_that_a_newer_version_added() -> None:
    """A rollback must not end a legal hold of a kind that this version doesn't know."""
    document = orjson.loads(SOURCE.to_json()) | {"added_later": 1}
    known = Source.from_json(orjson.dumps(document))
    assert replace(known, newer={}) == SOURCE
    assert orjson.loads(known.to_json()) == document


def test_a_state_that_only_a_newer_version_knows_is_a_pause_and_is_kept() -> None:
    """A worker that can't read a source gives up its pages; a change of another field keeps the state."""
    document = orjson.loads(SOURCE.to_json()) | {"state": "sleeping"}
    known = Source.from_json(orjson.dumps(document))
    assert known.state is SourceState.PAUSED
    assert orjson.loads(replace(known, reserve=0.5).to_json()) == document | {"reserve": 0.5}
    resumed = replace(known, state=SourceState.ACTIVE)
    assert Source.from_json(resumed.to_json()).state is SourceState.ACTIVE


def test_a_source_printed_by_accident_shows_no_sealed_key() -> None:
    assert "sealed" not in repr(SOURCE)
