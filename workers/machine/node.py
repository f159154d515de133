"""Runs one process of the fleet: `python -m workers.machine.node worker NAME QUEUES`, or `... beat`.

The command `celery` would do the same, but it first loads all of its other commands, and Flower. That takes a third of
the start, and 12 MB in each process.
"""

import sys

from workers.app import celery


def main() -> None:
    """Run the process that the command line names, until a signal ends it."""
    match sys.argv[1:]:
        case ["worker", name, queues]:
            # With neither gossip nor mingle: our workers don't need to know each other.
            worker = celery.Worker(
                hostname=name, queues=queues, quiet=True, without_gossip=True, without_mingle=True
            )
            worker.start()
            sys.exit(worker.exitcode)
        case ["beat"]:
            celery.Beat(quiet=True).run()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
