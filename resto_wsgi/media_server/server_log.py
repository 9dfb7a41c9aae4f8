"""What the HTTP server says of itself on standard error, so seldom that no client can fill a disk with it.

What a client or a lack of descriptors causes is an OSError, and one line; all else is a fault of ours, and has its
traceback. Of each of the two there is one a minute: how many were left out is in the next one, and a flood of the
first hides none of the second. ``http_server`` calls this.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback as tracebacks
from collections.abc import Callable

from ..errors import shown

__all__ = ["ServerLog"]

SECONDS = 60.0  # between two that are written
CHARACTERS_MAX = 200  # of a line


class ServerLog:
    """That of one server; ``clock`` is in seconds from any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = {False: clock(), True: clock()}
        self._left_out = {False: 0, True: 0}
        self._lock = threading.Lock()

    def write(self, text: str, *, traceback: bool = False) -> None:
        """Write a line, with the traceback of what is being handled if that is wanted, and no OSError."""
        full = traceback and not isinstance(sys.exc_info()[1], OSError)
        with self._lock:
            if (now := self._clock()) < self._next[full]:
                self._left_out[full] += 1
                return
            self._next[full] = now + SECONDS
            left_out, self._left_out[full] = self._left_out[full], 0
        more = f" ({left_out} more like it since the last such line)" if left_out else ""
        trace = tracebacks.format_exc() if full else ""
        sys.stderr.write(f"{shown(text, CHARACTERS_MAX)[1:-1]}{more}\n{trace}")
        sys.stderr.flush()
