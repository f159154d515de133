"""The work: read PagerDuty accounts, prove what was read, and keep it as evidence."""
