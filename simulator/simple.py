"""Answers the collections that never change and are made from templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

from simulator import lists
from simulator.catalog import Listing
from simulator.errors import invalid, lacks_ability, not_found
from simulator.records import make_id
from simulator.request import Call
from simulator.times import add_months, iso

if TYPE_CHECKING:
    from simulator.world import Account


@dataclass(frozen=True, slots=True)
class Simple:
    """One collection and the template of its items.

    In strings, {n}, {id}, {sub}, {secret} and {parent} are filled in. "@kind" becomes a
    reference to a record of that kind, "#" becomes the item's number, and "~" a time.
    """

    path: str
    wrapper: str
    template: Mapping[str, Any]
    count: int = 3
    item: str | None = None  # wrapper of the item endpoint, if it exists
    paging: Literal["classic", "cursor", "none", "one"] = "classic"
    gate: str | None = None  # the ability that it needs, and the status without it
    gate_status: Literal[402, 404] = 402
    bounds: bool = False  # since and until are required
    utc_only: bool = False
    bare: bool = False  # only the template: no id, summary, self, html_url
    extra: Mapping[str, Any] = field(default_factory=dict)  # beside the wrapper

    def items(self, account: Account, ids: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Return the items that belong to the record in *ids*."""
        return [self._item(account, n, ids[0] if ids else "") for n in range(self.count)]

    def _item(self, account: Account, n: int, parent: str) -> dict[str, Any]:
        id = make_id(self.path, n) if self.path != "/priorities" else account.id("priorities", n)
        secret = f"{(n + 7) * 0x9E3779B97F4A7C15 % 2**64:016x}{id.lower()}"
        words = {"n": str(n + 1), "id": id, "sub": account.spec.subdomain, "parent": parent,
                 "secret": secret}  # fmt: skip
        body: dict[str, Any] = _fill(self.template, account, n, words)
        if self.bare:
            return body
        path = self.path.replace("{id}", parent)
        return {"id": id, "summary": body.get("name") or body.get("label"),
                "self": f"https://api.pagerduty.com{path}/{id}", "html_url": None} | body  # fmt: skip


def _fill(node: Any, account: Account, n: int, words: dict[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {k: _fill(v, account, n, words) for k, v in node.items()}
    if isinstance(node, list):
        return [_fill(v, account, n, words) for v in node]
    if not isinstance(node, str):
        return node
    if node == "#":
        return n + 1
    if node == "~":
        return iso(account.anchor - 86_400 * (n + 1))
    return account.ref(node[1:], n) if node.startswith("@") else node.format_map(words)


def get_simple(simple: Simple, call: Call) -> bytes:
    """Answer a collection; Refusal if the plan lacks it or bounds are missing."""
    if simple.gate and not call.account.has(simple.gate):
        raise not_found(None) if simple.gate_status == 404 else lacks_ability(simple.gate)
    since, until = call.time("since"), call.time("until")
    if simple.bounds and (since is None or until is None or until > add_months(since, 3)):
        raise invalid("Since and until are required, at most 3 months apart.")
    if simple.utc_only and not all(_is_utc(call.params.get(name)) for name in ("since", "until")):
        raise invalid("Times must be in UTC.")
    items = simple.items(call.account, call.ids)
    if simple.paging == "one":
        return orjson.dumps({simple.wrapper: items[0]})
    if simple.paging == "none":
        return orjson.dumps({simple.wrapper: items, **simple.extra})
    if simple.paging == "cursor":
        return _cursor(call, simple, items)
    return lists.classic(call, Listing(simple.path, "none", simple.wrapper), items, orjson.dumps)


def _is_utc(text: str | None) -> bool:
    return text is None or text.endswith(("Z", "+00:00"))


def _cursor(call: Call, simple: Simple, items: Sequence[Any]) -> bytes:
    start = int(call.params.get("cursor") or 0)
    limit = min(max(call.params.whole("limit", 25), 1), 100)
    follows = str(start + limit) if start + limit < len(items) else None
    page = {simple.wrapper: list(items[start : start + limit])}
    return orjson.dumps({**page, "next_cursor": follows, "limit": limit, **simple.extra})


def get_simple_item(simple: Simple, call: Call) -> bytes:
    """Answer one item of a collection."""
    for item in simple.items(call.account, call.ids):
        if item.get("id") == call.ids[-1]:
            return orjson.dumps({simple.item: item})
    raise not_found()
