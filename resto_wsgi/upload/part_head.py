"""The headers of one part of a form: lines that every parser reads alike, and what they say of the part.

One header a line, ended by CRLF alone, in UTF-8; none of them twice, none folded. What a Content-Disposition says is
read by its own module. Nothing is kept of headers that no parser acts upon. The intake calls this.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import UploadRejected
from .disposition import read_disposition

__all__ = ["PartHead", "read_head"]

LINE = re.compile(r"([0-9A-Za-z_-]+): *([^\0\r\n]*)")
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


class PartHead(NamedTuple):
    """What the headers of a part say. ``filenames`` are as in ``Disposition``; ``length`` is what was announced."""

    field: str
    filenames: tuple[str, ...]
    type_header: str
    length: int | None

    @property
    def content_type(self) -> str:
        """The media type alone, in lower case."""
        return self.type_header.partition(";")[0].strip().lower() or "application/octet-stream"


def read_head(head: bytes, *, max_size: int, max_count: int, ascii_only: bool) -> PartHead:
    """Return what the headers of a part say; ``max_size`` is in bytes of a line, ``max_count`` in lines.

    Raises UploadRejected: 413 over a limit, else 400.
    """
    headers = _headers(head, max_size, max_count, ascii_only)
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
    _check_type(type_header, is_file=any(filenames))
    return PartHead(field, filenames, type_header, None if length is None else int(length))


def _check_type(type_header: str, *, is_file: bool) -> None:
    """Refuse a type by which some parser reads something else in the part."""
    # A browser sends an .mht file as multipart/related; without a boundary nobody can look into it.
    harmless = is_file and ";" not in type_header and not type_header.lower().startswith(NESTED[1])
    if type_header.lower().startswith(NESTED) and not harmless:
        raise UploadRejected("A part of the form is a form itself; parsers differ over what is in it.")
    if is_file and not all(ASCII_ALIKE.fullmatch(each.strip()) for each in CHARSET.findall(type_header)):
        raise UploadRejected(
            "The charset of a file must be UTF-8, or one like ASCII; some parsers read its name by it."
        )


def _headers(head: bytes, max_size: int, max_count: int, ascii_only: bool) -> dict[str, str]:
    """Return the headers, their names in lower case."""
    lines = head.split(b"\r\n", max_count)
    if len(lines) > max_count:
        raise UploadRejected(f"A part of the form has more than {max_count} headers.", 413)
    headers: dict[str, str] = {}
    for line in lines:
        if len(line) > max_size:
            raise UploadRejected(f"A header of a part of the form is over {max_size} bytes.", 413)
        try:
            match = LINE.fullmatch(line.decode("ascii" if ascii_only else "utf-8"))
        except UnicodeDecodeError:
            text = "ASCII, as the charset of the request demands" if ascii_only else "UTF-8"
            raise UploadRejected(f"A header of a part of the form is not {text}.") from None
        if match is None:
            raise UploadRejected("A header of a part of the form is malformed: it takes a name, a colon, and one line.")
        name = match[1].lower()
        if name in headers:
            raise UploadRejected("A part of the form has a header twice; parsers differ over which one counts.")
        headers[name] = match[2].rstrip(" ")
    return headers
