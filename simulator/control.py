"""The control API under /_control: accounts, keys, faults, changes, counts and the truth."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import orjson

from simulator import changes, coverage, truth
from simulator.accounts import Habits, KeySpec, SpecError, account_from
from simulator.changes import Churn
from simulator.changes.change import ChangeError
from simulator.errors import Refusal
from simulator.faults import KINDS, Fault, FaultError
from simulator.request import Params
from simulator.state import State
from simulator.times import DAY_SECONDS, iso_micros, parse
from simulator.truth import TruthError
from simulator.views import UTC_ZONE
from simulator.wire import Reply, Request
from simulator.world import Account

Data = dict[str, Any]


class ControlError(ValueError):
    """Says in one sentence what is wrong with a control request."""


def answer(simulator: State, path: str, request: Request) -> Reply:
    """Answer a control request: 200 with JSON, or 400 with one sentence."""
    handler = ROUTES.get((request.method, path))
    if handler is None:
        known = sorted(f"{method} /_control/{name}" for method, name in ROUTES)
        return Reply(404, orjson.dumps({"error": "Unknown. Known are: " + ", ".join(known)}))
    try:
        data = orjson.loads(request.body) if request.body else dict(request.query)
        result = handler(simulator, data, request)
    except (SpecError, ControlError, ChangeError, FaultError, TruthError) as error:
        return Reply(400, orjson.dumps({"error": str(error)}))
    except (KeyError, TypeError, ValueError) as error:
        return Reply(
            400, orjson.dumps({"error": f"The request is incomplete or wrong: {error!r}."})
        )
    except Refusal as refusal:
        return Reply(refusal.status, refusal.body, refusal.content_type)
    return result if isinstance(result, Reply) else Reply(200, orjson.dumps(result))


def _account(simulator: State, data: Data) -> Account:
    try:
        return simulator.accounts[data["account"]]
    except KeyError:
        names = ", ".join(simulator.accounts)
        raise ControlError(f"account must be one of {names}.") from None


def _describe(simulator: State, account: Account) -> Data:
    spec = account.spec
    return {
        "subdomain": account.subdomain,
        "region": spec.region,
        "url": f"{simulator.url}/{spec.region}",
        "time_zone": spec.time_zone,
        "keys": [dataclasses.asdict(key) for key in account.keys.values()],
        "records": {kind: len(store.rows) for kind, store in account.stores.items()},
    }


def accounts(simulator: State, data: Data, _: Request) -> Any:
    """Return every account with its address, keys and record counts."""
    return [_describe(simulator, account) for account in simulator.accounts.values()]


def add_account(simulator: State, data: Data, _: Request) -> Any:
    """Open another account."""
    return _describe(simulator, simulator.add(account_from(data)))


def set_key(simulator: State, data: Data, _: Request) -> Any:
    """Change a key of an account, or add a key."""
    account = _account(simulator, data)
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    del values["account"]
    known = account.keys.get(values["key"])
    key = dataclasses.replace(known, **values) if known else KeySpec(**values)
    account.keys[key.key] = key
    return dataclasses.asdict(key)


def rename(simulator: State, data: Data, _: Request) -> Any:
    """Change the subdomain in an account's links from now on. The control API keeps the old name."""
    account = _account(simulator, data)
    account.subdomain = str(data["subdomain"])
    return _describe(simulator, account)


def set_habits(simulator: State, data: Data, _: Request) -> Any:
    """Change an account's habits, or the abilities its plan lacks."""
    account = _account(simulator, data)
    values: Any = {k: v for k, v in data.items() if k not in ("account", "abilities_off")}
    off = tuple(data.get("abilities_off", account.spec.abilities_off))
    habits: Habits = dataclasses.replace(account.spec.habits, **values)
    account.spec = dataclasses.replace(account.spec, habits=habits, abilities_off=off)
    return dataclasses.asdict(habits) | {"abilities_off": off}


def _fault(rule: Fault) -> Data:
    return {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule) if f.repr}


def faults(simulator: State, data: Data, _: Request) -> Any:
    """Return the active rules, and how often each fired."""
    return [_fault(rule) for rule in simulator.faults.rules]


def add_fault(simulator: State, data: Data, _: Request) -> Any:
    """Activate a fault rule."""
    return _fault(simulator.faults.add(data))


def kinds(simulator: State, data: Data, _: Request) -> Any:
    """Return every kind of fault with its sentence."""
    return KINDS


