"""Finds misspelt settings: with a misspelt STORAGE_URL, evidence would be stored in the wrong place."""

import difflib
import re
from collections.abc import Collection, Iterable

# For every Service, Kubernetes puts variables of these forms into every pod, also for one called pagetrail-x.
_KUBERNETES_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP)(_\w+)?)?$")
_SIMILAR = 0.8


def misspelt(
    variables: Iterable[str], known: Collection[str], prefix: str
) -> tuple[str, str] | None:
    """Return the first of *variables* that looks like a *known* one, and the known one.

    Variables that don't resemble a known one are ignored. They may belong to another program, to Kubernetes, or to a
    newer version (after a rollback, the older one must start).
    """
    for variable in sorted(variables):
        name = variable.upper()
        if name.startswith(prefix) and name not in known and not _KUBERNETES_LINK.search(name):
            meant = _nearest(name, known, prefix)
            if meant:
                return variable, meant
    return None


def _nearest(name: str, known: Collection[str], prefix: str) -> str | None:
    for one in known:
        if one.startswith(f"{name}_") or name.startswith(f"{one}_"):
            return one
    # Compared without the prefix, because it would make all names similar.
    rests = {one.removeprefix(prefix): one for one in known}
    close = difflib.get_close_matches(name.removeprefix(prefix), rests, n=1, cutoff=_SIMILAR)
    return rests[close[0]] if close else None
