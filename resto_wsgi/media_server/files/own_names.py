"""The names of this server's own pages.

No file can have one of them, nor lie below it. A file that somebody has put there on the disk is nobody's: the store
does not list it, and ``node`` serves the page.
"""

from __future__ import annotations

__all__ = ["INDEX", "MISSING", "OWN", "README", "is_own"]

MISSING, INDEX, README = "__missing__", "__index__", "__readme.txt"
OWN = frozenset({MISSING, INDEX, README})


def is_own(name: str) -> bool:
    """Say whether a name is that of a page, or below it."""
    return name.partition("/")[0] in OWN
