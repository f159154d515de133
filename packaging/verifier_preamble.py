"""Ends pagetrail-verify.pyz with a sentence if it was built for another Python. `make verifier` packs this file."""

import sys
from pathlib import Path

_COMPILED = next(Path(site_packages, "msgspec").glob("_core.*")).name  # noqa: F821  # shiv gives it

try:
    import msgspec._core  # noqa: F401 - only to see whether it loads
except ImportError:
    _, _built_for, _ = _COMPILED.split(".", 2)
    sys.exit(
        f"This file was built for {_built_for}, and this Python can't run it: use that Python, or build the file with "
        "this one (`make verifier PYTHON=...`)."
    )
