"""Names: what a file may be called in the media root, on every host, and in a URL, and how long that may be.

A name is a path relative to the media root, POSIX, NFC. ``check`` judges the names that an application chose, and never
repairs them. ``clean`` turns whatever a client sent into one segment that ``check`` takes. A name that passed ``check``
may be joined to the media root or to a host's URL: it leads to no other place, and no media server that was tested
takes it for its own temporary file. Only strings are handled here: no disk, no network. Every module may call this.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable
from urllib.parse import quote as percent_encode

from .errors import NameRejected

__all__ = [
    "MAX_CLEAN",
    "MAX_NAME",
    "MAX_SEGMENT",
    "check",
    "clean",
    "extension_of",
    "quote",
    "random_token",
    "split_extension",
    "with_suffix",
]

MAX_SEGMENT = 240  # UTF-8 bytes: lighttpd fails from 250 on, since it adds ".PID.FD~" while it writes
MAX_NAME = 1024  # UTF-8 bytes: a quarter of PATH_MAX, and below 4 KiB of URL when every byte is percent-encoded
MAX_CLEAN = 200  # UTF-8 bytes: leaves 40 of a segment for a suffix and for what an application puts around it
MAX_EXTENSION = 20  # UTF-8 bytes with the dot: longer than any in use, short enough to be kept whole
DECOMPOSED = 4  # code points: what one code point becomes at most in NFD, so NFC shrinks no text more than that
READ = 2048  # characters at either end of a client's filename that are looked at: more than can be kept

# Crockford's base32 in lower case: without i, l and o, which look like 1 and 0, and without u.
TOKEN_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # noqa: S105 - an alphabet, no secret

FORBIDDEN = {
    "Cc": "a control character",
    "Cf": "an invisible format character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})  # invisible, or without a meaning that is the same everywhere
LEADING = ". ~-"  # hidden files, a shell's home folders, and what every command takes for an option
TRAILING = ". ~"  # what Windows drops, and lighttpd's temporary files

# What Windows does not take in a filename, so that a download can be saved under its name.
_WINDOWS_CHARACTERS = str.maketrans(dict.fromkeys('<>:"|?*', "_"))
_WINDOWS_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9¹²³]|CONIN\$|CONOUT\$) *(?:\.|$)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[/\\]")

# Most names and filenames match these and are certainly good: one match instead of a look at each character.
_PLAIN_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_. -]*(?:/[0-9A-Za-z_-][0-9A-Za-z_. -]*)*")
_PLAIN_FILENAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_-]*(?:[. ][0-9A-Za-z_-]+)*")
_TOKEN_BYTES = (TOKEN_ALPHABET * 8).encode()  # a letter for each byte, each as often as the others


def check(name: str, longest: int = MAX_NAME) -> str:
    """Return ``name`` in NFC (Unicode Standard Annex #15); raise NameRejected if it is not a clean relative path.

    ``longest`` is how many bytes of UTF-8 it may have: more for a media server, whose names come below a path. The
    reason is a phrase in one line that holds nothing of the name, so that it can be shown to a client.
    """
    if not isinstance(name, str):
        raise NameRejected(name, "is not a string")
    if len(name) <= MAX_SEGMENT and _PLAIN_NAME.fullmatch(name):
        return name
    if len(name) > DECOMPOSED * longest:  # also bounds the cost of normalising
        raise NameRejected(name, f"is longer than {longest} bytes")
    normal = unicodedata.normalize("NFC", name)
    reason = _fault(normal, longest)
    if reason:
        raise NameRejected(name, reason)
    return normal


def clean(filename: str) -> str:
    """Return any client's ``filename`` as one safe segment, of at most MAX_CLEAN bytes, that ``check`` takes.

    Folders are cut off, invisible characters are dropped, and characters that Windows refuses are replaced. The result
    begins with nothing to which a shell or a web server gives a meaning, and it is no device of Windows. The extension
    is kept. This never raises; if nothing is left, the result is "file". To clean the result again changes nothing.
    """
    if len(filename) < MAX_CLEAN and _PLAIN_FILENAME.fullmatch(filename):
        return _defuse(filename)
    last = _SEPARATOR.split(filename)[-1]
    if len(last) > 2 * READ:
        last = last[:READ] + last[-READ:]
    visible = "".join(each for each in last if unicodedata.category(each) not in DROPPED)
    normal = unicodedata.normalize("NFC", visible).translate(_WINDOWS_CHARACTERS)
    segment = " ".join(normal.split()).lstrip(LEADING).rstrip(TRAILING)
    # A device name is looked for twice: the underscore counts in the length, and to shorten can make a new one.
    return _defuse(_shorten(_defuse(segment))) or "file"


def split_extension(segment: str) -> tuple[str, str]:
    """Return the stem and the extension with its dot, or ""; together they are ``segment``.

    An extension holds no white space and has at most MAX_EXTENSION bytes; the dot of a hidden file begins none.
    """
    stem, dot, extension = segment.rpartition(".")
    if not stem.strip(".") or extension.split() != [extension]:
        return segment, ""
    if _size(dot + extension) > MAX_EXTENSION:
        return segment, ""
    return stem, dot + extension


def extension_of(name: str) -> str:
    """Return the extension of a name in lower case without its dot, or ""."""
    return split_extension(name.rpartition("/")[2])[1][1:].lower()


def with_suffix(name: str, suffix: str) -> str:
    """Return ``dir/cat-SUFFIX.jpg`` for ``dir/cat.jpg``; the stem is cut if the limits demand it.

    ``name`` is checked. Raises NameRejected if its folders leave no room, or the suffix makes no name.
    """
    folder, slash, segment = name.rpartition("/")
    stem, extension = split_extension(segment)
    tail = f"-{suffix}{extension}"
    room = min(MAX_SEGMENT, MAX_NAME - _size(folder + slash)) - _size(tail)
    kept = _cut(stem, room)
    return check(f"{folder}{slash}{kept}{tail if kept else tail[1:]}")


def random_token(choice: Callable[[str], str] | None = None, length: int = 10) -> str:
    """Return ``length`` characters that nobody guesses: 5 bits of entropy each, 50 bits by default."""
    if choice is None:
        return secrets.token_bytes(length).translate(_TOKEN_BYTES).decode()
    return "".join(choice(TOKEN_ALPHABET) for _ in range(length))


def quote(name: str) -> str:
    """Return a checked name as it stands in the path of a URL: every octet but unreserved ones and "/" is encoded.

    RFC 3986, sections 2.1 and 2.3. HTTP clients that normalise URLs leave the result as it is.
    """
    return percent_encode(name, safe="/")


def _fault(name: str, longest: int) -> str:
    """Return why ``name``, in NFC, cannot be used; "" if it can."""
    if not name:
        return "is empty"
    for each in name:
        kind = FORBIDDEN.get(unicodedata.category(each))
        if kind:
            return f"holds {kind}, U+{ord(each):04X}"
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/"):
        return "is absolute; give it relative to the media root"
    if _size(name) > longest:
        return f"is longer than {longest} bytes"
    return next(filter(None, map(_segment_fault, name.split("/"))), "")


def _segment_fault(segment: str) -> str:
    if not segment:
        return "has an empty part, or ends with a slash"
    if segment in (".", ".."):
        return "has a part that is . or .."
    if segment.startswith("."):
        return "has a part that begins with a dot"
    if segment.endswith("~"):
        return "has a part that ends with ~, as the temporary files of media servers do"
    if _size(segment) > MAX_SEGMENT:
        return f"has a part of more than {MAX_SEGMENT} bytes"
    return ""


def _defuse(segment: str) -> str:
    """Return ``segment``, with an underscore before it if Windows takes it for a device, whatever its extension."""
    return f"_{segment}" if _WINDOWS_DEVICE.match(segment) else segment


def _shorten(segment: str) -> str:
    if _size(segment) <= MAX_CLEAN:
        return segment
    stem, extension = split_extension(segment)
    return _cut(stem, MAX_CLEAN - _size(extension)).rstrip(TRAILING) + extension


def _cut(text: str, limit: int) -> str:
    """Return the beginning of ``text`` in at most ``limit`` bytes; no letter is separated from its accents."""
    end = len(text.encode()[: max(limit, 0)].decode(errors="ignore"))
    whole = end
    while 0 < whole < len(text) and unicodedata.category(text[whole]).startswith("M"):
        whole -= 1
    return text[: whole or end]  # if it is nothing but accents, cut between them


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
