"""One authenticated GET to PagerDuty becomes one reply."""
