"""An account at PagerDuty and its key: send requests with the key, examine it, notice a renamed account."""
