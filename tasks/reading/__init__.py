"""What is asked of PagerDuty and what its answers prove: pure functions and data."""
