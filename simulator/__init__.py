"""PagerDuty on loopback: accounts made from a seed, with limits, faults and a truth to check against.

Written from PagerDuty's public rules alone. It imports nothing of the product, so that a
mistake there can't hide here.
"""

from simulator.accounts import AccountSpec, KeySpec, demo_accounts, read_accounts
from simulator.server import Simulator

__all__ = ["AccountSpec", "KeySpec", "Simulator", "demo_accounts", "read_accounts"]
