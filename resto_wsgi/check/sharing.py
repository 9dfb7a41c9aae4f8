"""Do several media roots write there? Our own node knows; of all others only a person does, so a person is asked."""

from __future__ import annotations

from ..fields.roots import ROOTS, parse_roots
from .finding import Finding
from .subject import Subject

__all__ = ["roots"]


def roots(subject: Subject) -> list[Finding]:
    """Application servers with a MEDIA_ROOT each do not overwrite and delete one another's files."""
    if subject.kind != "node":
        seen = "whether application servers with a MEDIA_ROOT each write there cannot be seen from here"
        return [subject.found("roots", "unknown", seen)]
    found = parse_roots(subject.raw_put(subject.name("roots.jpg"), b"x").headers.get(ROOTS, ""))
    if found:
        seen = f"{len(found)} media roots write there at once, whose .resto/id are {', '.join(found)}"
        return [subject.found("roots", "warning", seen, "several")]
    return [Finding("roots", "ok", "no two media roots have written there in turn since it was started")]
