"""What a run did not read of a resource -> sentences for a person; pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def sentences(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each gap that the summaries of *resources* name."""
    for name, each in resources.items():
        for feed in each["withheld"]:
            if each["reason"] != "plan":
                yield f"{name}: the account's plan lacks {feed}; the rest does not depend on it."
