"""Does it keep, replace and give up files as replication needs it? `write` decides whether more is written."""

from __future__ import annotations

import os

from .. import names
from ..errors import counted, shown
from .finding import Finding, Trouble
from .subject import Subject

__all__ = ["credentials", "delete", "mtime", "overwrite", "parents", "truncated", "write"]

AHEAD = "ahead.jpg"  # the file that is put with no folder to put it in
FIRST = "first.jpg"  # the file that replication puts; either shows that the folder is ours
DATE = 1234567890.0  # seconds since 1970, 13 February 2009: no server's own time
TORN = 64 * 1024  # bytes that are announced; half of them are sent
KEPT_WITHIN = 0.3  # seconds: a server that keeps a body that was cut has kept it by then
NO_FOLDER = (404, 409)  # what a PUT under a missing folder is answered with
CREATED = frozenset({200, 201, 204})


def write(subject: Subject) -> list[Finding]:
    """What is put is there, with its size and its bytes, and nowhere else."""
    name, content = subject.name(FIRST), _first(subject)
    made = _make_folder(subject)
    try:
        subject.put(name, content)
    except Trouble as trouble:
        if _takes_without_folder(subject, trouble.status):
            seen = f"a PUT into a folder that is missing: {trouble}; one without a folder works"
            return [subject.found("parents", "unsafe", seen)]
        if trouble.status in NO_FOLDER and made >= 400:
            return [subject.found("write", "unsafe", f"a PUT: {trouble}, and MKCOL: answered {made}", str(made))]
        cause = str(trouble.status or "")
        if trouble.status == 401 and subject.shown:
            cause = f"401:{subject.shown}"
        return [subject.found("write", "unsafe", f"a PUT: {trouble}", cause)]
    try:
        problem = difference(subject, name, content)
    except Trouble as trouble:
        problem = str(trouble)
    if problem:
        return [
            subject.found("write", "unsafe", f"a PUT was answered with success, but reading it back: {problem}", "kept")
        ]
    claim(subject)
    if not subject.own_folder:
        seen = "a file that is put into a folder is found outside of it, too"
        return [subject.found("write", "unsafe", seen, "folders")]
    return [Finding("write", "ok", "a file is put and read back"), *_on_master(subject)]


def _on_master(subject: Subject) -> list[Finding]:
    """Say whether what is put there is in MEDIA_ROOT at once, so that the host serves the master's own folder."""
    if not subject.media_root or not os.path.lexists(os.path.join(subject.media_root, subject.name(FIRST))):
        return []
    if subject.keeps_master:
        return [Finding("master", "ok", "it serves MEDIA_ROOT itself: it holds what that holds, nothing is sent to it")]
    return [subject.found("master", "unsafe", "it serves MEDIA_ROOT itself, which mode distributed empties")]


def claim(subject: Subject) -> None:
    """Note that the folder is ours if one of our first files is in it, and not also above it.

    If the parts of a path are no folders, removing ours could remove another.
    """
    for leaf in (FIRST, AHEAD):
        if subject.get(subject.name(leaf)) == _first(subject):
            subject.own_folder = subject.raw("GET", leaf).body != _first(subject)
            return


def _first(subject: Subject) -> bytes:
    return subject.folder.encode() * 50


def _make_folder(subject: Subject) -> int:
    """Make the folder of the check if the server does not; return the status of MKCOL, 0 if the server made it.

    201 says that it was not there before (RFC 4918, section 9.3.1), and so is ours.
    """
    if subject.raw_put(subject.name(AHEAD), _first(subject)).status not in NO_FOLDER:
        return 0
    status = subject.raw("MKCOL", f"{subject.folder}/").status
    subject.own_folder = status == 201
    return status


def _takes_without_folder(subject: Subject, status: int | None) -> bool:
    """Say whether it was the missing folder, and nothing else, that a PUT failed for."""
    if status is None or status in (401, 403, 405, 413, 507):
        return False
    return subject.raw_put(f"{subject.folder}.jpg", b"x").status in CREATED


def difference(subject: Subject, name: str, content: bytes) -> str:
    """Return how what the host holds differs from ``content``, "" if it does not."""
    size, found = subject.head(name), subject.get(name)
    if found is None:
        return "it is not there"
    if found != content:
        return f"other bytes came back ({len(found):,} of {len(content):,})"
    if size != len(content):
        said = "that it is not there" if size is None else f"{counted(size, 'byte')}, not {len(content)}"
        return f"HEAD says {said}"
    return ""


def parents(subject: Subject) -> list[Finding]:
    """Folders that are missing are made, by the server or with MKCOL."""
    answer = subject.raw_put(subject.name("made/by/itself.txt"), b"x")
    name = subject.name("made/with/help.txt")
    try:
        subject.put(name, b"x")
        problem = difference(subject, name, b"x")
    except Trouble as trouble:
        problem = str(trouble)
    if problem:
        return [subject.found("parents", "unsafe", f"a PUT into a folder that is missing: {problem}")]
    if answer.status in CREATED:
        return [Finding("parents", "ok", "it makes missing folders by itself")]
    return [Finding("parents", "ok", f"a missing folder is answered with {answer.status}, and made with MKCOL")]


