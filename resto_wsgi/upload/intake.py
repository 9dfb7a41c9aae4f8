"""Receives a multipart/form-data request (RFC 7578): each file is staged while it arrives, the rest stays in memory.

A body is read once, from its first to its last byte, and every limit is counted on the bytes really read. What comes
out is a ``Form``. Whatever goes wrong ends in UploadRejected or MediaRootError with everything staged discarded. How a
request, a body, a head is read is not known here, nor are names, policies and answers. The middleware calls this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..config import Limits
from ..errors import UploadRejected, counted
from ..master.staged import Staged
from .form import EmptyPart, FilePart, Form, TextPart
from .part_head import PartHead, read_head
from .request_body import RequestBody, in_words
from .request_head import FormHead, read_form_head
from .splitter import Kind, Splitter

__all__ = ["FILE_IN_MEMORY", "receive"]

FILE_IN_MEMORY = 64 * 1024  # bytes of a file that waits in memory until it is published: refused, it costs no file
FILES_IN_MEMORY = 2 * 1024**2  # bytes of all that do: half of what the text of a form may have


def receive(
    environ: Mapping[str, Any],
    limits: Limits,
    stage: Callable[[], Staged],
    admit: Callable[[str, str, str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Form:
    """Read the body of a request and return its form; the caller discards it when the request is over.

    ``stage`` begins a file; ``admit(field, filename, content_type)`` raises UploadRejected for a file that must not
    be staged, and is asked about each name that a parser may take for the file's; ``clock`` counts seconds. Raises
    UploadRejected (400, 408, 411, 413, 415, or what ``admit`` raises) and MediaRootError, with nothing left behind.
    """
    head = read_form_head(environ)
    if head.length == 0:  # a client that asks first whether it has to log in
        return Form()
    body = RequestBody(
        environ["wsgi.input"],
        head.length,
        max_size=limits.max_total_size,
        max_seconds=limits.max_seconds,
        clock=clock,
    )
    receiver = _Receiver(head, limits, stage, admit)
    try:
        while block := body.read():
            receiver.feed(block)
        return receiver.finish()
    finally:
        if not receiver.complete:
            receiver.discard()


class _Receiver:
    """Turns blocks of a body into a form."""

    def __init__(
        self, head: FormHead, limits: Limits, stage: Callable[[], Staged], admit: Callable[[str, str, str], None]
    ) -> None:
        self._limits = limits
        self._stage = stage
        self._admit = admit
        self._ascii_only = head.ascii_only
        longest_head = min(limits.max_header_count * (limits.max_header_size + 2), limits.max_form_size)
        self._splitter = Splitter(head.boundary, longest_head)
        self._literal: list[bytes] = []
        self._literal_size = self._held_size = 0
        self._form = Form()
        self._head: PartHead  # the part under way, from its first stretch to its last; so the next four
        self._is_file = False
        self._size = 0
        self._text: list[bytes] = []
        self._staged: Staged | None = None
        self._counts = {"files": 0, "fields": 0}
        self.complete = False

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the body."""
        for kind, stretch in self._splitter.feed(block):
            if kind is Kind.DATA:
                self._take(stretch)
                continue
            if kind is Kind.END:
                self._end_part()
            self._keep(stretch)
            if kind is Kind.HEAD:
                self._begin_part(stretch[:-4])

    def finish(self) -> Form:
        """Return the form after the last byte. Raises UploadRejected if the final boundary did not come."""
        if not self._splitter.complete:
            raise UploadRejected("The form is malformed: its last boundary is missing.")
        self._flush()
        self.complete = True
        return self._form

    def discard(self) -> None:
        """Remove everything staged so far."""
        if self._staged is not None:
            self._staged.discard()
        self._form.discard()

    def _begin_part(self, head: bytes) -> None:
        limits = self._limits
        part = self._head = read_head(
            head, max_size=limits.max_header_size, max_count=limits.max_header_count, ascii_only=self._ascii_only
        )
        self._size = 0
        self._text = []
        self._is_file = any(part.filenames)
        if self._is_file:
            self._count("files", limits.max_files)
            for filename in part.filenames:
                self._admit(part.field, filename, part.content_type)
        else:
            self._count("fields", limits.max_fields)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._is_file:
            self._take_file(data)
        elif self._head.filenames:
            raise UploadRejected("A part of the form has content and an empty filename; parsers differ over that.")
        else:
            self._take_text(data)

    def _take_file(self, data: bytes) -> None:
        if self._size > self._limits.max_file_size:
            raise UploadRejected(f"A file is over {in_words(self._limits.max_file_size)}.", 413)
        self._begun().write(data)

    def _take_text(self, data: bytes) -> None:
        if self._size > self._limits.max_field_size:
            raise UploadRejected(f"A text field is over {in_words(self._limits.max_field_size)}.", 413)
        self._text.append(data)
        self._keep(data)

    def _end_part(self) -> None:
        head = self._head
        if head.length is not None and head.length != self._size:
            raise UploadRejected("The Content-Length of a part of the form is not its length.")
        if self._is_file:
            staged = self._seal()
            self._form.parts.append(
                FilePart(head.field, head.filenames[0], head.content_type, head.type_header, staged, head.filenames[1:])
            )
            self._form.pieces.append(staged)
            self._staged = None
        elif head.filenames:
            self._form.parts.append(EmptyPart(head.field))
        else:
            self._form.parts.append(TextPart(head.field, b"".join(self._text), head.type_header))

    def _begun(self) -> Staged:
        """Return the staged file of the part under way; its first byte begins it."""
        if self._staged is None:
            self._flush()
            self._staged = self._stage()
        return self._staged

    def _seal(self) -> Staged:
        staged = self._begun()
        if staged.held is not None and self._held_size + staged.size > FILES_IN_MEMORY:
            staged.spill()
        self._held_size += len(staged.held or b"")
        staged.seal()
        return staged

    def _count(self, kind: str, limit: int) -> None:
        self._counts[kind] += 1
        if self._counts[kind] > limit:
            raise UploadRejected(f"The form has more than {counted(limit, kind.removesuffix('s'))}.", 413)

    def _keep(self, data: bytes) -> None:
        """Add to the literals, all of which are in memory."""
        self._literal.append(data)
        self._literal_size += len(data)
        if self._literal_size > self._limits.max_form_size:
            raise UploadRejected(f"The form is over {in_words(self._limits.max_form_size)} beside its files.", 413)

    def _flush(self) -> None:
        self._form.pieces.append(b"".join(self._literal))
        self._literal = []
