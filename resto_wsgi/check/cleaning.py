"""Takes away what a check wrote, looks whether it is gone, and says what may be left.

Files go one by one, as replication deletes them; then the folder goes with all that a server may have left in it, a
temporary file for instance. A folder is only ever removed by its random name, and only after it was seen to be a
folder of our own: a server that drops a part of the path would remove another. Runs also after a check was stopped.
"""

from __future__ import annotations

import contextlib

from .. import names
from . import writing
from .finding import Trouble
from .subject import FOLDER, Subject

__all__ = ["clean", "folder_of"]

GIVE_UP = 2  # requests that were not answered, one after the other, after which the host is taken to be away
GONE = frozenset({404, 410})
SECRET = frozenset({401, 403})  # what a folder may be answered with to those who may not list it, there or not


def clean(subject: Subject) -> list[str]:
    """Return the paths that may be left, relative to the host's URL; none if all is gone."""
    subject.ending = True
    if not subject.written:
        return []
    with contextlib.suppress(Trouble):
        writing.claim(subject)  # the check may have been stopped before it came to that
    doubtful = [name for name, doubt in subject.written.items() if doubt]
    if not _delete_files(subject):
        return _all(subject)
    if doubtful:
        # What was given up may be done late; the connection was reset, so a moment is enough.
        subject.patience()
        if not _delete_files(subject, doubtful):
            return _all(subject)
    try:
        folder_gone = _remove_folder(subject)
        left = [name for name in subject.written if _is_there(subject, name)]
    except Trouble:
        return _all(subject)
    return left if folder_gone else [*left, folder_of(subject)]


def folder_of(subject: Subject) -> str:
    """Return the folder of the check, as it is named when nothing of ours is in it any more."""
    return f"{subject.folder}/ (the folder)"


def _all(subject: Subject) -> list[str]:
    return [f"{subject.folder}/ and what is in it"]


def _delete_files(subject: Subject, wanted: list[str] | None = None) -> bool:
    """Delete what may have been written; False if the host does not answer any more."""
    silent = 0
    for name in subject.written if wanted is None else wanted:
        silent = 0 if _answers_delete(subject, name) else silent + 1
        if silent == GIVE_UP:
            return False
    return True


def _answers_delete(subject: Subject, name: str) -> bool:
    try:
        subject.delete(name)
    except Trouble as trouble:
        return trouble.status is not None
    return True


def _remove_folder(subject: Subject) -> bool:
    """Remove the folder and all in it; True if it is gone, or was never made."""
    if not subject.own_folder or not FOLDER.fullmatch(subject.folder):
        status = subject.raw("HEAD", f"{subject.folder}/").status
        return status in GONE or (status in SECRET and not subject.taken)
    folders = {subject.folder}
    for name in subject.written:
        parts = name.split("/")[:-1]
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    # The whole tree at once if the server does that, else folder by folder, the deepest first.
    if _removed(subject, subject.folder):
        return True
    for folder in sorted(folders - {subject.folder}, key=lambda each: -each.count("/")):
        _removed(subject, folder)
    return _removed(subject, subject.folder)


def _removed(subject: Subject, folder: str) -> bool:
    # Our own node wants to be told the depth; the others take it for the one that there is (RFC 4918, section 9.6.1).
    status = subject.raw("DELETE", f"{names.quote(folder)}/", {"Depth": "infinity"}).status
    return status in GONE or status in (200, 204)


def _is_there(subject: Subject, name: str) -> bool:
    try:
        return subject.head(name) is not None
    except Trouble as trouble:
        if trouble.status is None:
            raise
        return False  # refused, so it was never taken: a folder that is in the way, or a name that is too long
