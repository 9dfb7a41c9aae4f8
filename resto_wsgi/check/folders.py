"""What a DELETE of a folder does: as replication sends it, nothing, and as somebody else might, with the whole tree.

All of it is tried on a folder that is made and filled here, below the folder of the check. `writing` has made sure that
that one is a folder. The name here is random, too: wherever a server may look for it, it finds none of its own.
``run`` calls this.
"""

from __future__ import annotations

from .. import names
from .finding import Finding
from .subject import Subject

__all__ = ["folder"]


def folder(subject: Subject) -> list[Finding]:
    """A DELETE with ``Depth: 0`` leaves a folder's files; one without may not."""
    findings = []
    lost = [slash for slash in ("", "/") if not _survives(subject, slash, {"Depth": "0"})]
    if lost:
        how = " and ".join("with a slash" if slash else "without a slash" for slash in lost)
        findings.append(
            subject.found("folder", "unsafe", f"a DELETE of a folder with Depth: 0, {how}, took its files away")
        )
    else:
        findings.append(Finding("folder", "ok", "a DELETE with Depth: 0, which resto sends, leaves a folder's files"))
    # No Depth means infinity for a folder (RFC 4918, section 9.6.1); lighttpd and Apache remove the tree.
    lost = [slash for slash in ("", "/") if not _survives(subject, slash, {})]
    if lost:
        how = "with or without a slash" if len(lost) == 2 else "with a slash" if "/" in lost else "without a slash"
        findings.append(
            subject.found("tree", "warning", f"a DELETE without Depth, {how}, removes a folder and all in it")
        )
    else:
        findings.append(Finding("tree", "ok", "a DELETE without Depth leaves a folder's files, too"))
    return findings


def _survives(subject: Subject, slash: str, headers: dict[str, str]) -> bool:
    """Fill the folder, delete it that way, and say whether its file is there."""
    tree = subject.name(f"tree-{subject.folder}")
    # Each time: the DELETE before may have taken the folder away.
    subject.put(f"{tree}/leaf.jpg", b"leaf")
    subject.raw("DELETE", names.quote(tree) + slash, headers)
    return subject.head(f"{tree}/leaf.jpg") is not None
