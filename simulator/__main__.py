"""`python -m simulator`: serve accounts until told to stop."""

import argparse
import asyncio
import contextlib
import errno
import json
import os
import signal
import ssl
import sys
import threading
from pathlib import Path

from simulator.accounts import AccountSpec, SpecError, demo_accounts, read_accounts
from simulator.server import Simulator


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address (default: loopback)")
    parser.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="certificate, for https")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the certificate's key")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--accounts", type=Path, metavar="FILE", help="accounts as JSON")
    which.add_argument("--demo", action="store_true", help="the three accounts of the demo")
    parser.add_argument("--minute-seconds", type=float, default=60, metavar="N",
                        help="how long the rate limit's minute lasts (default: 60)")  # fmt: skip
    parser.add_argument("--leash", action="store_true", help="end when stdin ends")
    return parser.parse_args()


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    return context


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set *stop* when stdin ends, which also happens when the parent ends."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4_096):
            pass
        with contextlib.suppress(RuntimeError):  # the event loop has already ended
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, daemon=True).start()


async def _run(specs: tuple[AccountSpec, ...], options: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.leash:
        _watch_stdin(loop, stop)
    simulator = Simulator(specs, options.minute_seconds)
    server = await simulator.serve(options.host, options.port, _tls(options))
    regions = {region: f"{simulator.url}/{region}" for region in ("us", "eu")}
    control = f"{simulator.url}/_control"
    ready = {"ready": True, "url": simulator.url, "regions": regions, "control": control}
    print(json.dumps(ready), flush=True)
    await stop.wait()
    server.close()


def main() -> int:
    """Serve until SIGTERM, Ctrl-C or the end of the leash. Return 0, or 1 if the start failed."""
    options = _arguments()
    try:
        specs = demo_accounts() if options.demo else read_accounts(options.accounts)
        asyncio.run(_run(specs, options))
    except (SpecError, OSError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = f"port {options.port} is taken, choose another --port." if taken else error
        print(f"The simulator can't start: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
