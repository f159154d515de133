"""A backend's own Celery app. Its processes import everything that ours do: `celery -A tests.integration.guest`."""

import gc
import os

import prometheus_client.metrics
from celery import Celery
from kombu.transport.redis import Channel, Transport
from redis import Redis

import workers.app  # noqa: F401 - the three above and this are what our own processes import

app = Celery("guest", broker=os.environ["GUEST_REDIS_URL"], set_as_current=False)
app.conf.update(beat_schedule={"fail": {"task": "guest.fail", "schedule": 1.0}})
COLLECTING = gc.get_threshold()


@app.task(name="guest.fail")
def fail() -> None:
    """Report which parts of this process differ from the defaults of its libraries, and fail."""
    changed = {
        "kombu": Transport.Channel is not Channel,
        "garbage collector": gc.get_threshold() != COLLECTING,
        "prometheus": not prometheus_client.metrics._use_created,
    }
    with Redis.from_url(os.environ["GUEST_REDIS_URL"]) as client:
        client.rpush("guest", ", ".join(name for name, so in changed.items() if so) or "nothing")
    raise RuntimeError("the guest's own fault")
