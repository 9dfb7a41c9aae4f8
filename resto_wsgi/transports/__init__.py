"""How a file travels to one host. A transport is the only module that speaks that host's language.

Duties of each transport, which the fan-out and the replicator rely on:

- ``put`` returns when the host has answered that it holds all ``size`` bytes under the name, and ``delete`` when
  the host has answered that it does not hold the name; both may be repeated at will. Any other end is a
  ``DeliveryError``, after which the host's state is unknown.
- Both return or raise within a bounded time, read a bounded reply, and follow no redirect.
- Nothing is retried but a request on a kept-alive connection that the host had already closed.
- Any thread may call; a process that forks makes its own connections.
"""

from __future__ import annotations

from typing import BinaryIO, Protocol

from ..hosts import Host

__all__ = ["Transport"]


class Transport(Protocol):
    """What the replicator needs of a transport."""

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float) -> None:
        """Make ``host`` hold exactly the ``size`` bytes of ``file``; ``mtime`` is in seconds since 1970."""

    def delete(self, host: Host, name: str) -> None:
        """Make ``host`` not hold ``name``."""

    def close(self) -> None:
        """Close all connections."""
