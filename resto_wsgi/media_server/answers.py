"""What the media server's modules give to its WSGI face: an answer, or the refusal of a request.

Plain values: nothing is sent here. The text of a refusal holds nothing that a client sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Answer", "Refused", "plain"]

Header = tuple[str, str]


@dataclass
class Answer:
    """A status, headers, and a body, which may have a method ``close``, to be called by the WSGI server."""

    status: str
    headers: list[Header] = field(default_factory=list)
    body: Iterable[bytes] = ()


class Refused(Exception):
    """A request that is answered with ``status`` and one line that says why; ``headers`` are added to the answer."""

    def __init__(self, status: str, reason: str, headers: Sequence[Header] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)

    def answer(self) -> Answer:
        """Return what the client gets."""
        return plain(self.status, self.reason, self.headers)


def plain(status: str, text: str, headers: Iterable[Header] = ()) -> Answer:
    """Return an answer whose body is one line of text."""
    body = f"{text}\n".encode()
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return Answer(status, [kind, ("Content-Length", str(len(body))), *headers], [body])
