"""The counts of the fleet's processes agree with what really happened."""

from tests.acceptance.fleet import Fleet, account, requests_of
from tests.promql import queries, series_in
from tests.scrape import Scrape, scrape
from tests.simulator_process import SimulatorProcess


def seen(fleet: Fleet) -> Scrape:
    return scrape(fleet.ready["metrics"].values())


def test_the_workers_count_each_request_page_and_call_to_storage(
    fleet: Fleet, pagerduty: SimulatorProcess
) -> None:
    key = "counted-key-00000000"
    pagerduty.control("POST", "accounts", **account("counted", [key], region="eu"))
    fleet.connect("counted/main", key, region="eu")
    pagerduty.fault("status_502", key=key, path="/incidents", next=1)
    before, asked = seen(fleet), requests_of(pagerduty, key)
    fleet.collect("counted/main")
    after, asked = seen(fleet), requests_of(pagerduty, key) - asked

    def more(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    sent = more("pagetrail_requests_total", region="eu")
    assert sent > 20
    assert asked - sent in (0, 1)  # `collect` itself may have asked PagerDuty for the time
    assert more("pagetrail_requests_total", region="eu", status="502") == 1
    assert more("pagetrail_request_seconds_count", region="eu") == sent
    # These don't name the region, and another source may still be at work.
    assert more("pagetrail_permit_wait_seconds_count") >= sent
    assert more("pagetrail_pages_total", outcome="pagerduty") >= 1
    pages = more("pagetrail_pages_total", outcome="closed")
    probes = 1  # after the 502, one more request checked that the account answers at all
    assert pages + probes >= more("pagetrail_requests_total", region="eu", status="200")
    assert more("pagetrail_storage_seconds_count", operation="put") >= pages
    assert more("pagetrail_task_seconds_count", task="tasks.seal.seal_run") >= 1
    assert more("pagetrail_beat_ticks_total") > 0
    assert after.sum("pagetrail_worker_slots_in_use") <= after.sum("pagetrail_worker_slots")


def test_every_series_that_dashboard_and_alerts_read_is_shown(fleet: Fleet) -> None:
    read = set().union(*map(series_in, queries()))
    assert len(read) > 30
    # The age of the last tick is shown from the first tick on.
    fleet.until(lambda: read <= seen(fleet).names, 30, f"show all of {sorted(read)}")


def test_beat_shows_redis_the_queues_and_who_takes_from_them(fleet: Fleet) -> None:
    shown = seen(fleet)
    assert shown.sum("pagetrail_redis_up") == 1
    assert shown.sum("pagetrail_redis_memory_bytes") > 0
    assert shown.sum("pagetrail_tick_age_seconds") < 60
    for queue in ("plan", "fetch", "backfill", "seal"):
        assert shown.sum("pagetrail_queue_workers", queue=queue) == 1