def clear_faults(simulator: State, data: Data, _: Request) -> Any:
    """Deactivate the rule with that number, or all rules."""
    simulator.faults.clear(int(data["number"]) if "number" in data else None)
    return {}


def mutate(simulator: State, data: Data, _: Request) -> Any:
    """Make one change now."""
    account, do = _account(simulator, data), data["do"]
    args = {k: v for k, v in data.items() if k not in ("account", "do")}
    record = changes.apply(account, do, simulator.dice, args)
    return {"kind": record.kind, "id": record.id, "number": record.number}


def clock(simulator: State, data: Data, _: Request) -> Any:
    """Set the clock ahead by a number of days. Limits, faults and churn keep the machine's time."""
    days = float(data.get("days", 0))
    if days < 0:
        raise ControlError("days must be at least 0: the clock only goes forward.")
    simulator.clock.ahead_seconds += days * DAY_SECONDS
    return {"now": iso_micros(simulator.clock.now())}


def start_churn(simulator: State, data: Data, _: Request) -> Any:
    """Start churn: changes after every *every_requests* of the account, or every *every_ms*."""
    values = {**data, "account": _account(simulator, data), "operations": tuple(data["operations"])}
    churn = Churn(**values)
    simulator.churns.append(churn)
    if churn.every_ms:
        loop = asyncio.get_running_loop()

        def again() -> None:
            if churn in simulator.churns and churn.made < churn.count:
                churn.step()
                loop.call_later(churn.every_ms / 1_000 if churn.every_ms else 0, again)

        loop.call_later(churn.every_ms / 1_000, again)
    return {}


def churn(simulator: State, data: Data, _: Request) -> Any:
    """Return how many changes each churn has made, and how many it will make."""
    return [
        {"account": c.account.spec.subdomain, "made": c.made, "count": c.count}
        for c in simulator.churns
    ]


def stop_churn(simulator: State, data: Data, _: Request) -> Any:
    """End all churn."""
    simulator.churns.clear()
    return {}


def stats(simulator: State, data: Data, _: Request) -> Any:
    """Return counts of requests and answers so far."""
    return simulator.stats.summary(simulator.limits, simulator.faults.fired)


def reset_stats(simulator: State, data: Data, _: Request) -> Any:
    """Reset the counts. Budgets and rules stay."""
    simulator.stats.reset()
    simulator.limits.reset_counts()
    simulator.faults.fired.clear()
    return {}


def requests(simulator: State, data: Data, _: Request) -> Any:
    """Return the latest requests as lines of JSON, oldest first."""
    lines = [orjson.dumps(seen._asdict()) for seen in simulator.stats.latest]
    return Reply(200, b"\n".join((*lines, b"")), "application/x-ndjson")


def truth_of(simulator: State, data: Data, request: Request) -> Any:
    """Stream an account's records of one resource, as they are now, or were at a moment (`at`).

    With `history=1`, stream every version of each record. The other parameters are those of the API.
    """
    account, resource = _account(simulator, data), data["resource"]
    truth.check(resource)
    own = ("account", "resource", "history", "at")
    params = Params([p for p in request.query if p[0] not in own])
    at = parse(data["at"], UTC_ZONE) if "at" in data else None
    stream = truth.stream(account, resource, params, data.get("history") == "1", at)
    return Reply(200, content_type="application/x-ndjson", stream=stream)


def coverage_of(simulator: State, data: Data, _: Request) -> Any:
    """Return how many seconds of a period (`since`, `until`) each schedule had somebody on call, or nobody."""
    since, until = (int(parse(data[name], UTC_ZONE)) for name in ("since", "until"))
    return coverage.coverage(_account(simulator, data), since, until)


ROUTES: dict[tuple[str, str], Callable[[State, Data, Request], Any]] = {
    ("GET", "accounts"): accounts,
    ("POST", "accounts"): add_account,
    ("POST", "keys"): set_key,
    ("POST", "habits"): set_habits,
    ("POST", "rename"): rename,
    ("GET", "faults"): faults,
    ("POST", "faults"): add_fault,
    ("DELETE", "faults"): clear_faults,
    ("GET", "kinds"): kinds,
    ("POST", "mutate"): mutate,
    ("POST", "clock"): clock,
    ("GET", "churn"): churn,
    ("POST", "churn"): start_churn,
    ("DELETE", "churn"): stop_churn,
    ("GET", "stats"): stats,
    ("POST", "reset-stats"): reset_stats,
    ("GET", "requests"): requests,
    ("GET", "truth"): truth_of,
    ("GET", "coverage"): coverage_of,
}
