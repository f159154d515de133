"""A process of the fleet starts without what only Celery's other commands need."""

import subprocess
import sys

from tests.processes import ROOT


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_it_loads_neither_flower_nor_celerys_other_commands() -> None:
    """Each of the processes would keep their memory."""
    script = (
        "import sys, workers.machine.node, celery.apps.worker, celery.apps.beat; "
        "print({'tornado', 'prompt_toolkit', 'celery.bin.celery'} & set(sys.modules))"
    )
    done = run("-c", script)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_other_arguments_are_refused_with_the_right_ones() -> None:
    done = run("-m", "workers.machine.node", "flower")
    assert done.returncode == 1
    assert "workers.machine.node worker NAME QUEUES" in done.stderr
