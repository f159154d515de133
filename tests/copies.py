"""A copy of a sealed source, as an auditor gets it: evidence in a directory, public keys and a known seal beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.evidence import documents
from tasks.evidence.layout import plan_key
from tasks.evidence.manifests import read_manifest
from tasks.reading.answers import Answer
from tasks.reading.pages import Page, Request
from tests.lists_model import Lists, answer_to, make, record
from tests.sealed_run import SealedRun
from tests.signer import SOURCE, Signer
from workers.signing.keys import KeyStore
from workers.signing.signers import PrivateKey
from workers.storage import open_storage

RUNS = ("00000001", "00000002")
OPEN = "00000003"
RESOURCES = ("teams", "users", "audit_records", "incidents")
_DENIED = {"audit_records": 402, "users": 403}


@dataclass(frozen=True)
class Copy:
    """Where the parts of the copy are."""

    evidence: Path
    keys: Path
    head: Path

    @property
    def url(self) -> str:
        return self.evidence.as_uri()

    def run(self, run: str) -> Path:
        """Return the directory of a run."""
        return self.evidence / SOURCE / "runs" / run

    def tamper(self, run: str, name: str) -> None:
        """Change one bit in the middle of a file of a run."""
        path = self.run(run) / name
        text = bytearray(path.read_bytes())
        text[len(text) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(text)

    def files(self) -> dict[Path, tuple[bytes, int]]:
        """Return the content and the time of every file of the evidence."""
        paths = [path for path in self.evidence.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def sealed_copy(directory: Path, key: PrivateKey | None = None) -> Copy:
    """Store two sealed runs and an open one. The account's plan lacks a resource, and the key may not read another."""
    evidence = directory / "evidence"
    storage, last = open_storage(evidence.as_uri()), None
    signer = Signer(directory, storage)
    signer.private_key = key or signer.private_key
    for number, run in enumerate(RUNS):
        plan = make(*RESOURCES, last=last, newest=last["run"] if last else None)
        last = SealedRun(plan, _answers(12 + 120 * number), storage).seal()
        signer.sign()
        assert last["run"] == run
    follower = make(*RESOURCES, last=read_manifest(storage, SOURCE, RUNS[-1]), newest=RUNS[-1])
    storage.put_new(plan_key(SOURCE, OPEN), documents.written(follower))
    copy = Copy(evidence, directory / "keys.json", directory / "newest.txt")
    copy.keys.write_bytes(KeyStore(signer.heads_storage).read().to_json())
    copy.head.write_text(f"{signer.seal(RUNS[-1]).sha256}\n")
    return copy


def _answers(count: int) -> Callable[[Page, Request], Answer | None]:
    lists = Lists({"/teams": [record(n) for n in range(count)], "/incidents": [record(1)]})

    def answer(page: Page, request: Request) -> Answer | None:
        denied = _DENIED.get(page.segment)
        return answer_to(page, denied) if denied else lists.answer(page, request)

    return answer
