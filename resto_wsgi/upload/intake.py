"""Receives a multipart/form-data request (RFC 7578): each file is staged while it arrives, the rest stays in memory.

A body is read once, from its first to its last byte, and every limit is counted on the bytes really read. What
comes out is a ``Form``: its parts in order, and the *pieces* of the body, which are literal bytes and staged
files in turn; joined, they are the very bytes that the client sent. Whatever goes wrong ends in UploadRejected
or MediaRootError with everything staged discarded. Names, policies and answers are not known here.
The only module that imports the ``multipart`` parser; the middleware calls it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from ..errors import ConfigError, UploadRejected
from ..master.staging import Staged
from .disposition import decoded, filename_of

__all__ = ["HOLD", "EmptyPart", "FilePart", "Form", "Limits", "TextPart", "media_type", "receive", "receive_urlencoded"]

BLOCK = 64 * 1024  # bytes asked of the client at a time; of larger ones the allocator gives each back to the kernel
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1
BOUNDARY_PARAMETER = re.compile(r"(?<![^;\s])boundary[*0-9]*\s*=", re.IGNORECASE)  # "boundary*=" is RFC 2231's
LENGTH = re.compile(r"[0-9]{1,18}")  # RFC 9110, section 8.6: digits alone; 18 of them are an exabyte
HOLD = 64 * 1024  # bytes of a file that waits in memory until it is published: refused, it never costs a file
HELD = 2 * 1024**2  # bytes of all that are: half of what the text of a form may have
FIRST_READ = 256  # bytes: what is asked for doubles while it comes quickly, so that a slow client is looked at often
QUICK = 0.25  # seconds that a read may take before less is asked for
PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})  # RFC 7578, section 4.7 deprecates the others


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may hold. Each value is a positive number; a request over one is answered with 413."""

    max_file_size: int = 1024**3  # bytes of one file: a long video; raise it where larger ones are expected
    max_total_size: int = 2 * 1024**3  # bytes of the body: two of the largest files
    max_files: int = 100  # what a person picks at once
    max_fields: int = 1000  # text fields, as in Django
    max_field_size: int = 1024**2  # bytes of one text field: a long article
    max_form_size: int = 4 * 1024**2  # bytes kept in memory: text fields, headers, all that is no file's content
    max_header_size: int = 4096  # bytes of one header line of a part: a 255 byte filename, percent-encoded, and room
    max_header_count: int = 8  # headers of a part; browsers send two
    max_seconds: float = 3600.0  # from the first byte read to the last: 1 GiB over 2.4 Mbit/s

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(name, f"must be a positive number, not {value!r}")


class TextPart(NamedTuple):
    """A field of text: what a client typed. ``type_header`` is its Content-Type as sent, "" where there is none."""

    field: str
    raw: bytes
    type_header: str = ""

    @property
    def value(self) -> str:
        """The text; bytes that are no UTF-8 are replaced by U+FFFD."""
        return self.raw.decode("utf-8", "replace")


class FilePart(NamedTuple):
    """A file, staged and sealed. ``filename`` and ``content_type`` are what the client said, and not to be trusted.

    ``content_type`` is the media type alone, ``type_header`` the header as sent, with its parameters.
    """

    field: str
    filename: str
    content_type: str
    type_header: str
    staged: Staged


class EmptyPart(NamedTuple):
    """A file field in which nothing was picked: browsers send an empty filename and no content."""

    field: str


Part = TextPart | FilePart | EmptyPart
Piece = bytes | Staged


@dataclass
class Form:
    """A request that was received whole."""

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


def media_type(environ: Mapping[str, Any]) -> str:
    """Return the media type of a request as the laxest reader takes it, in lower case without its parameters."""
    content_type: str = environ.get("CONTENT_TYPE") or ""
    return content_type.partition(";")[0].strip().lower()


def receive_urlencoded(environ: Mapping[str, Any], limits: Limits) -> bytes:
    """Read a form that is no multipart, whole and bounded. Raises UploadRejected."""
    if not environ.get("CONTENT_LENGTH") and not environ.get("wsgi.input_terminated"):
        return b""
    body = _Body(environ, replace(limits, max_total_size=limits.max_form_size), time.monotonic)
    return b"".join(iter(body.read, b""))


