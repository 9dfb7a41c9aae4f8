"""Digests of files in HTTP: Repr-Digest, Content-Digest and Want-Repr-Digest (RFC 9530), with sha-256 alone.

Strings only. A media server gives and checks them; whoever sends a file can announce one.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

__all__ = ["format_digest", "parse_digest", "wants_digest"]

_OCTETS = re.compile(r":([A-Za-z0-9+/]{43}=):")
_WANTED = re.compile(r"(?:^|,)[ \t]*sha-256=([0-9]{1,2})[ \t]*(?:$|,)")


def format_digest(sha256: bytes) -> str:
    """Return a digest of 32 octets as the value of Repr-Digest or Content-Digest."""
    return f"sha-256=:{b64encode(sha256).decode()}:"


def parse_digest(value: str) -> bytes | None:
    """Return the 32 octets of the sha-256 in Repr-Digest or Content-Digest, None if it has none.

    Other algorithms are left alone (RFC 9530, section 2). Raises ValueError if the sha-256 is none.
    """
    members = [member.partition("=") for member in value.split(",")]
    found = [text.partition(";")[0].strip() for name, _, text in members if name.strip() == "sha-256"]
    if not found:
        return None
    match = _OCTETS.fullmatch(found[-1])  # RFC 8941, section 3.2: the last one of a name counts
    if not match:
        raise ValueError("the sha-256 is not 32 octets in base64 between colons")
    return b64decode(match[1])


def wants_digest(value: str) -> bool:
    """Say whether a Want-Repr-Digest asks for sha-256: with any preference but 0 (RFC 9530, section 4)."""
    match = _WANTED.search(value)
    return bool(match and int(match[1]))
