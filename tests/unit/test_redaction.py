"""Secrets are removed from every text that leaves a process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.redaction import redact, redacted

KEY = "u+AbCdEfGhIjKlMnOp12"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Authorization: Token token={KEY}", "Authorization: Token token=[redacted]"),
        ("token=y_shortkey here", "token=[redacted] here"),
        ("Bearer pdus+_0XBPWQ-abc.def", "Bearer [redacted]"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic [redacted]"),
        ("redis://:hunter2@10.0.0.1:6379/0", "redis://:[redacted]@10.0.0.1:6379/0"),
        ("redis://fleet:hunter2@host", "redis://fleet:[redacted]@host"),
        ("at rediss://:a,b;c&d'e\"f)g]h@host:1, twice", "at rediss://:[redacted]@host:1, twice"),
        ("https://x/y?a=1&api_key=abc&b=2", "https://x/y?a=1&api_key=[redacted]&b=2"),
        ("?X-Amz-Signature=abcdef&x=1", "?X-Amz-Signature=[redacted]&x=1"),
        ("{'routing_key': 'R0123', 'n': 1}", "{'routing_key': '[redacted]', 'n': 1}"),
        ('{"integration_key":"abc"}', '{"integration_key":"[redacted]"}'),
        ("password=hunter2, next", "password=[redacted], next"),
        ("AWS_SECRET=abc/def", "AWS_SECRET=[redacted]"),
        (f"the key {KEY} was refused", "the key [redacted] was refused"),
        (f"[{KEY}]", "[[redacted]]"),
        (f"{KEY},{KEY}", "[redacted],[redacted]"),
    ],
)
def test_text_that_looks_like_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run 00000001 of acme/main sealed complete",
        "incidents/20260801T000000Z_20260901T000000Z.1/000100",
        "tasks.fetch.fetch_resource[3fa85f64-5717-4562-b3fc-2c963f66afa6]",
        "workers.pagerduty.client.ReadOnlyTransport",
        "0123456789abcdef0123456789abcdef01234567",
        "redis://127.0.0.1:6379/0",
        "https://api.pagerduty.com/incidents?limit=100&offset=0",
        "the keys of 12 sources were sealed again",
    ],
)
def test_useful_text_is_left_unchanged(text: str) -> None:
    assert redact(text) == text


KEYS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+", min_size=20, max_size=20
)


@given(
    KEYS,
    st.sampled_from([" {} ", "'{}'", "({})", "key={}", "/{}/", "{}\n", "Token token={}", "“{}”"]),
)
def test_a_key_is_found_wherever_it_stands(key: str, around: str) -> None:
    """Keys have a digit and both cases; a text without one of these could be any name of 20 letters."""
    text = around.format(key)
    mixed = (
        any(c.isdigit() for c in key)
        and any(c.islower() for c in key)
        and any(c.isupper() for c in key)
    )
    if mixed or around.startswith("Token"):
        assert key not in redact(text)


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just(f"Token token={KEY}"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


@given(values)
def test_nothing_of_a_report_holds_a_key_at_any_depth(value: Any) -> None:
    told = redacted({"extra": value})
    assert KEY not in repr(told)
    assert repr(told).count("[redacted]") == repr(value).count(KEY)
