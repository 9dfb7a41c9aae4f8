"""What a root's file permissions say, also to tests that run as root: for the folders that nobody may list."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

__all__ = ["plain_user"]

VERSION = 0x20080522  # of capget(2) with two sets of 32 bits
WITHOUT = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: they read and list what permissions forbid


@contextlib.contextmanager
def plain_user() -> Iterator[None]:
    """Take from this thread, and from those that it starts, the right to read what the permissions forbid."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    if libc.capget(head, sets):
        raise OSError(ctypes.get_errno(), "capget")
    before = sets[0]
    sets[0] = before & ~WITHOUT
    if libc.capset(head, sets):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(head, sets)
