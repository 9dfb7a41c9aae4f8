"""The bytes that are sent: each file has its own, and whoever checks makes them again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

__all__ = ["blocks", "digest", "digest_of_file", "files_under", "payload"]

BLOCK = 1024 * 1024


def payload(number: int, size: int) -> bytes:
    """Return the ``size`` bytes of a small file."""
    return hashlib.shake_128(b"%d" % number).digest(size)


def blocks(size: int) -> Iterator[bytes]:
    """Yield the bytes of a large file: random ones, as a photograph or a film seems to be."""
    block = payload(0, BLOCK)
    for number in range(size // BLOCK):
        yield b"%08d" % number + block[8:]
    yield block[: size % BLOCK]


def digest(pieces: Iterable[bytes]) -> str:
    sha256 = hashlib.sha256()
    for piece in pieces:
        sha256.update(piece)
    return sha256.hexdigest()


def digest_of_file(file: BinaryIO) -> str:
    return digest(iter(lambda: file.read(BLOCK), b""))


def files_under(folder: str) -> dict[str, str]:
    """Return the paths of all files below, by name; what begins with a dot is not for the public."""
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in names:
            whole = os.path.join(path, name)
            found[os.path.relpath(whole, folder)] = whole
    return found
