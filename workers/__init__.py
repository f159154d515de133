"""The workshop: what any worker process carries; it knows no resource, page or manifest."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the Celery app when `celery -A workers` asks for it: most importers need only one tool."""
    if name == "celery":
        from workers.app import celery

        return celery
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
