"""Fixtures of the tests that tell runs step by step."""

from tests.integration.steps import make, simulator

__all__ = ["make", "simulator"]
