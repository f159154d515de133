"""PagerDuty on loopback: accounts made from a seed, with limits, faults and the truth to compare with.

It follows only PagerDuty's public rules. It imports nothing of the product, so that a mistake
there can't be repeated here.
"""

from simulator.accounts import AccountSpec, KeySpec, demo_accounts, read_accounts
from simulator.server import Simulator

__all__ = ["AccountSpec", "KeySpec", "Simulator", "demo_accounts", "read_accounts"]
