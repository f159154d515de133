"""Tasks for tests of the worker itself: `celery -A workers worker -I tests.integration.chores`."""

import os
import time

from redis import Redis

from workers.app import celery


@celery.task(name="chores.note")
def note(word: str) -> None:
    """Record that this process did something."""
    _say(word)


@celery.task(name="chores.dawdle")
def dawdle(seconds: float) -> None:
    """Report the start, and take some time."""
    _say("began")
    time.sleep(seconds)


@celery.task(name="chores.fail")
def fail(source: str, run: str, page: str, seconds: float) -> None:
    """Report the start, take some time, and fail with a message that contains a secret."""
    del source, run, page
    dawdle(seconds)
    raise RuntimeError(f"Asked with Authorization: Token token={os.environ['CHORES_KEY']}")


def _say(word: str) -> None:
    with Redis.from_url(os.environ["CHORES_REDIS_URL"]) as client:
        client.rpush("chores", f"{word} {os.getpid()}")
