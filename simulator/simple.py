"""The other collections: nothing but data, made from templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from simulator.records import make_id
from simulator.times import iso

if TYPE_CHECKING:
    from simulator.world import Account


@dataclass(frozen=True, slots=True)
class Simple:
    """One collection. In the template, `{n}`, `{id}`, `{sub}`, `{secret}` and `{parent}` are filled in;
    "@kind" becomes a reference to a record of that kind, "#" the item's number, "~" a time."""

    path: str
    wrapper: str
    template: Mapping[str, Any]
    count: int = 3
    item: str | None = None  # wrapper of the item endpoint, if there is one
    paging: Literal["classic", "cursor", "none", "one"] = "classic"
    gate: str | None = None
    gate_status: int = 402
    bounds: bool = False  # since and until are required
    utc_only: bool = False
    has_total: bool = True
    bare: bool = False  # no id, self, html_url
    extra: dict[str, Any] = field(default_factory=dict)

    def items(self, account: Account, ids: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return the collection's items, below the record *ids* names."""
        return [self._item(account, n, ids[0] if ids else "") for n in range(self.count)]

    def _item(self, account: Account, n: int, parent: str) -> dict[str, Any]:
        id = make_id(self.path, n)
        words = {"n": str(n + 1), "id": id, "sub": account.spec.subdomain, "parent": parent,
                 "secret": f"{(n + 7) * 0x9E3779B97F4A7C15 % 2**64:016x}{id.lower()}"}  # fmt: skip
        body: dict[str, Any] = _fill(self.template, account, n, words)
        if self.bare:
            return body
        path = self.path.replace("{id}", parent)
        return {"id": id, "summary": body.get("name") or body.get("label"),
                "self": f"https://api.pagerduty.com{path}/{id}", "html_url": None} | body  # fmt: skip


def _fill(node: Any, account: Account, n: int, words: dict[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {k: _fill(v, account, n, words) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_fill(v, account, n, words) for v in node]
    if node == "#":
        return n + 1
    if node == "~":
        return iso(account.anchor - 86_400 * (n + 1))
    if isinstance(node, str) and node.startswith("@"):
        return account.ref(node[1:], n)
    return node.format_map(words) if isinstance(node, str) else node


SIMPLE: tuple[Simple, ...] = (
    Simple("/priorities", "priorities", {"type": "priority", "name": "P{n}", "description": "", "order": "#",
           "color": "a8171c", "account_id": "PACC{n}", "schema_version": 0}, 5,
           gate="priorities", gate_status=404),
)  # fmt: skip
