"""Fixtures for tests that do runs step by step."""

from tests.integration.steps import make, simulator

__all__ = ["make", "simulator"]
