"""A form that was received: its parts as values, and the pieces of its body.

The pieces are literal bytes and staged files in turn; joined, they are the very bytes that the client sent. A form is
discarded when its request is over. Nothing is read or parsed here; the intake makes it, the handoff presents it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..master.staged import Staged

__all__ = ["EmptyPart", "FilePart", "Form", "Part", "Piece", "TextPart"]


class TextPart(NamedTuple):
    """A field of text: what a client typed. ``type_header`` is its Content-Type as sent, "" if there is none."""

    field: str
    raw: bytes
    type_header: str = ""

    @property
    def value(self) -> str:
        """The text; bytes that are no UTF-8 are replaced by U+FFFD."""
        return self.raw.decode("utf-8", "replace")


class FilePart(NamedTuple):
    """A file, staged and sealed. ``filename`` and ``content_type`` are what the client said, and not to be trusted.

    ``content_type`` is the media type alone, ``type_header`` the header as sent, with its parameters;
    ``other_filenames`` are names that some parsers take for it (RFC 8187).
    """

    field: str
    filename: str
    content_type: str
    type_header: str
    staged: Staged
    other_filenames: tuple[str, ...] = ()


class EmptyPart(NamedTuple):
    """A file field in which nothing was picked: browsers send an empty filename and no content."""

    field: str


Part = TextPart | FilePart | EmptyPart
Piece = bytes | Staged


@dataclass
class Form:
    """A form that was received whole; an empty body is a form without parts."""

    parts: list[Part] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    @property
    def files(self) -> list[FilePart]:
        """The parts that are files, in order."""
        return [part for part in self.parts if isinstance(part, FilePart)]

    def discard(self) -> None:
        """Remove every staged file. Safe to repeat."""
        for piece in self.pieces:
            if isinstance(piece, Staged):
                piece.discard()
