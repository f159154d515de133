"""The workshop: tools for any worker process. It doesn't know what a resource, a page or a manifest is."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the Celery app when `celery -A workers` asks for it: most importers need one tool and not Celery."""
    if name == "celery":
        from workers.app import celery

        return celery
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
