"""The headers of one part of a form: lines that every parser reads alike, and what they say of the part.

One header a line, ended by CRLF alone, in UTF-8; none of them twice, none folded. What a Content-Disposition says is
read by its own module. Nothing is kept of headers that no parser acts upon. The intake calls this.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ..errors import UploadRejected, counted
from .disposition import USUAL, read_disposition

__all__ = ["PartHead", "read_head"]

NAME = re.compile(r"[0-9A-Za-z_-]+")
KNOWN = frozenset({"content-disposition", "content-type", "content-length", "content-transfer-encoding"})
STRAY = re.compile(r"\0|\r(?!\n)|(?<!\r)\n")  # outside of a line end
LENGTH = re.compile(r"0|[1-9][0-9]{0,17}")
ENCODING = re.compile(r"[0-9A-Za-z-]*")
# Content-Transfer-Encodings that some parsers undo and others do not; all others are read as they are, which is as
# well, since LibreOffice wrote charsets there (RFC 7578, section 4.7 deprecates the header).
UNDONE = frozenset({"base64", "quoted-printable", "uuencode", "x-uuencode", "x-uue"})
# Types of which cgi, and so WebOb, reads the part as a form in the form.
NESTED = ("multipart/", "application/x-www-form-urlencoded")
# Of a file, by whose charset WebOb decodes the filename; those in which ASCII is ASCII.
CHARSET = re.compile(r"charset *=? *\"?([^\";]*)", re.IGNORECASE)
ASCII_ALIKE = re.compile(r"utf-?8|us-ascii|iso-8859-[0-9]+|windows-125[0-9]", re.IGNORECASE)

# A file as browsers and most other clients send it. It says the same, in one look, as the steps below would find.
USUAL_FILE = re.compile(
    rf"Content-Disposition: {USUAL.pattern}\r\nContent-Type: ([0-9A-Za-z][0-9A-Za-z/+.;= -]*(?<! ))"
)

MALFORMED = "A header of a part of the form is malformed: it takes a name, a colon, and one line."


class PartHead(NamedTuple):
    """What the headers of a part say. ``filenames`` are as in ``Disposition``; ``length`` is what was announced.

    ``type_header`` is the Content-Type as sent, ``content_type`` the media type alone, in lower case.
    """

    field: str
    filenames: tuple[str, ...]
    content_type: str
    type_header: str
    length: int | None


def read_head(head: bytes, *, max_size: int, max_count: int, ascii_only: bool) -> PartHead:
    """Return what the headers of a part say; ``max_size`` is in bytes of a line, ``max_count`` in lines.

    Raises UploadRejected: 413 over a limit, else 400.
    """
    text = _text(head, ascii_only)
    usual = USUAL_FILE.fullmatch(text) if len(head) <= max_size and max_count > 1 else None
    if usual and usual[2]:
        return PartHead(usual[1], (usual[2],), _content_type(usual[3], True), usual[3], None)
    headers = _headers(text, max_size, max_count)
    if "content-disposition" not in headers:
        raise UploadRejected("A part of the form has no Content-Disposition (RFC 7578, section 4.2).")
    encoding = headers.get("content-transfer-encoding", "").lower()
    if encoding in UNDONE or not ENCODING.fullmatch(encoding):
        raise UploadRejected("Parts with this Content-Transfer-Encoding are not supported (RFC 7578, section 4.7).")
    length = headers.get("content-length")
    if length is not None and not LENGTH.fullmatch(length):
        raise UploadRejected("The Content-Length of a part of the form is not a number.")
    field, filenames = read_disposition(headers["content-disposition"])
    type_header = headers.get("content-type", "")
    content_type = _content_type(type_header, any(filenames))
    return PartHead(field, filenames, content_type, type_header, None if length is None else int(length))


@functools.lru_cache(maxsize=64)  # the files of a form have few types, often one
def _content_type(type_header: str, is_file: bool) -> str:
    """Return the media type of a Content-Type; refuse one by which some parser reads something else in the part."""
    content_type, _, parameters = type_header.partition(";")
    content_type = content_type.strip().lower()
    # A browser sends an .mht file as multipart/related; without a boundary nobody can look into it.
    harmless = is_file and not parameters and not content_type.startswith(NESTED[1])
    if content_type.startswith(NESTED) and not harmless:
        raise UploadRejected("A part of the form is a form itself; parsers differ over what is in it.")
    if is_file and not all(ASCII_ALIKE.fullmatch(each.strip()) for each in CHARSET.findall(parameters)):
        raise UploadRejected("The charset of a file must be UTF-8, or like ASCII; some parsers read its name by it.")
    return content_type or "application/octet-stream"


def _text(head: bytes, ascii_only: bool) -> str:
    try:
        return head.decode("ascii" if ascii_only else "utf-8")
    except UnicodeDecodeError:
        charset = "ASCII, as the charset of the request demands" if ascii_only else "UTF-8"
        raise UploadRejected(f"The headers of a part of the form are not {charset}.") from None


def _headers(text: str, max_size: int, max_count: int) -> dict[str, str]:
    """Return the headers, their names in lower case."""
    lines = text.split("\r\n", max_count)
    if len(lines) > max_count:
        raise UploadRejected(f"A part of the form has more than {counted(max_count, 'header')}.", 413)
    if max(len(line.encode()) for line in lines) > max_size:
        raise UploadRejected(f"A header of a part of the form is over {counted(max_size, 'byte')}.", 413)
    if STRAY.search(text):
        raise UploadRejected(MALFORMED)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or (key not in KNOWN and not NAME.fullmatch(name)):
            raise UploadRejected(MALFORMED)
        if key in headers:
            raise UploadRejected("A part of the form has a header twice; parsers differ over which one counts.")
        headers[key] = value.strip(" ")
    return headers
