"""The interface of a transport, which moves files to one host and back. Only it speaks that host's language.

Duties of each transport, which the fan-out, the worker and the replicator rely on:

- ``put`` returns when the host has answered that it holds all ``size`` bytes under the name, and ``delete`` when
  the host has answered that it does not hold the name; both may be repeated at will. Any other end is a
  ``DeliveryError``, after which the host's state is unknown, unless the error says ``untouched``.
- ``untouched`` is True only if the host can neither have done what was asked nor do it later: no byte of any
  request reached it, or its final answer was a refusal (4xx) of the only one that did. In doubt it is False.
- ``retry_after`` is how many seconds the host asked us to wait, from 0 to 3600, None if it did not.
- All return or raise within a bounded time, read a bounded reply (except the file that ``get`` asks for, which is
  streamed), and follow no redirect.
- Nothing is retried, except a request on a kept-alive connection that the host had already closed.
- Any thread may call; a process that forks makes its own connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, runtime_checkable

from ..hosts import Host
from .driving import Job

__all__ = ["DrivenTransport", "Transport"]


class Transport(Protocol):
    """What the replicator needs of a transport."""

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        """Make ``host`` hold exactly the ``size`` bytes of ``file``; ``mtime`` is in seconds since 1970.

        ``version`` is told to the host, if it is not 0. A host that knows versions refuses one that is lower than what
        it has of the name; the error says then what that is (``outdone_by``).
        """

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        """Make ``host`` not hold ``name``; ``version`` is as for ``put``."""

    def head(self, host: Host, name: str) -> int | None:
        """Return the size of the file in bytes, None if the host answers that it does not hold the name."""

    def get(self, host: Host, name: str, write: Callable[[bytes], Any]) -> float | None:
        """Give the file to ``write``, block by block; return its mtime, None if the host does not say it.

        Returns when all of the file was written; any other end leaves a part of it there. Raises FileNotFoundError
        if the host does not hold the name, and what ``write`` raises. Time spent in ``write`` is not the host's.
        """

    def probe(self, host: Host) -> None:
        """Return nothing if the host answers and is neither overloaded nor out of service, else raise DeliveryError."""

    def close(self) -> None:
        """Close all connections."""


@runtime_checkable
class DrivenTransport(Transport, Protocol):
    """A transport whose PUT and DELETE can be driven, many in one thread, as jobs that were not started."""

    def put_job(
        self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, along: object = None, version: int = 0
    ) -> Job:
        """Return the job of ``put``; ``file`` has to be open until the job is over.

        ``along`` is what the caller of ``Replicator.carry`` gave along, for a transport that knows what to make of it;
        None for what the worker delivers, and for all that an application does. Nobody in between looks at it, nor at
        the job's ``value``, which goes back to that caller.
        """

    def delete_job(self, host: Host, name: str, along: object = None, version: int = 0) -> Job:
        """Return the job of ``delete``; ``along`` is as for ``put_job``."""
