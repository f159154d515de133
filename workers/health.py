"""Liveness and readiness of a worker or beat: `python -m workers.health live|ready|signs [NODE]`, exit 0 or 1.

`live` runs every few seconds and must start fast. So this module imports only the standard library and those of our
modules that do the same.
"""

import sys
import time

from workers.errors import Fault
from workers.process.liveness import ALIVE, READY, STALE_SECONDS, files_of


def live(node: str | None = None) -> str:
    """Return why *node* is not alive, or "" if it is; None stands for the one process of this container.

    A process is alive even while Redis is away: restarting the process would not bring Redis back.
    """
    beaten = [path.stat().st_mtime for path in files_of(node, ALIVE)]
    if not beaten:
        return "There is no heartbeat yet."
    age = time.time() - max(beaten)
    return f"The last heartbeat is {age:.0f} s old." if age > STALE_SECONDS else ""


def ready(node: str | None = None) -> str:
    """Return the reason why *node* can't work (itself, Redis, storage or the vault); "" if it can."""
    return _works(node, "check")


def signs(node: str | None = None) -> str:
    """Return the reason why the signer can't work (itself, its key, its own store, Redis or storage); "" if it can."""
    return _works(node, "check_signer")


def _works(node: str | None, check: str) -> str:
    # Imported only here: these modules take a second to load, and `live` runs every few seconds.
    from workers.runtime import Runtime
    from workers.settings.environment import load_settings

    if not any(files_of(node, READY)):
        return "The worker does not take work yet."
    try:
        getattr(Runtime(load_settings()), check)()
    except Fault as fault:
        return str(fault)
    return ""


def main() -> None:
    """Answer the question on the command line with an exit code, and with a sentence if the answer is no."""
    questions = {"live": live, "ready": ready, "signs": signs}
    question, *nodes = sys.argv[1:] or [""]
    if question not in questions or len(nodes) > 1:
        sys.exit("Usage: python -m workers.health live|ready|signs [NODE]")
    sys.exit(questions[question](*nodes) or 0)


if __name__ == "__main__":
    main()
