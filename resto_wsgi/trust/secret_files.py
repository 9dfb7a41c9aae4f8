"""Files that hold secrets: who else may have them, how they are read, and when they are read anew.

A file that others may read or change is refused, as ssh refuses such a key. With ``group`` a group may have it, whoever
the owner is; else only if the owner is root, who gives files to a group to read in Debian, systemd and Kubernetes.

While a program runs, a changed file replaces what was read of it (``Reread``). One that is broken, or half written,
does not: what was read before stays in force, and the log says so once for each state of the file. It is tried again
all the same, for it may have been this program that could not read it: too many open files. No error here shows
anything of a file but its path. The transport and the media server call this.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import ConfigError, shown

__all__ = ["Reread", "judge", "read"]

SECRET_FILE_MAX = 1024 * 1024  # bytes of a file of secrets; a line has some hundred
OTHERS = 0o077  # what nobody but the owner may do
OTHERS_OF_ROOT = 0o037  # the same if root has it: it may let a group read, but not write
EVERYBODY = 0o007  # what nobody may do who is neither the owner nor of the group
LOOK = 1.0  # seconds between two looks whether a file has changed

T = TypeVar("T")

log = logging.getLogger("resto_wsgi")


def judge(setting: str, path: str, status: os.stat_result, *, group: bool = False) -> None:
    """Raise ConfigError for ``setting`` if others may read or change the file, or it is none."""
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(setting, f"{shown(path, 300)} is not a file")
    refused = EVERYBODY if group else OTHERS if status.st_uid else OTHERS_OF_ROOT
    if status.st_mode & refused:
        raise ConfigError(setting, f"others may read or change {shown(path, 300)}; chmod 600 it")


def read(setting: str, path: str, *, group: bool = False) -> str:
    """Return the text of a file; raise ConfigError for ``setting`` if it cannot be had, or others may have it."""
    try:
        # Not to wait for somebody who writes into a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            judge(setting, path, os.fstat(file.fileno()), group=group)
            content = file.read(SECRET_FILE_MAX + 1)
        if len(content) > SECRET_FILE_MAX:
            raise ConfigError(setting, f"{shown(path, 300)} is longer than {SECRET_FILE_MAX} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            setting, f"{shown(path, 300)} cannot be read: {error.strerror or type(error).__name__}"
        ) from None
    except UnicodeError:
        raise ConfigError(setting, f"{shown(path, 300)} is not in UTF-8") from None


class Reread(Generic[T]):
    """What ``load`` made of the file at ``path``, made anew when the file has changed; both raise ConfigError at first.

    ``clock`` is in seconds from any moment. Threads may share it.
    """

    def __init__(self, path: str, load: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._load = load
        self._clock = clock
        self._state = _state(path)  # before it is read: a change amid the reading is one
        self._value = load()
        self._failed = False
        self._next = clock() + LOOK
        self._looking = threading.Lock()

    def __call__(self) -> T:
        """Return what is in force. Looks at the file at most once in LOOK seconds, and in one thread."""
        if self._clock() >= self._next and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._next = self._clock() + LOOK
                self._looking.release()
        return self._value

    def _look(self) -> None:
        state = _state(self._path)
        told = state == self._state
        if told and not self._failed:
            return
        self._state, self._failed = state, True
        try:
            self._value = self._load()
        except ConfigError as error:
            if told:
                return
            log.warning("%s; what was read of %s before stays in force", error, shown(self._path, 300))
        else:
            self._failed = False
            log.info("%s has changed and was read anew", shown(self._path, 300))


def _state(path: str) -> tuple[int, ...]:
    """Return what differs when a file is written, replaced, given away or opened to others."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
