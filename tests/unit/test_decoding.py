"""Structures are decoded by many threads at once, also by the first ones."""

import subprocess
import sys
from pathlib import Path

from tests.copies import RUNS, sealed_copy
from tests.processes import ROOT

SCRIPT = """
import sys, threading
from pathlib import Path
from tasks.evidence import documents
from tasks.reading.sealed import Manifest

sys.setswitchinterval(1e-6)
text, barrier = Path(sys.argv[1]).read_bytes(), threading.Barrier(8)

def read():
    barrier.wait()
    assert documents.read(text, Manifest).resources

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_threads_that_decode_a_structure_do_not_crash_the_process(tmp_path: Path) -> None:
    """msgspec examines a structure when it is first used, and crashes if two threads do that at once."""
    manifest = sealed_copy(tmp_path).run(RUNS[0]) / "manifest.json"
    for _ in range(10):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, manifest], cwd=ROOT, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
