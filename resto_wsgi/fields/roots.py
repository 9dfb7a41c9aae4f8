"""Which media root a change comes from (Resto-Root, said by senders), and which there are (Resto-Roots, by our node).

The id is that of ``.resto/id``. The names of one root hang below a path. Its sender knows that by another prefix than a
node that is behind a proxy, so the sender says how many segments of the path are the name. Strings only. The HTTP
transport says it, and our own media server reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["ROOT", "ROOTS", "format_root", "format_roots", "parse_root", "parse_roots"]

ROOT, ROOTS = "Resto-Root", "Resto-Roots"

_ID = "[0-9a-f]{32}"
_ROOT = re.compile(rf"({_ID});segments=([0-9]{{1,4}})")
_ROOTS = re.compile(rf"{_ID}(?:, {_ID}){{0,99}}")


def format_root(identity: str, name: str) -> str:
    """Return what is said with a change of ``name``."""
    return f"{identity};segments={name.count('/') + 1}"


def parse_root(value: str, path: str) -> tuple[str, str] | None:
    """Return the id of a root and the prefix of ``path`` below which its names hang; None if that is not said.

    The prefix begins and ends with a slash.
    """
    match = _ROOT.fullmatch(value)
    segments = path.strip("/").split("/")
    if match is None or not 1 <= int(match[2]) <= len(segments):
        return None
    above = segments[: len(segments) - int(match[2])]
    return match[1], "".join(["/", *(f"{each}/" for each in above)])


def format_roots(identities: Iterable[str]) -> str:
    """Return the ids of the roots that write below one prefix."""
    return ", ".join(sorted(identities))


def parse_roots(value: str) -> list[str]:
    """Return the ids that are said, none of what is not understood."""
    return value.split(", ") if _ROOTS.fullmatch(value) else []
