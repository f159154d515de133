"""The Celery app: its queues, its routes, and when a message counts as done."""

import ssl
from typing import Any

import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Queue
from kombu.connection import ConnectionPool, PooledConnection
from kombu.transport.redis import Channel, Transport
from kombu.utils.url import parse_url

from workers.errors import Fault
from workers.process import flower, signals
from workers.process.beat import PLAN_QUEUE, beat_entries
from workers.process.consumer import EventBatches
from workers.process.heartbeat import Heartbeat
from workers.settings.environment import load_settings
from workers.state.client import Parser
from workers.state.roster import QUEUES

VISIBILITY_SECONDS = 30
"""Age at which the message of a dead worker is delivered again; a page takes at most 20 s."""


class GuardedChannel(Channel):
    """A channel that reports every loss of Redis as a connection error, after which a worker connects again.

    kombu 5.7.0 reports two losses in other ways, and each of them ends the worker process. It raises an AttributeError
    when a task is acknowledged after the channel was closed. And it passes on the replies of a server that can't serve
    now, as during a failover.
    """

    _acknowledging: redis.Redis | None = None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        try:
            params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # the stubs leave it out
        except AttributeError:
            if self.connection.client is not None:
                raise
            raise redis.ConnectionError("The connection of this channel is closed.") from None
        return params | {"parser_class": Parser}

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return one client for all acknowledgements: kombu makes a new one each time, which takes 0.3 ms of CPU."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs leave it out
        pool = self.pool
        if self._acknowledging is None or self._acknowledging.connection_pool is not pool:
            self._acknowledging = super()._create_client()  # type: ignore[misc]  # the stubs leave it out
        return self._acknowledging


class GuardedTransport(Transport):
    """Redis through guarded channels."""

    Channel = GuardedChannel


class _Guarded:
    """Makes a connection use our transport. Kombu's setting for it is a class, but Flower expects a URL scheme."""

    def get_transport_cls(self) -> type[Transport]:
        return GuardedTransport


class GuardedPooled(_Guarded, PooledConnection):
    """A connection from our app's pool; everything except consumers publishes through it."""


class GuardedPool(ConnectionPool):
    """Our app's pool. Kombu's own pool makes connections of kombu's class, even if one of ours created the pool."""

    def new(self) -> Any:
        return GuardedPooled(self, **self.connection.info())


class GuardedConnection(_Guarded, Connection):
    """A connection of our app. Other apps in the same process keep kombu's own connections."""

    def Pool(self, limit: int | None = None, **kwargs: Any) -> GuardedPool:  # noqa: N802 - kombu's name
        return GuardedPool(self, limit, **kwargs)


class GuardedAMQP(AMQP):
    """Celery's messaging through guarded connections."""

    Connection = GuardedConnection


def configuration() -> dict[str, Any]:
    """Return Celery's settings, made from ours; a wrong setting ends the process with a sentence about it.

    Celery calls this when it first needs a setting, so importing this module needs no environment.
    """
    try:
        settings = load_settings()
        url = settings.redis_url_or_embedded()
    except Fault as fault:
        raise SystemExit(str(fault)) from None
    return {
        "broker_url": url,
        **_tls(url),
        "broker_transport_options": {
            "global_keyprefix": f"{settings.key_prefix}:",
            "visibility_timeout": VISIBILITY_SECONDS,
            # By default kombu looks for dead workers' messages only every 100 s, whatever the timeout is.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 15,
            "priority_steps": [0],
            "max_connections": settings.worker_slots + 30,  # every slot may acknowledge at once
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        # Wait for Redis as long as it is away.
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A message is acknowledged only after its work is done, and results are not kept.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [Queue(name, routing_key=name) for name in QUEUES],
        "task_create_missing_queues": False,
        "task_default_queue": PLAN_QUEUE,
        "task_routes": {
            f"tasks.{name}.*": {"queue": name} for name in ("plan", "fetch", "seal", "sign")
        },
        "worker_pool": "threads",
        "worker_concurrency": settings.worker_slots,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": True,  # so that Flower shows pages
        "task_annotations": {"tasks.plan.tick": {"send_events": False}},  # Flower shows no ticks
        "beat_schedule": beat_entries(),
        "beat_scheduler": "workers.process.beat:Ticker",
        "beat_max_loop_interval": 1,
        "enable_utc": True,
    }


def _tls(url: str) -> dict[str, Any]:
    """Return the settings that make workers, beat and Flower check the certificate of a rediss:// server.

    By default kombu checks it only if the URL has options, and Flower doesn't read options from the URL.
    """
    if not url.startswith("rediss://"):
        return {}
    return {"broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED, **parse_url(url).get("ssl", {})}}


celery = Celery(
    "pagetrail",
    include=["tasks.plan", "tasks.fetch", "tasks.seal", "tasks.sign", "tasks.purge"],
    amqp=GuardedAMQP,
    log=signals.OwnLogging,
    task_cls=signals.TimedTask,
    set_as_current=False,  # a backend that imports us may have an app of its own
)
celery.add_defaults(configuration)
celery.steps["consumer"] |= {EventBatches, Heartbeat}
signals.watch(celery, beat_shows="tasks.watching.scrape:show")
flower.protect(celery)
