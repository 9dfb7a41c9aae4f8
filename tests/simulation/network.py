"""Media servers in memory, and the transport that reaches them, with everything that can go wrong on the way.

A host applies a PUT or a DELETE at once and as a whole, or never, as nginx, lighttpd and Apache do with a body that
came or did not come to its end. When it does so is the point: before the answer, with an answer that says that it
failed, without any answer, or up to LATENESS seconds after the one who asked went away or was killed, which is less
than the 20 s after which the product looks first; some histories have requests that lie for up to VERY_LATE seconds in
a proxy. Hosts may be our own nodes, which refuse a version that is lower than what they had. The history decides which
hosts are how; a request draws its fault.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host

from .kernel import Kernel, Killed, Process

__all__ = ["LATENESS", "VERY_LATE", "Network", "Server", "SimulatedTransport"]

LATENESS = 15.0  # seconds after its sender gave up, or died, that a request may still be carried out
VERY_LATE = 600.0  # the same, if it lies in a queue for minutes; less than the hour after which the product looks last
TIMEOUT = 2.0  # seconds without progress after which the product gives up
QUICK = 0.004  # seconds: an answer on a good day

# How a request for a host that is up can go wrong, and how often compared to the others.
FAULTS = {
    "refuses": 2,
    "hangs, never done": 2,
    "hangs, done": 2,
    "hangs, done late": 3,
    "cut, never done": 1,
    "cut, done": 1,
    "cut, done late": 2,
    "500, done": 2,
    "502, never done": 1,
    "502, done late": 1,
    "503, Retry-After": 1,
    "slow": 3,
}


@dataclass(eq=False)
class Request:
    """A PUT (with its content) or a DELETE (without) that a host has in its buffers."""

    server: Server
    name: str
    content: bytes | None
    era: int
    version: int = 0
    done: bool = False


@dataclass(eq=False)
class Server:
    """One media server. ``era`` counts its restarts: what was in its buffers before is gone."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    weather: str = "up"  # or "down", "silent" (no connection within the timeout), "403", "413", "busy"
    era: int = 0
    versions: dict[str, int] | None = None  # of files and of what was deleted, if it is a node of ours
    late: int = 0  # requests that it may still carry out, although nobody waits for the answer

    def apply(self, request: Request) -> None:
        """Carry a request out, once, unless the server was down since it came."""
        if request.done or request.era != self.era or self.weather == "down":
            return
        request.done = True
        if self.outdoes(request):
            return
        if self.versions is not None:
            self.versions[request.name] = request.version
        if request.content is None:
            self.files.pop(request.name, None)
        else:
            self.files[request.name] = request.content

    def outdoes(self, request: Request) -> bool:
        """True if it refuses the request: it has a higher version of the name."""
        return self.versions is not None and 0 < request.version < self.versions.get(request.name, 0)

    def stop(self) -> None:
        """Go down; what is in the buffers is lost."""
        self.era += 1
        self.weather = "down"


class Network:
    """All servers. ``unreliable`` is how often a request to a server that is up goes wrong; 0 once faults stop.

    ``very_late`` is how often what is late is very late. ``nodes``: the servers are our own, which know versions.
    """

    def __init__(self, kernel: Kernel, urls: list[str], counts: Counter[str], *, nodes: bool = False) -> None:
        self.kernel = kernel
        self.servers = {url: Server(url, versions={} if nodes else None) for url in urls}
        self.unreliable = self.very_late = 0.0
        self.counts = counts
        self.last_fault = 0.0
        self.under_way: Callable[[Server, str], None] = lambda server, name: None

    def draw(self) -> str:
        """Return the fault of one request, "" for none."""
        if self.kernel.chance.random() >= self.unreliable:
            return ""
        return self.kernel.chance.choices(list(FAULTS), list(FAULTS.values()))[0]

    def count(self, fault: str) -> None:
        self.counts[fault] += 1
        self.last_fault = self.kernel.now
        self.kernel.note(f"fault: {fault}")

    def later(self, request: Request) -> None:
        """Carry a request out when nobody waits for it any more."""
        very = self.kernel.chance.random() < self.very_late
        if very:
            self.count("a request is very late")
        moment = self.kernel.now + self.kernel.chance.random() * (VERY_LATE if very else LATENESS)
        request.server.late += 1

        def action() -> None:
            request.server.late -= 1
            request.server.apply(request)

        what = "DELETE" if request.content is None else f"PUT {request.content!r}"
        self.kernel.at(moment, f"{request.server.url}: LATE {what} {request.name}", action)

    def orphan(self, request: Request) -> None:
        """The sender of a request was killed while it was under way."""
        fate = self.kernel.chance.choice(("never done", "done", "done late", "done late"))
        self.count(f"sender killed, {fate}")
        if fate == "done":
            request.server.apply(request)
        elif fate == "done late":
            self.later(request)


