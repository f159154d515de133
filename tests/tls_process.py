"""TLS in front of a server for tests: a relay process on loopback, with a new certificate."""

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import ROOT, end

_REQUEST = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=relay", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]  # fmt: skip


@contextmanager
def tls_relay(port: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """Relay from TLS on another port to *port*. Yield that port and the certificate to trust."""
    certificate, key = directory / "relay.pem", directory / "relay.key"
    request = [*_REQUEST, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(request, check=True, capture_output=True)
    command = [sys.executable, "-m", "tests.tls_process", str(port), str(certificate), str(key)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), certificate
        finally:
            end(process)


async def _serve(port: int, certificate: str, key: str) -> None:
    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # one side has closed
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, forth), pipe(back, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *sys.argv[2:]))
