"""What the application reads in place of the body that intake has consumed.

``original``: the very bytes that the client sent, joined from literals and staged files, without a second copy.
``reference``: a body of our own making, with a boundary that no client could foresee, in which the files of the
declared fields are text fields that hold their names. Written anew from the parsed parts, so that nothing in
it can be read by another parser as a field that we did not see.
WebOb is given the parsed form in the place of its own, so that it does not parse again. The middleware calls this.
"""

from __future__ import annotations

import bisect
import io
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from typing import Any, BinaryIO

from webob.compat import cgi_FieldStorage
from webob.multidict import MultiDict

from ..errors import UploadRejected, shown
from ..master.staged import Staged
from .form import EmptyPart, FilePart, Form, Part, Piece, TextPart

__all__ = ["hand_over", "referenced"]

AMBIGUOUS = re.compile(r'["\\\x00-\x1f\x7f]|=\?')  # what one parser escapes or decodes, another ends at or keeps
QUOTE_CODE = re.compile(r"%(?=22|0[AD])")  # percent-encoded by browsers (HTML, multipart/form-data), decoded by some
# Of a part's Content-Type. Parts of these two types are left without: cgi parses what is in them as fields, and reads
# over the end of the part.
PLAIN_TYPE = re.compile(r"(?!multipart/|application/x-www-form-urlencoded)[\x21-\x7e][\x20-\x7e]*", re.IGNORECASE)
BUFFER = 64 * 1024  # bytes; applications read by lines or in small blocks


def hand_over(environ: dict[str, Any], parts: Sequence[Part], pieces: Sequence[Piece]) -> BinaryIO:
    """Make ``environ`` present a body of these pieces and, to WebOb, a form of these parts; return the body.

    The body has a length whatever the client sent, so a chunked request becomes an ordinary one.
    """
    joined = _Joined(pieces)
    body: BinaryIO = _buffered(joined)
    environ["wsgi.input"] = body
    environ["wsgi.input_terminated"] = True
    environ["CONTENT_LENGTH"] = str(sum(_size(piece) for piece in pieces))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["webob.is_body_seekable"] = joined.rewindable = _Rewindable(environ)
    form = _webob_form(parts)
    joined.fields = [value for value in form.values() if isinstance(value, _Field)]
    environ["webob._parsed_post_vars"] = (form, body)
    return body


