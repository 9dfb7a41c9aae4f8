"""The clients: keep-alive connections of plain sockets, driven by one thread, each with one request under way.

They run in a process of their own, send the same bytes over and over, and are as cheap as Python allows, so that what
they measure is the server. The processor time is the server's: of gunicorn and all its workers, while the clock runs.
"""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import time
from typing import Any

from .clock import peak_rss
from .payload import payload

__all__ = ["FILENAME", "body", "run"]

FILENAME = "cat.jpg"
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
WARM_UP = 3  # requests of each connection before the clock starts
PATIENCE = 30.0  # seconds without any answer
TICKS = os.sysconf("SC_CLK_TCK")


def body(size: int) -> bytes:
    """Return the file that every request carries."""
    return payload(size, size)


class _Client:
    def __init__(self, address: tuple[str, int], request: bytes, selector: selectors.BaseSelector) -> None:
        self._request = request
        self._selector = selector
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.began = 0.0
        selector.register(self._socket, selectors.EVENT_WRITE, self)

    def begin(self) -> None:
        self.began = time.perf_counter()
        self._unsent = memoryview(self._request)
        self._reply = b""
        self.step(selectors.EVENT_WRITE)

    def step(self, event: int) -> bytes | None:
        """Go on; return the status when the answer is whole."""
        if event & selectors.EVENT_READ:
            return self._receive()
        if self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                return None
        self._selector.modify(self._socket, selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ, self)
        return None

    def _receive(self) -> bytes | None:
        block = self._socket.recv(65536)
        if not block:
            raise ConnectionError(f"the server closed a connection after {self._reply[:200]!r}")
        self._reply += block
        head, found, rest = self._reply.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0])
        return head[9:12] if len(rest) >= length else None

    def close(self) -> None:
        self._selector.unregister(self._socket)
        self._socket.close()


def run(port: int, clients: int, size: int, seconds: float, server: int, profile: bool = False) -> dict[str, Any]:
    """Send requests for ``seconds``; ``server`` is gunicorn's pid. ``sent`` counts all, ``units`` the timed ones."""
    with selectors.DefaultSelector() as selector:
        request = _request(size)
        crowd = [_Client(("127.0.0.1", port), request, selector) for _ in range(clients)]
        sent = _run(selector, crowd, WARM_UP * clients, None)[0]
        cpu = _cpu(server)
        began = time.perf_counter()
        timed, latencies = _run(selector, crowd, clients, began + seconds)
        took = time.perf_counter() - began
        cpu = _cpu(server) - cpu
        for client in crowd:
            client.close()
    latencies.sort()
    return {
        "seconds": took,
        "cpu": 1000 * cpu / timed,
        "rss": max(peak_rss(pid) for pid in _family(server)),
        "units": timed,
        "sent": sent + timed,
        "p50": 1000 * statistics.median(latencies),
        "p99": 1000 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
    }


def _run(
    selector: selectors.BaseSelector, crowd: list[_Client], at_least: int, until: float | None
) -> tuple[int, list[float]]:
    """Keep every client busy until enough was begun and the time is up; return how many were answered, and how fast."""
    latencies: list[float] = []
    begun = len(crowd)
    for client in crowd:
        client.begin()
    while len(latencies) < begun:
        ready = selector.select(PATIENCE)
        if not ready:
            raise TimeoutError(f"no answer within {PATIENCE:g} s")
        for key, event in ready:
            client = key.data
            status = client.step(event)
            if status is None:
                continue
            now = time.perf_counter()
            latencies.append(now - client.began)
            if status != b"200":
                raise ConnectionError(f"answered {status!r}")
            if begun < at_least or (until is not None and now < until):
                begun += 1
                client.begin()
            else:
                selector.modify(key.fileobj, selectors.EVENT_READ, client)
    return begun, latencies


def _request(size: int) -> bytes:
    form = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{FILENAME}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode("ascii")
    form += body(size) + f"\r\n--{BOUNDARY}--\r\n".encode("ascii")
    head = (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    return head.encode("ascii") + form


def _family(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [pid, *map(int, file.read().split())]


def _cpu(pid: int) -> float:
    """Return the processor seconds of a process and its children, user and system."""
    ticks = 0
    for each in _family(pid):
        with open(f"/proc/{each}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS
