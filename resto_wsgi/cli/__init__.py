"""The `resto` command: the way in, nothing else.

click and rich come with the `[cli]` extra, so they are imported when the command runs and not before:
whoever installed the package without the extra is told so in one line. Status 1 is what a command has found out, so a
defect, which Python itself would end with 1, is 2. The commands live in `commands.py`.
"""

from __future__ import annotations

import sys
import traceback

__all__ = ["main"]

_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command line, and leave the process with its exit status."""
    try:
        from .commands import resto

        resto()
    except ModuleNotFoundError as error:
        # A module of our own that is missing is a defect, and the extra would not mend it: that keeps its traceback.
        if (error.name or "").partition(".")[0] in _EXTRA:
            print("resto needs the extra [cli]: pip install 'resto_wsgi[cli]', or '.[cli]' in a clone", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(2)
