"""Hostile answers: what a broken or malicious PagerDuty could send, each kind a switch.

A kind is put in force by a fault rule, for an account, a key or a path. It changes the honest answer,
so that a test knows what it would have been.
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
