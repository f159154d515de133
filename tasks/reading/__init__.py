"""What to ask PagerDuty, and what its answers prove: pure functions and data."""
