"""PagerDuty on loopback: accounts made from a seed, with limits, faults, and the true records to compare with.

It follows only PagerDuty's public rules. It imports nothing from the product, so that it doesn't
repeat the product's mistakes.
"""

from simulator.accounts import AccountSpec, KeySpec, demo_accounts, read_accounts
from simulator.server import Simulator

__all__ = ["AccountSpec", "KeySpec", "Simulator", "demo_accounts", "read_accounts"]
