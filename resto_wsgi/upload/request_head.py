"""What a request says of its body before a byte of it is read: media type, boundary, charset, coding and length.

Parsers differ over unusual Content-Types, and who takes another boundary than we do reads another form. So a
Content-Type is taken if all of them read it alike, and refused otherwise; docs/forms.rst says it form by form. Strings
only. The middleware asks for the media type, the intake for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UploadRejected
from .disposition import TOKEN

__all__ = ["MULTIPART", "URLENCODED", "FormHead", "content_length", "media_type", "read_form_head", "refuse_charset"]

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
LENGTH = re.compile(r"[0-9]{1,18}")  # RFC 9110, section 8.6: digits alone; 18 of them are an exabyte
# In quotes RFC 2046, section 5.1.1, and tokens (RFC 9110); unquoted only tokens, since some parsers end a value there.
BOUNDARY = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z(),/:=? -]{0,69}[!#$%&'*+.^_`|~0-9A-Za-z(),/:=?-]")
PARAMETER = rf'; *({TOKEN})=({TOKEN}|"[^"\\;\0-\x1f\x7f-\xff]*")'
PARAMETERS = re.compile(rf"(?:{PARAMETER})*(?:; *)?")
UTF_8 = frozenset({"utf-8", "utf8"})
# Taken for forms whose headers are ASCII, so that it says the same: Apache's HttpClient 5 announces ISO-8859-1.
ASCII_ALIKE = frozenset({"iso-8859-1", "us-ascii"})


class FormHead(NamedTuple):
    """What a multipart request says of its body. ``length`` is None if the server knows where it ends."""

    boundary: bytes
    ascii_only: bool
    length: int | None


def media_type(environ: Mapping[str, Any]) -> str:
    """Return the media type of a request as the laxest reader takes it, in lower case without its parameters."""
    content_type: str = environ.get("CONTENT_TYPE") or ""
    return content_type.partition(";")[0].strip().lower()


def read_form_head(environ: Mapping[str, Any]) -> FormHead:
    """Return what a multipart request says of its body. Raises UploadRejected (400, 411, 415)."""
    coding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if coding not in ("", "identity"):
        raise UploadRejected(
            "The Content-Encoding of a form must be identity: it is read as it comes.",
            415,
            [("Accept-Encoding", "identity")],  # RFC 9110, section 15.5.16
        )
    parameters = _parameters(environ.get("CONTENT_TYPE", ""))
    boundary = parameters.get("boundary", "").replace("%22", '"')  # which Werkzeug decodes
    if not BOUNDARY.fullmatch(boundary):
        raise UploadRejected("The Content-Type needs one boundary of 1 to 70 characters (RFC 2046, section 5.1.1).")
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in UTF_8 | ASCII_ALIKE:
        raise UploadRejected("The charset of a form must be UTF-8; parsers differ over others.")
    return FormHead(boundary.encode("ascii"), charset not in UTF_8, content_length(environ))


def refuse_charset(environ: Mapping[str, Any]) -> None:
    """Raise UploadRejected (400) if a urlencoded form claims another charset than UTF-8, which some parsers heed."""
    charsets = re.findall(r"charset\W*([^;]*)", environ.get("CONTENT_TYPE") or "", re.IGNORECASE)
    if any(charset.strip(" \t\"'").lower() not in UTF_8 for charset in charsets):
        raise UploadRejected("The charset of a form must be UTF-8; parsers differ over others.")


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Return the announced length, or None if the server ends the body (RFC 9112, section 6). Raises UploadRejected."""
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


def _parameters(content_type: str) -> dict[str, str]:
    """Return the parameters of a form's Content-Type, unquoted, their names in lower case."""
    rest = content_type.removeprefix(MULTIPART)
    if rest == content_type or not PARAMETERS.fullmatch(rest):
        raise UploadRejected(f"The Content-Type is malformed; it must be {MULTIPART} with a boundary.")
    given = [(key.lower(), value.strip('"')) for key, value in re.findall(PARAMETER, rest)]
    parameters = dict(given)
    if len(parameters) != len(given) or any("*" in key for key in parameters):
        raise UploadRejected(
            "The Content-Type has a parameter twice, or in parts; parsers differ over which one counts."
        )
    return parameters
