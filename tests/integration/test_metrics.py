"""Metrics of real processes for Prometheus."""

import socket
from pathlib import Path

import httpx

from tests.processes import celery, environment, running, wait_for


def test_a_port_that_is_taken_is_reported_and_tried_again(redis_url: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        env = environment(redis_url=redis_url, data_dir=tmp_path / "data", metrics_port=port)
        log = tmp_path / "beat.log"
        with running(celery("beat"), env | {"TMPDIR": str(tmp_path)}, log) as beat:
            wait_for(
                lambda: f"127.0.0.1 port {port} can't be used" in log.read_text(), "it says so"
            )
            other.close()
            wait_for(lambda: _answers(port), "it answers once the port is free")
            assert (
                'pagetrail_process_info{node="beat"'
                in httpx.get(f"http://127.0.0.1:{port}/metrics").text
            )
            assert beat.poll() is None


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
