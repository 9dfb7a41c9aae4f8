"""A request before it is sent: what it asks, the bytes of its head, and what its host is shown with it.

A head is made anew for each attempt, since a signature is good once. Fields are ours: a line break in one is a defect
and never sent. No socket here. ``job``, ``reading``, ``raw`` and ``transport`` call this.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import BinaryIO, NamedTuple

from .connection import Origin
from .outgoing import request_head

__all__ = ["Request", "head_of"]


class Request(NamedTuple):
    """``target`` is the percent-encoded path below the host's own, with a slash; ``file`` is sent from its beginning.

    A reply whose status is one of ``streamed`` is the job's ``reply``; the caller reads it, and then lets go of it.
    """

    method: str
    target: str
    fields: Mapping[str, str] = {}
    file: BinaryIO | None = None
    size: int = 0
    streamed: Container[int] = ()


def head_of(origin: Origin, method: str, target: str, fields: Mapping[str, str]) -> bytes:
    """Return the head of a request: what every request says, ``fields``, and a signature if its host wants one."""
    said = {**origin.common, **fields}
    if origin.signer is not None:
        said |= origin.signer(method, origin.url + target, said)
    return request_head(method, origin.path + target, origin.authority, said)