def overwrite(subject: Subject) -> list[Finding]:
    """A second PUT replaces the first for every reader, also one who read before."""
    name = subject.name("again.jpg")
    first = subject.raw_put(name, b"one" * 100)
    subject.get(name)  # a cache keeps this
    second = subject.raw_put(name, b"other" * 200)
    if second.status not in CREATED:
        return [
            subject.found("overwrite", "unsafe", f"a PUT on a file that is there was answered with {second.status}")
        ]
    problem = difference(subject, name, b"other" * 200)
    if problem:
        # The key of a cache has the whole URL (RFC 9111, section 2), so a query that is new leads to the server.
        fresh = subject.raw("GET", f"{names.quote(name)}?{subject.folder}", {"Cache-Control": "no-cache"})
        stale = problem if fresh.body != b"other" * 200 else "the old file is still read: a cache answers"
        return [subject.found("overwrite", "unsafe", f"after a second PUT {stale}", "stale")]
    return [Finding("overwrite", "ok", f"replaced ({first.status}, then {second.status}), and read at once")]


def delete(subject: Subject) -> list[Finding]:
    """A file that is deleted is gone for every reader, and deleting it again is no error."""
    name = subject.name("gone.jpg")
    subject.put(name, b"x" * 10)
    subject.get(name)  # a cache keeps this
    try:
        subject.delete(name)
    except Trouble as trouble:
        return [subject.found("delete", "unsafe", f"a DELETE: {trouble}")]
    if subject.head(name) is not None or subject.get(name) is not None:
        return [subject.found("delete", "unsafe", "a file that was deleted is still read", "stale")]
    again = subject.raw("DELETE", names.quote(name), {"Depth": "0"})
    try:
        subject.delete(name)
    except Trouble as trouble:
        return [subject.found("delete", "unsafe", f"a DELETE of a name that is not there: {trouble}")]
    return [Finding("delete", "ok", f"gone at once; once more is answered with {again.status}")]


def truncated(subject: Subject) -> list[Finding]:
    """A body that ends early replaces nothing and makes nothing."""
    name, new, old = subject.name("whole.jpg"), subject.name("never.jpg"), b"whole" * 100
    subject.put(name, old)
    for each in (name, new):
        subject.cut(each, TORN, b"torn" * (TORN // 8))
    subject.pause(KEPT_WITHIN)
    found = subject.get(name)
    if found != old:
        now = "is gone" if found is None else f"has {len(found):,} bytes of the new one's {TORN:,}"
        return [subject.found("truncated", "unsafe", f"a PUT broke off in the middle, and the file before {now}")]
    left = subject.head(new)
    if left is not None:
        return [subject.found("truncated", "unsafe", f"a PUT that broke off left a file of {counted(left, 'byte')}")]
    return [Finding("truncated", "ok", "a PUT that breaks off leaves the old file, and makes no new one")]


def mtime(subject: Subject) -> list[Finding]:
    """The Date of a PUT becomes the file's time, so that every replica has the same validators."""
    name = subject.name("dated.jpg")
    subject.put(name, b"x" * 10, DATE)
    answer = subject.raw("GET", names.quote(name))
    modified = answer.headers.get("Last-Modified", "")
    subject.facts["validators"] = (answer.headers.get("ETag"), modified)
    if modified == "Fri, 13 Feb 2009 23:31:30 GMT":
        return [Finding("mtime", "ok", "taken from Date: ETag and Last-Modified are the same on every replica")]
    said = "it sends no Last-Modified" if not modified else f"Last-Modified is {shown(modified)}"
    return [subject.found("mtime", "warning", f"the Date of a PUT is not kept: {said}")]


def credentials(subject: Subject) -> list[Finding]:
    """Nobody writes without the credentials, if there are any; if not, who may write cannot be seen from here."""
    if not subject.is_shown_something:
        seen = "whether other machines may write cannot be seen from here; this one may"
        return [subject.found("credentials", "unknown", seen)]
    name = subject.name("bare.jpg")
    try:
        put = subject.raw_put(name, b"x", bare=True)
    except Trouble as trouble:
        if trouble.cause != "tls":
            raise
        return [Finding("credentials", "ok", f"without a certificate there is no connection: {trouble}")]
    # A server can have a rule for each method, so a refused PUT does not say that DELETE is refused.
    taken = put.status < 300 or subject.raw("DELETE", names.quote(subject.name(FIRST)), bare=True).status < 300
    if taken:
        return [subject.found("credentials", "unsafe", "it takes writes without credentials", "open")]
    return [Finding("credentials", "ok", f"without credentials a PUT is answered with {put.status}")]
