"""Every exception that resto_wsgi raises, in one tree, to be caught by its root or by its kind.

    RestoError
    ├── ConfigError          a setting is unknown, ill-typed, or contradicts another
    ├── NameRejected         a name that could leave the media root, or that some media server cannot hold
    ├── UploadRejected       a request that is answered by us with ``http_status``, before the application
    ├── SignatureRejected    a request whose signature is missing, not good, too old or seen before
    ├── MediaRootError       the local disk refused: full, read-only, no hard links
    ├── OutboxError          what is owed cannot be recorded or read: no folder, no space, damaged, too new
    ├── DeliveryError        one host did not take one name
    └── ReplicationError     too few hosts hold a name: the DeliveryError of each host that failed

Each error stores facts and builds its one line in ``__str__``. Strings that a client chose are shown through ``shown``,
so that no client writes a log line of its own. Third-party exceptions are translated where their library is imported,
never here. Every module may raise these.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

__all__ = [
    "ConfigError",
    "DeliveryError",
    "MediaRootError",
    "NameRejected",
    "OutboxError",
    "ReplicationError",
    "RestoError",
    "SignatureRejected",
    "UploadRejected",
    "counted",
    "shown",
]


def shown(text: object, limit: int = 80) -> str:
    """Return ``text`` as printable ASCII of at most ``limit`` characters, quoted, safe in a log line or a page."""
    quoted = ascii(str(text))
    for mark, escape in (("<", "\\x3c"), (">", "\\x3e"), ("&", "\\x26")):
        quoted = quoted.replace(mark, escape)
    return quoted if len(quoted) <= limit else f"{quoted[: limit - 4]}...{quoted[0]}"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words for people: "1 byte", "2,400 bytes"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class RestoError(Exception):
    """The root of the tree."""


class ConfigError(RestoError):
    """A setting is unknown, ill-typed, or contradicts another; raised at start, never while serving."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(setting, problem)
        self.setting = setting
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}"


class NameRejected(RestoError):
    """A name that is not a clean relative path, or that some media server cannot hold."""

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"name {shown(self.name)}: {self.reason}"


class UploadRejected(RestoError):
    """A request that must not reach the application; the middleware answers it with ``http_status``.

    ``reason`` is shown to the client. It must be one line, and hold a client's string only through ``shown``.
    ``http_status`` is from 400 to 599, or from 300 on to send the client elsewhere; ValueError otherwise. ``headers``
    are added to the answer (``WWW-Authenticate`` with a 401, ``Location`` with a 303). The intake raises this, and so
    do an application's own ``authorize``, ``catch``, ``upload_to`` and ``validate``.
    """

    def __init__(self, reason: str, http_status: int = 400, headers: Sequence[tuple[str, str]] = ()) -> None:
        if not 300 <= http_status <= 599:
            raise ValueError(f"UploadRejected takes a status from 300 to 599, not {http_status!r}")
        super().__init__(reason, http_status)
        self.reason = reason
        self.http_status = http_status
        self.headers = tuple(headers)

    def __str__(self) -> str:
        return self.reason


