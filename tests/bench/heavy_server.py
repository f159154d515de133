"""A PagerDuty with the heaviest possible lists, made once and sent at the speed of loopback, for bench_memory."""

from __future__ import annotations

import argparse
import json
import socketserver
from contextlib import suppress
from urllib.parse import SplitResult, parse_qs, urlsplit

MEGABYTE = 2**20
RECORDS = 100
PAGES = 8
LINK = "https://heavy.pagerduty.com/users/P1"


def records(kind: str) -> bytes:
    """Return a list of records of a kind, as JSON."""
    share = 60 * MEGABYTE // RECORDS
    match kind:
        case "wide":  # events of 600 KB
            each = [json.dumps({"id": f"P{n}", "text": "x" * share}) for n in range(RECORDS)]
        case "one":
            each = [json.dumps({"id": "P1", "text": "x" * 50 * MEGABYTE})]
        case "tiny":
            each = [f'{{"id":"P{n}"}}' for n in range(1_000_000)]
        case "nested":  # a decoded record takes twenty times its text
            each = [
                f'{{"id":"P{n}","text":[{",".join(["{}"] * (share // 3))}]}}'
                for n in range(RECORDS)
            ]
        case "secret":  # each record has to be decoded to cut out its secret
            inner = ",".join(['{"integration_key":"k"}'] * 50) + ',"x"' * (share // 4)
            each = [f'{{"id":"P{n}","text":[{inner}]}}' for n in range(RECORDS)]
        case "emoji":  # one such character makes the decoded text four times as large
            each = [json.dumps({"id": f"P{n}", "text": "x" * share + "\U0001f600"}, ensure_ascii=False)
                    for n in range(RECORDS)]  # fmt: skip
        case _:
            raise ValueError(kind)
    return ("[" + ",".join(each) + "]").encode()


class Handler(socketserver.StreamRequestHandler):
    """Answers each GET of a connection."""

    heavy = b""

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            while self.rfile.readline().strip():
                pass
            self._answer(urlsplit(line.split()[1]))

    def _answer(self, url: SplitResult) -> None:
        query = parse_qs(url.query)
        name = url.path.rpartition("/")[2]
        if name == "me":
            self._send(400, [b'{"error":"an account has no user"}'])
        elif query.get("limit") == ["1"]:
            small = json.dumps({name: [{"id": "P1", "html_url": LINK}], "more": False}).encode()
            self._send(200, [small])
        else:
            more = json.dumps({"more": True, "total": PAGES * RECORDS}).encode()
            self._send(200, [b'{"%s":' % name.encode(), self.heavy, b",", more[1:]])

    def _send(self, status: int, pieces: list[bytes]) -> None:
        head = f"HTTP/1.1 {status} Words\r\nContent-Length: {sum(map(len, pieces))}\r\n\r\n"
        with suppress(OSError):  # the client has gone
            for piece in (head.encode(), *pieces):
                self.connection.sendall(piece)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind")
    Handler.heavy = records(options.parse_args().kind)
    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
