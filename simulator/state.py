"""The state of the service: accounts, limits, faults, churn and counts."""

import random
import time
from collections.abc import Sequence

from simulator.accounts import AccountSpec
from simulator.changes import Churn
from simulator.faults import Faults
from simulator.limits import Limits
from simulator.stats import Stats
from simulator.times import Clock
from simulator.world import Account


class State:
    """The state that requests read and change, with the accounts of all regions."""

    def __init__(self, specs: Sequence[AccountSpec], minute_seconds: float = 60) -> None:
        self.started = time.time()
        self.clock = Clock()
        self.url = ""
        self.accounts: dict[str, Account] = {}
        self.limits = Limits(minute_seconds)
        self.faults = Faults()
        self.stats = Stats()
        self.churns: list[Churn] = []
        self.dice = random.Random(0)
        self.served = 0
        for spec in specs:
            self.add(spec)

    def add(self, spec: AccountSpec) -> Account:
        """Open an account. Its name must be new."""
        if spec.subdomain in self.accounts:
            raise ValueError(f"account {spec.subdomain!r} already exists.")
        account = self.accounts[spec.subdomain] = Account(spec, self.started, self.clock)
        return account
