"""What the tests of converging share: a real master and outbox, and transports into which faults are scripted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.outbox.outbox import Delivery, Outbox
from resto_wsgi.replication.batch import Attempt, Batch
from resto_wsgi.replication.convergence import Convergence
from resto_wsgi.replication.distributed import Distributed
from resto_wsgi.replication.fanout import Fanout
from resto_wsgi.replication.modes import Hybrid
from resto_wsgi.replication.on_master import OnMaster
from resto_wsgi.transports import Transport
from resto_wsgi.transports.http.transport import HttpTransport

NOW = 1_000_000.0
CAT, DOG = b"a cat" * 1000, b"a dog" * 1000  # of one size
ONE, TWO = Host("one", "http://one/media"), Host("two", "http://two/media")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A transport whose hosts are dictionaries: ``fails`` says what a host answers, ``under_way`` what else happens."""

    def __init__(self) -> None:
        self.holds: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.fails: dict[str, DeliveryError] = {}
        self.under_way: Callable[[], object] = lambda: None

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        self._ask("PUT", host, name)
        self.holds.setdefault(host.label, {})[name] = os.pread(file.fileno(), size, 0)
        self.under_way()

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        self._ask("DELETE", host, name)
        self.holds.get(host.label, {}).pop(name, None)
        self.under_way()

    def head(self, host: Host, name: str) -> int | None:
        self._ask("HEAD", host, name)
        held = self.holds.get(host.label, {}).get(name)
        return None if held is None else len(held)

    def get(self, host: Host, name: str, write: Callable[[bytes], Any]) -> float | None:
        self._ask("GET", host, name)
        try:
            write(self.holds.get(host.label, {})[name])
        except KeyError:
            raise FileNotFoundError(name) from None
        return None

    def probe(self, host: Host) -> None:
        self._ask("PROBE", host, "/")

    def close(self) -> None:
        """Nothing to close."""

    def _ask(self, method: str, host: Host, name: str) -> None:
        self.asked.append((method, host.label, name))
        if host.label in self.fails:
            raise self.fails[host.label]


class Interfered:
    """HTTP, but whatever is in ``meanwhile`` happens, one after the other, before a request has its answer."""

    def __init__(self) -> None:
        self._http = HttpTransport(5.0)
        self.get = self._http.get
        self.probe, self.close = self._http.probe, self._http.close
        self.meanwhile: list[Callable[[], object]] = []
        self.asked: list[str] = []

    def put(self, *arguments: Any) -> None:
        self.asked.append("PUT")
        self._http.put(*arguments)
        self._happen()

    def delete(self, *arguments: Any) -> None:
        self.asked.append("DELETE")
        self._http.delete(*arguments)
        self._happen()

    def head(self, *arguments: Any) -> int | None:
        self.asked.append("HEAD")
        size = self._http.head(*arguments)
        self._happen()
        return size

    def _happen(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()


class Party:
    """A master, an outbox, and the convergence of some hosts."""

    def __init__(self, folder: Path, hosts: Any, transport: Transport, *, distributed: bool = False) -> None:
        self.clock = Clock()
        self.root = folder / "media"
        self.hosts = tuple(each if isinstance(each, Host) else Host(each.url, each.url) for each in hosts)
        self.transport = transport
        self.media_root = MediaRoot(str(self.root), fsync=False)
        self.outbox = Outbox(str(folder / "outbox.sqlite3"), clock=self.clock)
        for host in self.hosts:
            self.outbox.admit(host)
        self.fanout = Fanout(transport)
        parts = (self.media_root, self.outbox, transport)
        self.distributed = distributed
        mode = Hybrid(self.hosts, *parts)
        self.mode = Distributed(self.hosts, *parts, self.clock) if distributed else mode
        on_master = OnMaster(*parts, ())
        self.convergence = Convergence(
            self.media_root, self.outbox, self.fanout, self.mode, on_master, self.clock, lambda: 0.0
        )

    def write(self, content: bytes = CAT, name: str = "cat") -> None:
        """Change the master as somebody does who knows of no lock."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.root / "aside"
        aside.write_bytes(content)
        aside.rename(path)

    def remove(self) -> None:
        (self.root / "cat").unlink()

    def unmount(self) -> None:
        """Show the empty folder on which the media root's disk is mounted."""
        self.root.rename(self.root.with_name("unmounted"))
        self.root.mkdir()

    def owe(self, *hosts: Host, name: str = "cat", **options: Any) -> dict[Host, Delivery]:
        """Record a name as a save does that is about to send it."""
        usual = {"begin": True, "due": self.clock.now, "gone": self.distributed}
        owed = self.outbox.record(name, hosts or self.hosts, **usual | options)
        for host in self.hosts:  # what is recorded for some is not said to the others, which are members all the same
            self.outbox.admit(host)
        return owed

    def owing(self, name: str = "cat") -> set[Host]:
        return {*self.outbox.deliveries(name)}

    def converge(self, name: str = "cat") -> dict[Host, DeliveryError | None]:
        """Make every host match, whatever is owed."""
        attempts = self.convergence.converge(Batch.of_name(unowed(host, name) for host in self.hosts))
        return {attempt.host: attempt.error for attempt in attempts}

    def deliver(self, host: Host, name: str = "cat") -> DeliveryError | None:
        """Make one host match."""
        (attempt,) = self.convergence.converge(Batch.of_name([unowed(host, name)]))
        return attempt.error

    def settle(self, delivery: Delivery, error: DeliveryError | None = None) -> None:
        self.convergence.settle([Attempt(delivery.host, delivery, error)], self.outbox.host_states())

    def close(self) -> None:
        self.fanout.close()
        self.transport.close()
        self.outbox.close()
        self.media_root.close()


def unowed(host: Host, name: str = "cat") -> Delivery:
    """A delivery that nobody has recorded."""
    return Delivery(host, name, 0, NOW, NOW, 0, False, 0.0, None, "")


def refusal(status: int, *, permanent: bool, host: Host = ONE) -> DeliveryError:
    return DeliveryError(host.label, "cat", f"answered {status}", status=status, permanent=permanent)
