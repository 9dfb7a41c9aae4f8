"""The one exception of the media server: a request that is answered with a status and one line.

Any of its modules may raise it; ``node`` answers it. Its text holds nothing that a client sent.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Refused"]


class Refused(Exception):
    """A request that is answered with ``status`` and one line that says why; ``headers`` are added to the answer."""

    def __init__(self, status: str, reason: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)
