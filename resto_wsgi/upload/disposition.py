"""The Content-Disposition of a part of a form (RFC 7578, section 4.2): whether it is a file, and of what name.

Parsers differ over whatever is unusual there, and what is a text field for one is a file for another. So a header is
taken where all of them agree, and else refused. The parser's own reading of it comes in; the intake alone calls this.
"""

from __future__ import annotations

import re
from email.utils import decode_rfc2231
from urllib.parse import unquote_to_bytes

from ..errors import UploadRejected

__all__ = ["decoded", "filename_of"]

PLAIN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
QUOTED = r'"(?:\\.|[^"\\])*"'  # the same, section 5.6.4
PARAMETER = rf" *; *({PLAIN})=({PLAIN}|{QUOTED})"
DISPOSITION = re.compile(rf"form-data(?:{PARAMETER})*(?: *;)? *", re.IGNORECASE)
USUAL = re.compile(r'form-data; name="[^"\\]*"(?:; filename="[^"\\]*")?')  # as browsers send it; one look is enough


def filename_of(header: str, parsed: str | None) -> str | None:
    """Return the filename the client gave, None for a text field; ``parsed`` is what the parser takes for it.

    ``filename*`` (RFC 5987), which some clients send beside the plain one, must say the same. Whatever parsers read
    differently is refused: else a file for the application could be a text for us, and pass unchecked.
    """
    plain = None if parsed is None else decoded(parsed)
    if USUAL.fullmatch(header):
        return plain
    given = re.findall(PARAMETER, header) if DISPOSITION.fullmatch(header) else []
    values = {key.lower(): value for key, value in given}
    odd = {key for key in values if key.startswith(("name", "filename"))} - {"name", "filename", "filename*"}
    if not given or len(values) != len(given) or odd:
        raise UploadRejected("A part of the form has a Content-Disposition that parsers read differently.")
    if "filename*" not in values:
        return plain
    charset, _, value = decode_rfc2231(values["filename*"].strip('"'))
    raw = unquote_to_bytes(value)
    extended = raw.decode("latin-1" if (charset or "").lower() == "iso-8859-1" else "utf-8", "replace")
    if plain is not None and plain != extended and not plain.startswith("=?"):  # .NET encodes the plain one (RFC 2047)
        raise UploadRejected("A part of the form has two filenames that differ.")
    return extended


def decoded(text: str | None) -> str:
    """Decode a header's text: UTF-8 as browsers send it, else Latin-1, in which every byte is a character."""
    if not text or text.isascii():
        return text or ""
    raw = text.encode("latin-1", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
