"""A version continues with the data that the version before left in Redis. docs/deploy.md has the rules.

`MESSAGES` has the messages of a release, and `ledger-0.1.0.json` has its ledger. Never edit the messages of a release
here: a version that sends other messages adds them, and accepts both. Before the first release, a change may rewrite
its own part. `python -m tests.contract.test_upgrade` writes the ledger's.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis

from tasks.watching.activity import doing
from tests.processes import ROOT, environment
from workers.state.client import now_ms
from workers.state.ledger import Claim, Ledger, Opening
from workers.state.roster import Roster
from workers.storage.registry import SourceState

Message = tuple[str, str, tuple[Any, ...]]
SOURCE, RUN, PAGE = "acme/main", "00000007", "incidents/all.1/000100"
MESSAGES: dict[str, set[Message]] = {
    "0.1.0": {
        ("plan", "tasks.plan.tick", ()),
        ("plan", "tasks.plan.recover", ()),
        ("plan", "tasks.plan.plan_run", (SOURCE,)),
        ("plan", "tasks.plan.probe_source", (SOURCE, RUN)),
        ("fetch", "tasks.fetch.fetch_page", (SOURCE, RUN, PAGE, 12, "fetch")),
        ("backfill", "tasks.fetch.fetch_page", (SOURCE, RUN, PAGE, 12, "backfill")),
        ("fetch", "tasks.fetch.fetch_resource", (SOURCE, RUN, "users/all.1/000000", 12, "fetch")),
        ("seal", "tasks.seal.seal_run", (SOURCE, RUN)),
        ("seal", "tasks.purge.look_after", (SOURCE,)),
        ("sign", "tasks.sign.sign_run", (SOURCE, RUN)),
        ("sign", "tasks.sign.record_purge", (SOURCE,)),
    }
}
SEND = f"""
from tasks.runs import messages
from workers.app import celery
from workers.runtime import runtime
from workers.state.ledger import Effect, Offer
fleet = runtime()
entry = celery.conf.beat_schedule["tick"]
celery.send_task(entry["task"], **entry["options"])
messages.recover(fleet)
messages.look_after(fleet, "{SOURCE}")
messages.sign(fleet, "{SOURCE}", "{RUN}")
messages.record(fleet, "{SOURCE}")
for task in ("plan", "probe", "seal"):
    messages.publish(fleet, "{SOURCE}", "{RUN}", Effect("open", task=task))
pages = ("{PAGE}", "users/all.1/000000")
messages.publish(fleet, "{SOURCE}", "{RUN}", Effect("open", tuple(Offer(p, 12) for p in pages), "fetch"))
messages.publish(fleet, "{SOURCE}", "{RUN}", Effect("open", (Offer(pages[0], 12),), "backfill"))
"""
TAKE = """
import inspect, json, sys
from workers.app import celery
celery.loader.import_default_modules()
for _, task, arguments in json.loads(sys.argv[1]):
    inspect.signature(celery.tasks[task].run).bind(*arguments)
print(json.dumps([name for name in celery.tasks if name.startswith("tasks.")]))
"""
LEFT = Path(__file__).with_name("ledger-0.1.0.json")
NOW_MS = 1_800_000_000_000


def test_messages_are_those_of_the_last_release(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """They have the same queue, task and arguments in Redis, and nothing else."""
    env = environment(redis_url=redis_url, key_prefix="up", data_dir=tmp_path)
    subprocess.run([sys.executable, "-c", SEND], env=env, cwd=ROOT, check=True)
    sent = set()
    for queue in ("plan", "fetch", "backfill", "seal", "sign"):
        for text in redis.lrange(f"up:{queue}", 0, -1):
            message = json.loads(text)
            arguments, named, _ = json.loads(base64.b64decode(message["body"]))
            assert (message["content-type"], named) == ("application/json", {})
            sent.add((queue, message["headers"]["task"], tuple(arguments)))
    assert sent == list(MESSAGES.values())[-1]


def test_messages_of_every_release_are_understood(redis_url: str, tmp_path: Path) -> None:
    """Each task that a message names exists and accepts its arguments. Each task has a message."""
    env = environment(redis_url=redis_url, data_dir=tmp_path)
    messages = sorted(set().union(*MESSAGES.values()))
    command = [sys.executable, "-c", TAKE, json.dumps(messages)]
    taken = subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True, text=True)
    assert set(json.loads(taken.stdout)) == {task for _, task, _ in messages}


def ledger_in(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr("workers.state.ledger.secrets.token_hex", lambda _: "0123456789abcdef")
    return Ledger(redis, "up", now_ms=NOW_MS)


def work(ledger: Ledger) -> None:
    """Bring a run halfway, with a page in every state, each kind of failure, and a held page."""
    listed = [
        Opening(f"incidents/all.1/{number:06d}", f'{{"number":{number}}}', "incidents/all.1", held)
        for number, held in enumerate((False, False, False, False, True))
    ]
    other = Opening("users/all.1/000000", "{}", "users/all.1", delay_seconds=5)
    opened = ledger.open(
        SOURCE, RUN, [*listed, other], queue="fetch", region="us", lanes=(3, 8), reopened=True
    )
    claims = [ledger.claim(SOURCE, RUN, o.page, o.number, "fetch") for o in opened.offers]
    first, second, third = claims
    assert first
    assert second
    assert third
    ledger.close(first, [], resource="incidents", sent=1, date_ms=NOW_MS + 60_000)
    ledger.give_back(
        second, why="pagerduty", delay_seconds=9, resource="incidents", sent=1, failed=True
    )
    ledger.schedule(SOURCE, NOW_MS + 86_400_000)


def everything(redis: Any) -> dict[str, Any]:
    """Return all that is in Redis."""
    read = {
        b"hash": lambda key: {k.decode(): v.decode() for k, v in redis.hgetall(key).items()},
        b"zset": lambda key: {k.decode(): int(v) for k, v in redis.zrange(key, 0, -1, withscores=True)},
    }  # fmt: skip
    return {key.decode(): read[redis.type(key)](key) for key in sorted(redis.keys())}


def test_the_ledger_is_that_of_the_last_release(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same keys, fields and forms."""
    work(ledger_in(redis, monkeypatch))
    assert comparable(everything(redis)) == comparable(json.loads(LEFT.read_text("utf-8")))


