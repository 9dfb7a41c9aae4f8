"""What the media server's modules give to its WSGI face: an answer, or the refusal of a request.

Both are plain values; nothing is sent here. The text of a refusal holds nothing that a client sent. All modules of the
media server use this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "BLOCK_BYTES",
    "JSON",
    "TEXT",
    "UNKEPT",
    "Answer",
    "Header",
    "Refused",
    "no_such_file",
    "text_answer",
    "whole_answer",
]

BLOCK_BYTES = 256 * 1024  # of a body that are moved at a time, in or out: few calls, and little memory for each client
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

Header = tuple[str, str]

UNKEPT: Header = ("Cache-Control", "no-store")  # for what is true of this request alone, or soon no more


@dataclass(frozen=True)
class Answer:
    """What a client gets: a status, headers, and a body, which may have a method ``close`` for the WSGI server."""

    status: str
    headers: Sequence[Header] = ()
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
        return text_answer(self.status, self.reason, self.headers)


def whole_answer(status: str, kind: str, body: bytes, headers: Iterable[Header] = ()) -> Answer:
    """Return an answer with all of its body, of the media type ``kind``."""
    return Answer(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers], [body])


def text_answer(status: str, line: str, headers: Iterable[Header] = ()) -> Answer:
    """Return an answer whose body is one line of text."""
    return whole_answer(status, TEXT, f"{line}\n".encode(), headers)


def no_such_file(generation: int | None) -> Refused:
    """Return the refusal to read what is not here; ``generation`` is that of its tombstone, None if it has none."""
    headers = [] if generation is None else [("Resto-Generation", str(generation))]
    return Refused("404 Not Found", "no such file", headers)
