"""The service: it checks the key, the limit and the faults, and then answers."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from email.utils import formatdate
from fnmatch import fnmatchcase
from urllib.parse import urlencode

from simulator import api, control, errors, hostile
from simulator.accounts import REGIONS, KeySpec
from simulator.errors import Refusal
from simulator.faults import Fault
from simulator.hostile import Hostile
from simulator.limits import Standing
from simulator.request import Call, Params
from simulator.state import State
from simulator.stats import Seen
from simulator.wire import Connection, Reply, Request, gzipped
from simulator.world import Account

REFUSALS = {
    **{f"status_{status}": errors.html(status) for status in (500, 502, 503, 504)},
    "status_404": errors.not_found(),
    "status_408": errors.too_slow(),
    "status_429": errors.rate_limited(),
    "bare_429": Refusal(429, b"", "text/plain"),
    "unauthorized": errors.html(401),
}


@dataclass(slots=True)
class Asked:
    """An authenticated request on its way to an answer."""

    account: Account
    key: KeySpec
    path: str
    pattern: str = api.UNKNOWN_PATH
    ids: tuple[str, ...] = ()
    handler: api.Handler = api.get_nothing
    standing: Standing | None = None
    fault: Fault | None = None

    @property
    def harm(self) -> Hostile | None:
        """The change to the answer, if the fault is a hostile kind."""
        return hostile.KINDS.get(self.fault.kind) if self.fault else None


class Simulator(State):
    """All accounts of all regions behind one address."""

    async def serve(
        self, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> asyncio.Server:
        """Start to listen; `url` then has the address."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self.answer), host, port, backlog=512, ssl=tls
        )
        bound = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{bound}"
        return server

    def answer(self, request: Request) -> Reply:
        """Answer one request, to the control API or to the API of a region."""
        first, _, rest = request.path[1:].partition("/")
        if first == "_control":
            return control.answer(self, rest, request)
        if first not in REGIONS:
            return _refused(errors.not_found())
        try:
            return self._api(first, f"/{rest}", request)
        except Exception:  # our own bug: count it, because a client's retries would hide it
            self.stats.bugs += 1
            raise

    def _api(self, region: str, path: str, request: Request) -> Reply:
        self.served += 1
        request_id = f"sim-{self.started:.0f}-{self.served:08x}"
        asked = self._asked(region, path, request)
        reply = self._judged(asked, request) if asked else _refused(errors.html(401))
        reply.headers.append(("X-Request-Id", request_id))
        if self.clock.ahead_seconds and "date" not in {name.lower() for name, _ in reply.headers}:
            reply.headers.append(("Date", formatdate(self.clock.now(), usegmt=True)))
        self._note(asked, path, request, reply, request_id)
        if asked is not None:
            self._finish(asked, request, reply)
        return reply

    def _asked(self, region: str, path: str, request: Request) -> Asked | None:
        """Return the account and key of a request; None for a key that this region does not know."""
        scheme, _, token = (
            request.headers.get(b"authorization", b"").decode("latin-1").partition("=")
        )
        if scheme != "Token token":
            return None
        for account in self.accounts.values():
            key = account.keys.get(token)
            if key is None or account.spec.region != region or key.disabled:
                continue
            if key.kind == "account" or account.has_user(key.user):
                return Asked(account, key, path)
        return None

    def _judged(self, asked: Asked, request: Request) -> Reply:
        """Return the answer, after checking the limit and the faults."""
        key, name = asked.key, asked.account.spec.subdomain
        bucket = f"{name}/{key.key}" if key.kind == "account" else f"{name}/user/{key.user}"
        shape = asked.account.spec.habits.limit_window
        asked.pattern, asked.ids, asked.handler = api.route(asked.path)
        asked.standing = self.limits.judge(key, bucket, shape, asked.path, time.time())
        if not asked.standing.admitted:
            return _refused(errors.rate_limited(), asked.standing)
        asked.fault = self.faults.pick(name, key.key, asked.path, [n for n, _ in request.query])
        if asked.fault is not None and (refusal := REFUSALS.get(asked.fault.kind)):
            used_up = Standing(False, key.limit, 0, asked.standing.reset_seconds)
            shown = {"status_404": asked.standing, "status_429": used_up}
            return _refused(refusal, shown.get(asked.fault.kind))
        reply = self._honest(asked, request)
        reply.headers += asked.standing.headers()
        if asked.fault is not None and asked.harm is not None:
            asked.harm.spoil(
                hostile.Exchange(
                    asked.fault.fired,
                    asked.fault.seconds,
                    asked.fault.served,
                    request.path,
                    asked.ids,
                    request.query,
                    reply,
                )
            )
        return reply

    def _honest(self, asked: Asked, request: Request) -> Reply:
        """Return the account's honest answer to the request, which the fault may have changed."""
        query = hostile.asked(asked.harm, request.query) if asked.harm else request.query
        try:
            if request.method != "GET":
                raise errors.denied()
            if any(fnmatchcase(asked.path, pattern) for pattern in asked.key.forbidden):
                raise errors.forbidden()
            return self._handled(asked, Params(query))
        except Refusal as refusal:
            return _refused(refusal)

    def _handled(self, asked: Asked, params: Params) -> Reply:
        now = asked.account.now()
        call = Call(asked.account, asked.key, asked.path, params, now, asked.ids, asked.fault)
        answer = asked.handler(call)
        status, body = (200, answer) if isinstance(answer, bytes) else answer
        return Reply(status, asked.account.relinked(body))

    def _note(
        self, asked: Asked | None, path: str, request: Request, reply: Reply, request_id: str
    ) -> None:
        token = request.headers.get(b"authorization", b"").decode("latin-1").rpartition("=")[2]
        who = (asked.account.spec.subdomain, asked.key.key) if asked else ("", token)
        pattern = asked.pattern if asked else api.UNKNOWN_PATH
        fault = asked.fault.kind if asked and asked.fault else None
        status = 0 if fault in ("drop_before", "hang") else reply.status  # 0: the client got none
        query = urlencode(request.query)
        self.stats.note(
            Seen(
                time.time(),
                *who,
                request.method,
                pattern,
                path,
                query,
                status,
                fault,
                request_id,
            )
        )
        self.stats.without_accept += b"version=2" not in request.headers.get(b"accept", b"")

    def _finish(self, asked: Asked, request: Request, reply: Reply) -> None:
        """Apply the account's habits and the fault to the delivery, and continue churn."""
        habits = asked.account.spec.habits
        if habits.latency_ms:
            swing = self.dice.uniform(-habits.jitter_ms, habits.jitter_ms)
            reply.delay_seconds = max(0.0, habits.latency_ms + swing) / 1_000
        takes_gzip = b"gzip" in request.headers.get(b"accept-encoding", b"")
        if habits.gzip and takes_gzip and reply.body and asked.harm is None:
            gzipped(reply)
        if asked.fault is not None:
            _break(asked.fault, reply)
        for churn in self.churns:
            if churn.account is asked.account:
                churn.request()


def _refused(refusal: Refusal, standing: Standing | None = None) -> Reply:
    headers = standing.headers() if standing else []
    return Reply(refusal.status, refusal.body, refusal.content_type, headers)


def _break(fault: Fault, reply: Reply) -> None:
    """Break the delivery of a good answer as the fault says."""
    if fault.kind in ("drop_before", "drop_middle", "short_body", "trickle", "hang"):
        reply.delivery = fault.kind  # type: ignore[assignment]  # checked above
    if fault.kind == "trickle":
        reply.spread_seconds = fault.seconds
    elif fault.kind == "slow":
        reply.delay_seconds += fault.seconds
    elif fault.kind == "cut_json":
        reply.body = reply.body[: len(reply.body) * 2 // 3]
