"""What may be wrong with an SQLite file, in words for the person who has to repair it.

SQLite's own texts are the key: its error codes are not in Python 3.10, and the texts have not changed in many years.
Nothing here opens the file, because to close it would drop the locks that this process has on it. Nothing is repaired
here. Opening, the session and the group commit call this.
"""

from __future__ import annotations

import errno
import os
import re

from ..errors import OutboxError

__all__ = ["AFRESH", "DAMAGED", "ELSEWHERE", "explain", "explain_os"]

# A fresh outbox owes each host all that there is, but knows nothing of what was deleted: see ``loss``.
AFRESH = "restart: each host is sent all that there is again; a delete that was owed must be made again"
DAMAGED = f"move it away and {AFRESH}"
ELSEWHERE = "set RESTO_OUTBOX to a path on a local disk"
FREE = "free some space there"
WRITABLE = "let the user that runs the application write it and its folder"
ROOM = 128 * 1024  # bytes: -shm and the first page of -wal need less than that

_TEXTS = (  # a part of SQLite's text, the problem, the remedy; the first that is found counts
    ("is full", "no space is left", FREE),
    ("readonly", "cannot be written", WRITABLE),
    ("file is not a database", "is not a database, or its beginning is damaged", f"if it was an outbox, {DAMAGED}"),
    ("malformed", "is damaged", DAMAGED),
    ("Could not decode", "is damaged", DAMAGED),
    ("no such", "is damaged: something that it must hold is missing", DAMAGED),
    ("locking protocol", "its file system does not lock files", ELSEWHERE),
    ("unable to open", "cannot be opened", WRITABLE),
    ("disk I/O error", "the disk does not read or write it", f"look at the disk, or {ELSEWHERE}"),
)

_ERRNOS = {
    errno.ENOENT: ("its folder does not exist", "make the folder, or set RESTO_OUTBOX to another path"),
    errno.ENOTDIR: ("its folder is a file", "set RESTO_OUTBOX to another path"),
    errno.EACCES: ("cannot be opened or made", WRITABLE),
    errno.EPERM: ("cannot be opened or made", WRITABLE),
    errno.EROFS: ("its file system is read-only", "mount it writable, or " + ELSEWHERE),
    errno.ENOSPC: ("no space is left", FREE),
    errno.EDQUOT: ("the quota is used up", "raise the quota there"),
    errno.EMFILE: ("no more files can be opened", "raise the limit of open files (ulimit -n)"),
    errno.ENFILE: ("no more files can be opened", "raise the system's limit of open files (sysctl fs.file-max)"),
    errno.ENOLCK: ("its file system does not lock files", ELSEWHERE),
}


def explain(path: str, error: Exception) -> OutboxError:
    """Return the OutboxError for an error of SQLite. It looks at the disk, and is called only if something is wrong."""
    text = str(error)
    if "locked" in text:
        problem = f"{_holder(path)} has kept it locked for too long"
        return OutboxError(path, problem, "see what that process waits for, and end it where it hangs")
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        return OutboxError(path, "is a folder", "set RESTO_OUTBOX to the path of a file")
    if _read_only(folder):
        return explain_os(path, OSError(errno.EROFS, ""))
    if "disk I/O" in text and _full(folder):
        return explain_os(path, OSError(errno.ENOSPC, ""))
    for part, problem, remedy in _TEXTS:
        if part in text:
            return OutboxError(path, problem, remedy, full=part == "is full")
    return OutboxError(path, f"SQLite says: {text}", "look at the file and its disk; " + DAMAGED)


def explain_os(path: str, error: OSError) -> OutboxError:
    """Return the OutboxError for an error of the file system, by its errno."""
    other = (f"cannot be opened or made: {error.strerror or error}", "look at its folder, or " + ELSEWHERE)
    problem, remedy = _ERRNOS.get(error.errno or 0, other)
    return OutboxError(path, problem, remedy, full=error.errno in (errno.ENOSPC, errno.EDQUOT))


def _read_only(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _full(folder: str) -> bool:
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < ROOM


def _holder(path: str) -> str:
    """Return the process that holds SQLite's write lock, byte 120 of -shm, if the kernel tells."""
    try:
        inode = os.stat(path + "-shm").st_ino
        with open("/proc/locks") as locks:
            for line in locks:
                found = re.search(rf"POSIX +ADVISORY +WRITE +(\d+) \S+:{inode} (\d+) (\d+)", line)
                if found and int(found[2]) <= 120 <= int(found[3]):
                    return _process(int(found[1]))
    except (OSError, ValueError):
        pass
    return "another process"


def _process(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return f"process {pid} ({ascii(file.read().strip())[1:-1]})"
    except OSError:
        return f"process {pid}"
