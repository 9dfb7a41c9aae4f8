"""What each host says when it is asked just now, for ``Replicator.status``: whether it answers, and what it holds.

All hosts are asked at once, a thread for each; the transport bounds how long one may take. Nothing is noted of what
they say: looking changes nothing, and when a host is tried again is for the worker and the breaker. What is remembered
must not be judged here either, see ``outbox.status``. The replicator calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..errors import DeliveryError
from ..hosts import Host
from ..outbox.status import Answer
from ..transports import Transport

__all__ = ["ask_for", "ask_whether_up"]

AT_ONCE = 64  # threads at most; each waits for one host

Question = Callable[[Host], "int | None"]


def ask_whether_up(transport: Transport, hosts: Sequence[Host]) -> Mapping[Host, Answer]:
    """Return for each host whether it answers."""
    return _ask(hosts, transport.probe)


def ask_for(transport: Transport, hosts: Sequence[Host], name: str) -> Mapping[Host, Answer]:
    """Return for each host what it holds under a name: the size of it, None for nothing."""
    return _ask(hosts, lambda host: transport.head(host, name))


def _ask(hosts: Sequence[Host], question: Question) -> Mapping[Host, Answer]:
    if not hosts:
        return {}
    with ThreadPoolExecutor(min(len(hosts), AT_ONCE)) as pool:
        return dict(zip(hosts, pool.map(lambda host: _answer(host, question), hosts), strict=True))


def _answer(host: Host, question: Question) -> Answer:
    try:
        return Answer(size=question(host))
    except DeliveryError as error:
        return Answer(error.reason)
