"""An account at PagerDuty and its key: asked, examined, renamed."""
