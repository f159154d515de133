"""The questions to PagerDuty, and the proofs in its answers: pure functions and data."""