def receive(
    environ: Mapping[str, Any],
    limits: Limits,
    stage: Callable[[], Staged],
    admit: Callable[[str, str, str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Form:
    """Read the body of a request and return its form; the caller discards it when the request is over.

    ``stage`` begins a file; ``admit(field, filename, content_type)`` raises UploadRejected for a file that must not
    be staged; ``clock`` counts seconds. Raises UploadRejected (400, 408, 411, 413, or what ``admit`` raises) and
    MediaRootError, with nothing left behind.
    """
    body = _Body(environ, limits, clock)
    receiver = _Receiver(_boundary(environ.get("CONTENT_TYPE", "")), limits, stage, admit)
    try:
        while block := body.read():
            receiver.feed(block)
        return receiver.finish()
    except ParserLimitReached as error:
        raise UploadRejected(f"A part of the form is over a limit: {_lower(error)}.", 413) from error
    except MultipartError as error:
        raise UploadRejected(f"The form is malformed: {_lower(error)}.") from error
    finally:
        if not receiver.complete:
            receiver.discard()


class _Body:
    """The bytes of a request, as announced: not one more, and an error where there are fewer."""

    def __init__(self, environ: Mapping[str, Any], limits: Limits, clock: Callable[[], float]) -> None:
        self._read = environ["wsgi.input"].read
        self._announced = _content_length(environ)
        self._limits = limits
        self._clock = clock
        self._ends = clock() + limits.max_seconds
        self._received = 0
        self._step = FIRST_READ
        if self._announced is not None and self._announced > limits.max_total_size:
            raise self._too_large()

    def read(self) -> bytes:
        """Return the next BLOCK bytes, fewer only at the end, b"" after it."""
        parts = []
        missing = BLOCK
        while missing:
            part = self._read_some(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_some(self, size: int) -> bytes:
        if self._announced is not None:
            size = min(size, self._announced - self._received)
            if not size:
                return b""
        began = self._clock()
        try:
            part: bytes = self._read(min(size, self._step))
        except Exception as error:  # each WSGI server has its own for a client that is gone
            raise UploadRejected("The body ended early.") from error
        self._received += len(part)
        if not part and self._announced is not None:
            raise UploadRejected(f"The body ended early, at {self._received} of {self._announced} bytes.")
        if self._received > self._limits.max_total_size:
            raise self._too_large()
        now = self._clock()
        self._step = min(2 * self._step, BLOCK) if now - began < QUICK else max(self._step // 2, 1)
        if now > self._ends:
            raise UploadRejected(f"The body took longer than {self._limits.max_seconds:g} seconds.", 408)
        return part

    def _too_large(self) -> UploadRejected:
        return UploadRejected(f"The request is over {_size(self._limits.max_total_size)}.", 413)


class _Receiver:
    """Turns blocks of a body into a form.

    Beside the parser runs a window over the same bytes: ``_at`` is where the part of it begins that no piece
    holds yet. The parser's events say how long each part's data is; what lies between goes to the literals.
    The window is one block, and ``_rest`` what was left of those before, at places below 0: the two are joined
    where a literal needs them, not for a file, each of whose blocks may end as a boundary begins.
    """

    def __init__(
        self, boundary: str, limits: Limits, stage: Callable[[], Staged], admit: Callable[[str, str, str], None]
    ) -> None:
        self._limits = limits
        self._stage = stage
        self._admit = admit
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=limits.max_header_size,
            max_header_count=limits.max_header_count,
            header_charset="latin-1",  # never fails; decoded takes what is really UTF-8
        )
        self._delimiter = b"--" + boundary.encode("latin-1")
        self._window = self._rest = b""
        self._at = 0
        self._literal: list[bytes] = []
        self._form_size = self._held = 0
        self._form = Form()
        self._segment: MultipartSegment  # the part under way, from its first event to its last; so the next two
        self._headers: dict[str, str]
        self._field = ""
        self._filename: str | None = None
        self._staged: Staged | None = None
        self._text = bytearray()
        self._counts = {"files": 0, "fields": 0}
        self.complete = False

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the body."""
        self._join()
        self._rest = self._window[self._at :]
        self._window = block
        self._at = -len(self._rest)
        for event in self._parser.parse(block):
            if event is None:
                self._end_part()
            elif isinstance(event, MultipartSegment):
                self._begin_part(event)
            elif self._filename is not None:
                self._take_file(event)
            else:
                self._take_text(event)
        # What waits in the window is literal; the start of a delimiter may yet be a file's, but one as long will come.
        self._check_form_size(len(self._window) - self._at)

    def finish(self) -> Form:
        """Return the form after the last byte. Raises MultipartError where the final boundary did not come."""
        self._parser.close()
        self._join()
        self._keep(len(self._window))
        self._check_form_size()
        self._flush()
        self.complete = True
        return self._form

    def discard(self) -> None:
        """Remove everything staged so far."""
        if self._staged is not None:
            self._staged.discard()
        self._form.discard()

    def _begin_part(self, segment: MultipartSegment) -> None:
        self._join()
        header = self._window.index(b"\r\n\r\n", self._window.index(self._delimiter, self._at))
        self._keep(header + 4)
        self._headers = dict(segment.headerlist)  # whose names the parser has brought into one form
        if len(self._headers) != len(segment.headerlist):
            raise UploadRejected("A part of the form has a header twice; parsers differ over which one counts.")
        if self._headers.get("Content-Transfer-Encoding", "").strip().lower() not in PLAIN_ENCODINGS:
            raise UploadRejected("Parts with a Content-Transfer-Encoding are not supported (RFC 7578, section 4.7).")
        self._segment = segment
        self._field = decoded(segment.name)
        self._filename = filename_of(self._headers["Content-Disposition"], segment.filename)
        self._text = bytearray()
        if self._filename:
            self._staged = self._begin_file(self._filename)
        else:
            self._count("fields", self._limits.max_fields)

    def _begin_file(self, filename: str) -> Staged:
        self._count("files", self._limits.max_files)
        self._admit(self._field, filename, self._content_type())
        self._flush()
        return self._stage()

    def _take_file(self, data: bytes) -> None:
        if self._staged is None:  # an empty filename: a picker left empty, unless there is content
            self._staged = self._begin_file("")
        if self._staged.size + len(data) > self._limits.max_file_size:
            raise UploadRejected(f"A file is over {_size(self._limits.max_file_size)}.", 413)
        self._staged.write(data)
        self._at += len(data)

    def _take_text(self, data: bytes) -> None:
        self._text += data
        if len(self._text) > self._limits.max_field_size:
            raise UploadRejected(f"A text field is over {_size(self._limits.max_field_size)}.", 413)
        self._join()
        self._keep(self._at + len(data))
        self._check_form_size()

    def _end_part(self) -> None:
        type_header = self._headers.get("Content-Type", "")
        if self._staged is not None:
            self._seal(self._staged)
            filename = self._filename or ""
            self._form.parts.append(FilePart(self._field, filename, self._content_type(), type_header, self._staged))
            self._form.pieces.append(self._staged)
            self._staged = None
        elif self._filename is None:
            self._form.parts.append(TextPart(self._field, bytes(self._text), type_header))
        else:
            self._form.parts.append(EmptyPart(self._field))

    def _seal(self, staged: Staged) -> None:
        if staged.held is not None and self._held + staged.size > HELD:
            staged.spill()
        self._held += len(staged.held or b"")
        staged.seal()

    def _content_type(self) -> str:
        return self._segment.content_type or "application/octet-stream"

    def _count(self, kind: str, limit: int) -> None:
        self._counts[kind] += 1
        if self._counts[kind] > limit:
            raise UploadRejected(f"The form has more than {limit} {kind}.", 413)

    def _keep(self, end: int) -> None:
        """Move the window from ``_at`` to ``end`` into the literals."""
        self._literal.append(self._window[self._at : end])
        self._form_size += end - self._at
        self._at = end

    def _join(self) -> None:
        if self._at < 0:
            self._window = self._rest[self._at :] + self._window
            self._at = 0

    def _flush(self) -> None:
        self._form.pieces.append(b"".join(self._literal))
        self._literal = []

    def _check_form_size(self, waiting: int = 0) -> None:
        """Bound what is in memory: the literals, and bytes still in the window that will be, as a long preamble is."""
        if self._form_size + waiting > self._limits.max_form_size:
            raise UploadRejected(f"The form is over {_size(self._limits.max_form_size)} beside its files.", 413)


def _boundary(content_type: str) -> str:
    """Return the boundary parameter; parsers differ over a form that has it twice, or odd, so that is refused."""
    if not re.match(r"multipart/form-data[ \t]*;", content_type, re.IGNORECASE):
        raise UploadRejected("The Content-Type is malformed; it must be multipart/form-data with a boundary.")
    _, options = parse_options_header(content_type)
    boundary: str = options.get("boundary", "")
    if len(BOUNDARY_PARAMETER.findall(content_type)) != 1 or not BOUNDARY.fullmatch(boundary):
        raise UploadRejected("The Content-Type needs one boundary of 1 to 70 characters (RFC 2046, section 5.1.1).")
    return boundary


def _content_length(environ: Mapping[str, Any]) -> int | None:
    """Return the announced length, or None where the server ends the body (RFC 9112, section 6)."""
    text = environ.get("CONTENT_LENGTH") or ""
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if text and not LENGTH.fullmatch(text):
        raise UploadRejected("The Content-Length is not a number.")
    if text and chunked:
        raise UploadRejected("The request has both a Content-Length and a Transfer-Encoding.")
    if text:
        return int(text)
    if not environ.get("wsgi.input_terminated"):
        raise UploadRejected("The request needs a Content-Length.", 411)
    return None


def _lower(error: MultipartError) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return text[:1].lower() + text[1:]


def _size(count: int) -> str:
    """Return "256 MiB" where it is that exactly, else the number of bytes."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"
