"""The `resto` command: the way in, nothing else.

click and rich come with the `[cli]` extra, so they are imported when the command runs and not before:
whoever installed the package without the extra is told so in one line. The commands live in `commands.py`.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command line, and leave the process with its exit status."""
    try:
        from .commands import resto

        resto()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print("resto needs pip install 'resto_wsgi[cli]'", file=sys.stderr)
        sys.exit(1)
