"""What is known of a file beside its bytes: its SHA-256, and the generation that its sender gave it.

Both are extended attributes, set while the file is staged. They appear with its name, in the same rename, and go with
it. So there is nothing to clean up, and nothing that could disagree with the file.

    digest      ``user.resto.sha256``, with the size, mtime and inode of the very file it was computed of: on one that
                was written in place, or copied with its attributes, it counts for nothing and is computed anew
    generation  ``user.resto.generation``; if the file system has no attributes, and for a name that was deleted
                (its tombstone), a file of ``.resto/generations``, which is durable before the name changes

So a crash leaves at worst a generation that is newer than its file. That is harmless: its sender was not answered
and sends that generation again, and what it must keep out, older ones, it keeps out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator

from ...master.hashing import blocks_of, sha256_of
from ...master.hidden import make_hidden
from ...master.state import State

__all__ = ["Generations", "compute_digest", "mark_digest", "mark_generation", "read_digest", "read_generation"]

DIGEST = "user.resto.sha256"
GENERATION = "user.resto.generation"
NO_ATTRIBUTES = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
HASHING = threading.BoundedSemaphore(2)  # files at a time, on behalf of anybody who asks: the rest of the cores serve


def mark_digest(fd: int, sha256: bytes) -> None:
    """Note the SHA-256 of an open file whose size and mtime are final. If that fails, it is not known later."""
    with contextlib.suppress(OSError):
        os.setxattr(fd, DIGEST, f"{_identity(State.of(os.fstat(fd)))} {sha256.hex()}".encode())


def read_digest(fd: int, state: State) -> bytes | None:
    """Return the SHA-256 that is noted for this very file."""
    with contextlib.suppress(OSError, ValueError):
        identity, _, digest = os.getxattr(fd, DIGEST).decode("ascii").rpartition(" ")
        if identity == _identity(state) and len(digest) == 64:
            return bytes.fromhex(digest)
    return None


def compute_digest(fd: int, state: State) -> bytes | None:
    """Return the SHA-256 of an open file, and note it; None if it changes meanwhile, or too many are computed."""
    if not HASHING.acquire(blocking=False):
        return None
    try:
        digest = sha256_of(blocks_of(fd))
        if State.of(os.fstat(fd)) != state:
            return None
    finally:
        HASHING.release()
    mark_digest(fd, digest)
    return digest


def mark_generation(fd: int, generation: int) -> bool:
    """Note the generation of an open file; return False if the file system has no attributes."""
    try:
        os.setxattr(fd, GENERATION, str(generation).encode())
    except OSError as error:
        if error.errno in NO_ATTRIBUTES:
            return False
        raise
    return True


def read_generation(fd: int) -> int | None:
    """Return the generation that an open file has, None if it has none.

    Raises NotImplementedError if the file system has no attributes, so that it may be noted elsewhere.
    """
    try:
        return int(os.getxattr(fd, GENERATION))
    except ValueError:
        return None
    except OSError as error:
        if error.errno in NO_ATTRIBUTES:
            raise NotImplementedError from error
        return None


class Generations:
    """Generations of names that have no file to hold them, one small file each in ``folder``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, name: str) -> int | None:
        """Return the generation of a name, None if none is noted here."""
        with contextlib.suppress(FileNotFoundError, ValueError), open(self._path(name), encoding="utf-8") as file:
            return int(file.readline())
        return None

    def write(self, name: str, generation: int) -> None:
        """Note the generation of a name, durably. The caller holds the lock of the name. Raises OSError."""
        make_hidden(self._folder)
        path = self._path(name)
        aside = f"{path}.{secrets.token_hex(4)}"
        try:
            with open(aside, "x", encoding="utf-8") as file:
                file.write(f"{generation}\n{name}\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        # The rename, too, has to be durable before the file of the name changes.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, name: str, noted_before: float | None = None) -> None:
        """Forget the generation of a name, if it was noted before that time. The caller holds the name's lock."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            if noted_before is None or os.stat(path).st_mtime < noted_before:
                os.unlink(path)

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the names whose generation was noted before ``seconds`` since 1970; remove what is half written."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError, ValueError):
                    if entry.stat().st_mtime < seconds:
                        with open(entry.path, encoding="utf-8") as file:
                            _, name = file.read().split("\n")[:2]
                        if "." in entry.name:
                            os.unlink(entry.path)
                        else:
                            yield name

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, hashlib.sha256(name.encode()).hexdigest())


def _identity(state: State) -> str:
    """Return what a digest is noted with: what differs for another file, also after the machine has started anew."""
    return f"{state.size} {state.mtime_ns} {state.inode}"