class SignatureRejected(RestoError):
    """The signature of a request is missing or not good. ``reason`` is one line for the client, and holds no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"signature: {self.reason}"


ROOT_ID = ".resto/id"  # below each media root: what tells it from another


class MediaRootError(RestoError):
    """The local disk refused an operation on a name; ``errno`` says why."""

    def __init__(self, action: str, name: str, cause: OSError) -> None:
        super().__init__(action, name, cause)
        self.action = action
        self.name = name
        self.errno = cause.errno
        self.strerror = cause.strerror or str(cause)

    @property
    def full(self) -> bool:
        """True if no space is left, on the disk or in the quota."""
        return self.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

    @property
    def away(self) -> bool:
        """True if the media root itself is not there, or is another one: its disk may have been unmounted."""
        return self.name == ROOT_ID

    def __str__(self) -> str:
        remedy = _REMEDIES.get(self.errno or 0, "look at the disk of MEDIA_ROOT and its permissions")
        return f"cannot {self.action} {shown(self.name)} in MEDIA_ROOT: {self.strerror}; {remedy}"


_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "raise the quota there",
    errno.EFBIG: "raise the file size limit there",
    errno.EPERM: "it must be writable and on a file system with hard links",
    errno.EOPNOTSUPP: "it must be on a file system with hard links",
    errno.EXDEV: "a folder in it is another file system; name that folder in RESTO_LINKED_FOLDERS",
    errno.ELOOP: "put a file or a folder in its place, or name a linked folder in RESTO_LINKED_FOLDERS",
    errno.ENODEV: "see that its disk is mounted",
    errno.EEXIST: "save it under another name, or with overwrite=True",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class OutboxError(RestoError):
    """What is owed cannot be recorded or read. ``path`` is the outbox, ``full`` True if no space is left there."""

    def __init__(self, path: str, problem: str, remedy: str, *, full: bool = False) -> None:
        super().__init__(path, problem, remedy)  # pickle calls it with these; ``full`` comes from __dict__
        self.path = path
        self.problem = problem
        self.remedy = remedy
        self.full = full

    def __str__(self) -> str:
        return f"outbox {shown(self.path, 300)}: {self.problem}; {self.remedy}"


class DeliveryError(RestoError):
    """One host did not take one name. The error is never changed: ``with_facts`` makes another one with other facts.

    ``host`` is its label, for people. ``status`` is the HTTP status (an int) if one came, else None. ``permanent`` is
    True if the same request cannot help before somebody changes the host. ``untouched`` is True if the host has not
    done what was asked and never will, because no byte of it was sent, or because the host answered 4xx. In all other
    cases the host may have done it, or may do it late. ``retry_after`` is how many seconds the host asked us to wait,
    if it did. ``ours`` is True if the cause is on this side, an unreadable master for instance, and says nothing about
    the host. ``outdone_by`` is the version that the host has, if it refused ours as older, else None.
    """

    host: str
    name: str
    reason: str
    status: int | None
    permanent: bool
    untouched: bool
    retry_after: float | None
    ours: bool
    outdone_by: int | None

    def __init__(
        self,
        host: str,
        name: str,
        reason: str,
        *,
        status: int | None = None,
        permanent: bool = False,
        untouched: bool = False,
        retry_after: float | None = None,
        ours: bool = False,
        outdone_by: int | None = None,
    ) -> None:
        super().__init__(host, name, reason)
        vars(self).update(host=host, name=name, reason=reason, status=status, permanent=permanent)
        vars(self).update(untouched=untouched, retry_after=retry_after, ours=ours, outdone_by=outdone_by)

    def with_facts(self, **facts: Any) -> DeliveryError:
        """Return another error with these facts and else the facts of this one; its cause is the same."""
        error = DeliveryError(**(self._facts() | facts))
        error.__cause__ = self.__cause__
        return error

    def _facts(self) -> dict[str, Any]:
        return {fact: vars(self)[fact] for fact in _FACTS}

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FACTS:
            raise AttributeError(f"a DeliveryError is not changed; with_facts({name}=...) makes another one")
        super().__setattr__(name, value)  # Python itself sets tracebacks and causes this way

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(DeliveryError, **self._facts()), ()

    def __str__(self) -> str:
        return f"{self.host}: {shown(self.name)}: {self.reason}"


_FACTS = tuple(DeliveryError.__annotations__)


class ReplicationError(RestoError):
    """Too few hosts took a name; ``failures`` maps each host that failed to its DeliveryError.

    ``action`` is "save", "delete" or "read". ``done`` is the number of hosts that did it, ``required`` the number that
    had to. ``retry_after`` is the number of seconds after which a client may sensibly try again. A save was withdrawn.
    A delete stays owed to the hosts that failed, and is done when they are back.
    """

    retry_after = 5

    def __init__(self, action: str, name: str, failures: Mapping[str, DeliveryError], done: int, required: int) -> None:
        super().__init__(action, name, failures, done, required)
        self.action = action
        self.name = name
        self.failures = dict(failures)
        self.done = done
        self.required = required

    def __str__(self) -> str:
        each = "; ".join(f"{host}: {failure.reason}" for host, failure in sorted(self.failures.items()))
        rest = "; it stays owed to them" if self.action == "delete" else ""
        what = f"{self.action} {shown(self.name)}"
        return f"{what}: done by {counted(self.done, 'media server')}, {self.required} required: {each}{rest}"
