"""What hosts say when they are asked just now: each answers for itself, all at once, and nothing is noted."""

from __future__ import annotations

import threading
from typing import Any

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.status import Answer
from resto_wsgi.replication.asking import ask_for, ask_whether_up

HOSTS = [Host.of(f"http://media-0{number}") for number in range(3)]


class Told:
    """A transport that says what it was told to, once all hosts have been asked."""

    def __init__(self, **sizes: Any) -> None:
        self._together = threading.Barrier(len(HOSTS))
        self._sizes = sizes

    def probe(self, host: Host) -> None:
        self.head(host, "/")

    def head(self, host: Host, name: str) -> Any:
        self._together.wait(10)
        found = self._sizes[f"m{host.url[-1]}"]
        if isinstance(found, str):
            raise DeliveryError(host.label, name, found)
        return found


def test_all_hosts_are_asked_at_once_and_each_answers_for_itself() -> None:
    """One that fails takes nothing from the others: its reason is its answer."""
    transport: Any = Told(m0=12, m1=None, m2="refuses")
    asked = ask_for(transport, HOSTS, "cat")
    assert list(asked.values()) == [Answer(size=12), Answer(), Answer("refuses")] and list(asked) == HOSTS
    transport = Told(m0=None, m1="hangs", m2=None)
    assert [each.error for each in ask_whether_up(transport, HOSTS).values()] == ["", "hangs", ""]


def test_nobody_is_asked_if_there_are_no_hosts() -> None:
    """And no thread is made for it."""
    transport: Any = Told()
    assert ask_whether_up(transport, []) == {} == ask_for(transport, [], "cat")
