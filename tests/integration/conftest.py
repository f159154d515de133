"""Fixtures for tests that do runs step by step."""

from tests.integration.steps import fleet, make, simulator

__all__ = ["fleet", "make", "simulator"]
