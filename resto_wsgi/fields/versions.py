"""The version of a name, as senders tell it and our own media server answers it (Resto-Generation).

A number that rises with each change of a name; the library sends nanoseconds since 1970. Strings and numbers only: what
an older version means is for the media server. It reads this, and the HTTP transport says it.
"""

from __future__ import annotations

__all__ = ["DIGITS", "VERSION", "parse_version"]

VERSION = "Resto-Generation"
DIGITS = 19  # enough for nanoseconds since 1970


def parse_version(value: str | None) -> int | None:
    """Return the number that a field says, None if it says none."""
    text = value or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None
