"""A line in the log for each write that was refused, so that whoever runs the server sees why, and who tries.

Only what was decided is told, and what nobody keeps a secret: address, method, name, status and reason; no header, no
query, nothing of a signature. What a client chose is escaped and bounded. So is the number of lines, or a flood of
requests would be one of the disk: how many were left out is in the next one. A DELETE of what is not here is no
refusal. ``node`` calls this.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import shown
from .answers import Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Refusals"]

LINES_AT_ONCE = 20
SECONDS_A_LINE = 6.0  # after those: with 400 bytes at most, 6 MB in a day
NAME_CHARACTERS_MAX = 200  # also of a reason
WORD_CHARACTERS_MAX = 50  # of a method or an address

log = logging.getLogger("resto_wsgi")


class Refusals:
    """Those of one server, in this process. ``clock`` is in seconds from any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full = clock()  # when there may be LINES_AT_ONCE again
        self._left_out = 0
        self._lock = threading.Lock()

    def tell(self, environ: WSGIEnvironment, refused: Refused) -> None:
        """Log a write that was refused; a read is nobody's concern."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS") or refused.status.startswith("404"):
            return
        with self._lock:
            now = self._clock()
            full = max(self._full, now) + SECONDS_A_LINE
            if full > now + LINES_AT_ONCE * SECONDS_A_LINE:
                self._left_out += 1
                return
            self._full, left_out, self._left_out = full, self._left_out, 0
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "surrogateescape")
        method, address = _bare(environ["REQUEST_METHOD"]), _bare(environ.get("REMOTE_ADDR") or "nowhere")
        more = f" ({left_out} more were refused since the last such line)" if left_out else ""
        log.warning(
            "refused: %s %s from %s: %s, %s%s",
            method,
            shown(path, NAME_CHARACTERS_MAX),
            address,
            refused.status,
            shown(refused.reason, NAME_CHARACTERS_MAX)[1:-1],
            more,
        )


def _bare(text: str) -> str:
    return shown(text, WORD_CHARACTERS_MAX)[1:-1]