def referenced(
    form: Form, fields: frozenset[str], name_of: Callable[[FilePart], str]
) -> tuple[str, list[Part], list[Piece]]:
    """Return a new Content-Type, the parts, and the pieces, with files of ``fields`` replaced by their names.

    A file that was not picked becomes an empty text. Raises UploadRejected (400) if the client sent text under one of
    these fields, or a field name that parsers read differently.
    """
    boundary = f"resto-{secrets.token_hex(16)}"
    parts = [_referenced_part(part, fields, name_of) for part in form.parts]
    pieces: list[Piece] = []
    for part in parts:
        pieces += [_header(boundary, part), _content(part), b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", parts, pieces


def _referenced_part(part: Part, fields: frozenset[str], name_of: Callable[[FilePart], str]) -> Part:
    if AMBIGUOUS.search(part.field) or part.field != part.field.strip():  # Django strips it
        raise UploadRejected(f"The field name {shown(part.field)} has a character that parsers read differently.")
    if part.field not in fields:
        return part
    if isinstance(part, TextPart):
        raise UploadRejected(f"The field {shown(part.field)} takes a file, not text.")
    return TextPart(part.field, name_of(part).encode() if isinstance(part, FilePart) else b"")


def _header(boundary: str, part: Part) -> bytes:
    """Return the delimiter and headers of a part (RFC 7578, section 4)."""
    disposition = f'form-data; name="{part.field}"'
    content_type = "" if isinstance(part, EmptyPart) else part.type_header
    if isinstance(part, FilePart):
        disposition += f'; filename="{QUOTE_CODE.sub("_", AMBIGUOUS.sub("_", part.filename))}"'
    elif isinstance(part, EmptyPart):
        disposition += '; filename=""'
    lines = [f"--{boundary}", f"Content-Disposition: {disposition}"]
    if PLAIN_TYPE.fullmatch(content_type):
        lines.append(f"Content-Type: {content_type}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _content(part: Part) -> Piece:
    if isinstance(part, FilePart):
        return part.staged
    return part.raw if isinstance(part, TextPart) else b""


def _size(piece: Piece) -> int:
    return piece.size if isinstance(piece, Staged) else len(piece)


class _Rewindable:
    """What tells WebOb that the body can be rewound: true until somebody between us and it wraps the body.

    Many wrappers have no ``seek``; WebOb then copies the body instead of failing.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ
        self._body = environ["wsgi.input"]

    def __bool__(self) -> bool:
        return self._environ.get("wsgi.input") is self._body

    def release(self) -> None:
        """Let go of the environ, which holds this: a cycle would keep a request's files open."""
        self._environ, self._body = {}, None


class _Joined(io.RawIOBase):
    """Pieces read as one seekable file, with at most one staged file open at a time."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = [piece for piece in pieces if _size(piece)]
        self._starts = [0]
        for piece in self._pieces:
            self._starts.append(self._starts[-1] + _size(piece))
        self._at = 0
        self._open: tuple[Staged, BinaryIO] | None = None
        self.rewindable: _Rewindable | None = None
        self.fields: list[_Field] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        index = bisect.bisect_right(self._starts, self._at) - 1
        piece, offset = self._pieces[index], self._at - self._starts[index]
        content = piece.held if isinstance(piece, Staged) else piece
        if isinstance(piece, Staged) and content is None:
            file = self._opened(piece)
            file.seek(offset)
            count: int = file.readinto(memoryview(buffer)[: _size(piece) - offset])  # type: ignore[attr-defined]
        else:
            data = memoryview(content or b"")[offset : offset + len(buffer)]
            count = len(data)
            buffer[:count] = data
        self._at += count
        return count

    def close(self) -> None:
        self._close_file()
        if self.rewindable is not None:
            self.rewindable.release()
        for field in self.fields:
            field.close()
        super().close()

    def _opened(self, staged: Staged) -> BinaryIO:
        if self._open is None or self._open[0] is not staged:
            self._close_file()
            self._open = staged, staged.open()
        return self._open[1]

    def _close_file(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


class _Field(cgi_FieldStorage):  # type: ignore[misc]
    """A file as WebOb's users know it: ``file``, ``filename``, ``type``, ``value``; opened when it is looked at.

    A subclass because applications ask ``isinstance(value, cgi.FieldStorage)``; nothing is parsed.
    """

    def __init__(self, part: FilePart) -> None:
        self.name = part.field
        self.filename = part.filename
        self.type = part.content_type
        self.disposition = "form-data"
        self._type_header = part.type_header
        self.length = part.staged.size
        self.list = None
        self.done = 1
        self._staged = part.staged
        self._file: BinaryIO | None = None

    @property
    def type_options(self) -> Mapping[str, str]:
        return {}

    @property
    def disposition_options(self) -> Mapping[str, str]:
        return {"name": self.name, "filename": self.filename}

    @property
    def headers(self) -> Message:
        """What was sent of the file's Content-Type; as cgi's, the keys have no case."""
        headers = Message()
        if self._type_header:
            headers["Content-Type"] = self._type_header
        return headers

    @property
    def file(self) -> BinaryIO:
        if self._file is None:
            held = self._staged.held
            self._file = _buffered(self._staged.open()) if held is None else io.BytesIO(held)
        return self._file

    def close(self) -> None:
        """Close the file, if it was looked at; the request has ended."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        self.close()


def _webob_form(parts: Sequence[Part]) -> Any:
    """Return the form as ``webob.Request.POST`` returns it: text as str, files as fields, a file not picked as b""."""
    form = MultiDict()
    for part in parts:
        if isinstance(part, FilePart):
            form.add(part.field, _Field(part))
        else:
            form.add(part.field, part.value if isinstance(part, TextPart) else b"")
    return form


def _buffered(raw: Any) -> BinaryIO:
    """Return a buffer over a raw file: ``read(n)`` gives n bytes, and there are lines."""
    return io.BufferedReader(raw, BUFFER)