def comparable(left: dict[str, Any]) -> dict[str, Any]:
    """Return *left* with the JSON of its pages decoded, because objects from Lua have no order."""
    pages = {page: json.loads(text) for page, text in left[f"up:pages:{SOURCE}"].items()}
    return {**left, f"up:pages:{SOURCE}": pages}


@pytest.mark.parametrize("left", [LEFT], ids=lambda path: path.stem)
def test_a_run_in_the_ledger_of_any_release_is_continued(
    left: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of an old worker is closed with its token, the others are read once each, and the run is sealed."""
    for key, value in json.loads(left.read_text("utf-8")).items():
        if isinstance(next(iter(value.values())), int):
            redis.zadd(key, value)
        else:
            redis.hset(key, mapping=value)
    ledger = ledger_in(redis, monkeypatch)
    held = Claim(SOURCE, RUN, "incidents/all.1/000002", "0123456789abcdef", "{}", 0, 0, stored=True)
    outcome = ledger.close(held, [], resource="incidents", sent=1)
    assert outcome.status == "closed"
    read = []
    for _ in range(50):
        if outcome.seal:
            break
        for offer in outcome.offers:
            claim = ledger.claim(SOURCE, RUN, offer.page, offer.number, "fetch")
            assert claim
            read.append(claim.page)
            outcome = ledger.close(claim, [], resource="incidents", sent=1, settle=True)
            break
        else:
            assert ledger.now_ms
            ledger.now_ms += 10_000
            outcome = ledger.tend(SOURCE)
    assert sorted(read) == [
        "incidents/all.1/000001",
        "incidents/all.1/000003",
        "incidents/all.1/000004",
        "users/all.1/000000",
    ]
    assert ledger.seal(SOURCE, RUN, "sealer")
    ledger.finish(SOURCE, RUN, None, "{}")
    assert ledger.progress(SOURCE).pages == 0


def test_an_older_version_tolerates_data_of_a_newer_one(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tolerates unknown fields of any form, an unknown queue, and unknown members of a page."""
    ledger = ledger_in(redis, monkeypatch)
    work(ledger)
    before = ledger.progress(SOURCE)
    newer = {"mood": "sleepy", "pace": "1.5", "nothing": "", "ready": "x"}
    redis.hset(f"up:run:{SOURCE}", mapping=newer)
    assert ledger.progress(SOURCE) == before
    assert ledger.progresses([SOURCE]) == [before]
    redis.hset(f"up:run:{SOURCE}", "queue", "express")
    progress = ledger.progress(SOURCE)
    for each in (10_000, 90_000):
        late = replace(progress, now=progress.now + each, claimed=0)
        assert doing(SourceState.ACTIVE, late, {"fetch": 9}, 40.0)
    pages = f"up:pages:{SOURCE}"
    for page, text in redis.hgetall(pages).items():
        redis.hset(pages, page, json.dumps(json.loads(text) | {"later": [1]}))
    assert ledger.now_ms
    ledger.now_ms += 60_000
    for offer in ledger.tend(SOURCE).offers:
        claim = ledger.claim(SOURCE, RUN, offer.page, offer.number, "express")
        assert claim
        assert ledger.close(claim, [], resource="x", settle=True).status == "closed"


def test_a_worker_with_more_words_in_the_roster_is_still_listed(redis: Redis) -> None:
    roster = Roster(redis, "up")
    roster.enter("old@host", ["fetch"])
    redis.zadd(
        "up:workers", {"new@host fetch,plan 0.2.0 zone-a": now_ms(redis), "odd": now_ms(redis)}
    )
    assert roster.workers() == {"old@host": ("fetch",), "new@host": ("fetch", "plan")}


if __name__ == "__main__":
    from tests.redis_process import redis_server

    with (
        redis_server() as url,
        Redis.from_url(url) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        work(ledger_in(client, patch))
        LEFT.write_text(json.dumps(everything(client), indent=1) + "\n", "utf-8")
