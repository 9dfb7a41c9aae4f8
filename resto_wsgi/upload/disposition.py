"""The Content-Disposition of a part of a form (RFC 7578, section 4.2): which field, and of what name a file is.

Parsers differ over whatever is unusual there, and what is a text field for one is a file for another. So a header is
taken if all of them agree on the field and on its being a file, and refused otherwise. The names of one file may be
read differently, if what the middleware checks of a name holds for each of them. docs/forms.rst says it form by form.
Strings only. The reader of a part's head calls this.
"""

from __future__ import annotations

import contextlib
import html
import re
from typing import NamedTuple
from urllib.parse import unquote

from .. import names
from ..errors import UploadRejected

__all__ = ["TOKEN", "USUAL", "Disposition", "read_disposition"]

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2  # noqa: S105 - a grammar, no secret
# A backslash before a quote escapes it, but not if another one stands before it: then parsers count differently.
QUOTED = r'"(?:[^"\\]|(?<!\\)\\"|\\(?!"))*"'
PARAMETER = rf" *; *({TOKEN})=({TOKEN}|{QUOTED})"
DISPOSITION = re.compile(rf"form-data(?:{PARAMETER})*(?: *;)? *")
EXTENDED = re.compile(r"(UTF-8|ISO-8859-1)'[0-9A-Za-z-]*'((?:%[0-9A-Fa-f]{2}|[!#$&'*+.^_`|~0-9A-Za-z-])+)", re.I)
ENCODED = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # what browsers encode (HTML, multipart form data), and nothing else
# As browsers send it, without anything that is decoded: one look is enough.
USUAL = re.compile(r'form-data; name="([^"\\%\s\0]+)"(?:; filename="((?:[\w+,()@=][\w .+,()@=-]*)?)(?<![ .])")?')
OURS = ("name", "filename")
WINDOWS_PATH = re.compile(r"[A-Za-z]:\\|\\\\")
MISREAD = "A part of the form has a Content-Disposition that parsers read differently: "


class Disposition(NamedTuple):
    """What a Content-Disposition says. ``filenames`` is () for a text, ("",) for a picker that was left empty.

    The first of them is the file's, a second one what parsers use that know no ``filename*``.
    """

    field: str
    filenames: tuple[str, ...]


def read_disposition(header: str) -> Disposition:
    """Return the field and the filenames. Raises UploadRejected (400) if parsers could read another thing in it."""
    if usual := USUAL.fullmatch(header):
        return Disposition(usual[1], () if usual[2] is None else (usual[2],))
    values = _parameters(header)
    if "name" not in values:
        raise UploadRejected(f"{MISREAD}it names no field.")
    field = _field(values["name"])
    if "filename" not in values:
        if "filename*" in values:
            raise UploadRejected(f"{MISREAD}it has a filename* without a filename.")
        return Disposition(field, ())
    plain = _plain(values["filename"])
    if "filename*" not in values:
        return Disposition(field, (plain,))
    if not plain:
        raise UploadRejected(f"{MISREAD}its filename is empty, its filename* is not.")
    extended = _extended(values["filename*"])
    return Disposition(field, (extended, plain))  # RFC 8187: who knows both takes the extended one


def _parameters(header: str) -> dict[str, str]:
    if not DISPOSITION.fullmatch(header):
        raise UploadRejected(f"{MISREAD}it is not form-data with parameters (RFC 7578, section 4.2).")
    given = re.findall(PARAMETER, header)
    values = {key.lower(): value for key, value in given}
    if len(values) != len(given):
        raise UploadRejected(f"{MISREAD}a parameter is there twice.")
    if any(key.startswith(OURS) and key not in (*OURS, "filename*") for key in values):
        raise UploadRejected(f"{MISREAD}a parameter is in parts (RFC 2231).")
    return values


def _field(value: str) -> str:
    """Return the name of a field, which some parsers strip, and in which some drop backslashes."""
    field = _unquoted(value)
    if "\\" in value or field != field.strip() or not field:
        raise UploadRejected(f"{MISREAD}the field's name is empty, or has a backslash or a blank at an end.")
    return _decoded(field)


def _plain(value: str) -> str:
    filename = _unquoted(value).replace('\\"', '"')
    if "\\" in filename:
        filename = _without_folders(filename)
    _check(filename)
    return _decoded(filename)


def _without_folders(path: str) -> str:
    """Return the filename of a path as Internet Explorer sent it; of others some parsers drop the backslashes."""
    folders, _, filename = path.rpartition("\\")
    if not WINDOWS_PATH.match(path) or ("." in folders and "." not in filename):
        raise UploadRejected(f"{MISREAD}its filename has a backslash.")
    return filename


def _extended(value: str) -> str:
    """Return a filename* decoded (RFC 8187, section 3.2). Apache's HttpClient 5 puts it into quotes."""
    if match := EXTENDED.fullmatch(_unquoted(value)):
        with contextlib.suppress(UnicodeDecodeError):
            filename = unquote(match[2], encoding=match[1], errors="strict")
            _check(filename)
            return filename
    raise UploadRejected(f"{MISREAD}its filename* is not that of RFC 8187.")


def _check(filename: str) -> None:
    """Refuse a filename of which parsers read different extensions, or nothing."""
    unescaped = html.unescape(filename)  # as Django reads it, which then drops folders and what cannot be printed
    last = "".join(filter(str.isprintable, re.split(r"[/\\]", unescaped)[-1]))
    if filename and last in ("", ".", ".."):
        raise UploadRejected(f"{MISREAD}its filename names no file.")
    if len({names.extension_of(names.clean(each)) for each in (filename, _decoded(filename), unescaped)}) > 1:
        raise UploadRejected(f"{MISREAD}its filename has an extension in which something is encoded.")


def _unquoted(value: str) -> str:
    return value[1:-1] if value.startswith('"') else value


def _decoded(text: str) -> str:
    return re.sub("%22|%0D|%0A", lambda found: ENCODED[found[0]], text) if "%" in text else text