class SimulatedTransport:
    """One process's transport, with the face of ``resto_wsgi.transports.Transport``."""

    def __init__(self, network: Network, kernel: Kernel, process: Process) -> None:
        self.network = network
        self.kernel = kernel
        self.process = process

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        self.kernel.step(f"{host.label}: connect, to PUT {name}")
        file.seek(0)  # it is open once for all hosts
        content = file.read()
        assert len(content) == size
        self._change(host, name, content, f"PUT {name} {content!r}", version)

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        self.kernel.step(f"{host.label}: connect, to DELETE {name}")
        self._change(host, name, None, f"DELETE {name}", version)

    def head(self, host: Host, name: str) -> int | None:
        self.kernel.step(f"{host.label}: HEAD {name}")
        self._reach(host, name, reads=True)
        content = self.network.servers[host.url].files.get(name)
        self.kernel.sleep(QUICK, f"{host.label}: answers HEAD {name}")
        return None if content is None else len(content)

    def get(self, host: Host, name: str, write: Callable[[Any], Any]) -> float | None:
        self.kernel.step(f"{host.label}: GET {name}")
        fault = self._reach(host, name, reads=True)
        content = self.network.servers[host.url].files.get(name)
        if content is None:
            raise FileNotFoundError(name)
        source = io.BytesIO(content)
        write(source.read(len(content) // 2))
        self.kernel.sleep(QUICK, f"{host.label}: sends {name}")
        if fault == "slow":
            raise self._error(host, name, "cut amid the body")
        write(source.read())
        return None

    def probe(self, host: Host) -> None:
        self.kernel.step(f"{host.label}: probe")
        self._reach(host, "", reads=True)

    def close(self) -> None:
        self.kernel.step("transport: close")

    # One request that changes something

    def _change(self, host: Host, name: str, content: bytes | None, label: str, version: int) -> None:
        server = self.network.servers[host.url]
        fault = self._reach(host, name, large=content is not None)
        request = Request(server, name, content, server.era, version)
        self.kernel.note(f"{host.label}: {label} is sent")
        try:
            self._carry_out(host, request, fault)
        except Killed:
            self.network.orphan(request)
            raise
        self.kernel.note(f"{host.label}: {label} is answered")

    def _carry_out(self, host: Host, request: Request, fault: str) -> None:
        server, name = request.server, request.name
        how, _, done = fault.partition(", ")
        self.network.under_way(server, name)
        self.kernel.sleep(TIMEOUT * self.kernel.chance.random() if how == "slow" else QUICK, f"{host.label}: works")
        if how in ("", "slow", "500", "hangs", "cut") and done in ("", "done"):
            if server.weather == "down" or request.era != server.era:
                raise self._error(host, name, "cut, for it went down")
            if how in ("", "slow") and server.outdoes(request):
                facts: Any = {"status": 412, "permanent": True, "untouched": True}
                assert server.versions is not None
                raise self._error(host, name, "answered 412", outdone_by=server.versions[name], **facts)
            server.apply(request)
        if how == "hangs":
            self.kernel.sleep(TIMEOUT, f"{host.label}: hangs")
        else:
            self.kernel.sleep(QUICK, f"{host.label}: answers")
        if done == "done late":
            self.network.later(request)
        if how == "503":
            after = self.kernel.chance.choice((0.5, 5.0, 20.0))
            raise self._error(host, name, "answered 503", status=503, retry_after=after)
        if how in ("500", "502"):
            raise self._error(host, name, f"answered {how}", status=int(how))
        if how in ("hangs", "cut"):
            raise self._error(host, name, fault)

    def _reach(self, host: Host, name: str, *, reads: bool = False, large: bool = False) -> str:
        """Connect and draw the fault of the request; raise DeliveryError where the host does not even begin."""
        server = self.network.servers[host.url]
        fault = self.network.draw() if server.weather not in ("down", "silent") else ""
        if fault:
            self.network.count(f"a host {fault}")
        if server.weather == "silent" or (reads and fault.startswith("hangs")):
            self.kernel.sleep(TIMEOUT, f"{host.label}: silent")
            raise self._error(host, name, "no connection within 2 s", untouched=True)
        if server.weather == "down" or fault == "refuses":
            raise self._error(host, name, "refuses connections", untouched=True)
        if server.weather == "busy":
            raise self._error(host, name, "answered 503", status=503, retry_after=self.kernel.chance.choice((None, 3)))
        if not reads and (server.weather == "403" or (server.weather == "413" and large)):
            raise self._error(host, name, server.weather, status=int(server.weather), permanent=True, untouched=True)
        if reads and fault.startswith("5"):
            raise self._error(host, name, f"answered {fault[:3]}", status=int(fault[:3]))
        return fault

    def _error(self, host: Host, name: str, reason: str, **facts: Any) -> DeliveryError:
        self.kernel.note(f"{host.label}: {reason}")
        return DeliveryError(host.label, name, reason, **facts)
