"""Hostile answers that a broken or malicious PagerDuty could send. Each kind is a switch.

A fault rule activates a kind for an account, a key or a path. The kind changes the honest answer,
so a test can also get the honest one.
"""

from simulator.hostile import bodies, deliveries, heads, lists, records
from simulator.hostile.kind import Exchange, Hostile, asked

KINDS: dict[str, Hostile] = {
    **lists.KINDS,
    **records.KINDS,
    **bodies.KINDS,
    **heads.KINDS,
    **deliveries.KINDS,
}

__all__ = ["KINDS", "Exchange", "Hostile", "asked"]
