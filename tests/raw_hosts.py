"""Scripts for hosts that speak on raw sockets, each for one connection, and what is sent to them.

A script gets the server, the connection, and a reader of it; the fixture ``serving`` starts a server with some.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from over_http import host
from servers import FaultyServer, eventually

from resto_wsgi.transports.http.transport import HttpTransport

WAIT = 10  # seconds: long after everything here has ended
LARGE = 16 * 1024 * 1024  # bytes: more than all buffers between us and a host hold
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
STATE = (0, 0, 0, 0)
Script = Callable[[Any, BinaryIO], None]


def answering(*answers: bytes) -> Any:
    """A script that reads each request and gives the next answer, the last one again and again."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        left = list(answers)
        while server.read_request(reader):
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return script


def in_pieces(answer: bytes, size: int = 1) -> Any:
    """A script that answers each request in pieces of that many bytes, each sent for itself."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while server.read_request(reader):
            for at in range(0, len(answer), size):
                connection.sendall(answer[at : at + size])
                os.sched_yield()

    return script


def keeping(content: dict[str, bytes]) -> Any:
    """A script that keeps what it is given under its path, and answers 201."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        while seen := server.read_request(reader, body=False):
            size = int(seen.headers.get("content-length", "0"))
            body = reader.read(size)
            seen.body = len(body)
            if seen.body == size:
                content[seen.path] = body
                connection.sendall(CREATED)

    return script


def reset(connection: Any) -> None:
    """End a connection with a reset when the script does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def early(answer: bytes, *, then: str = "hold", keep: list[int] | None = None) -> Any:
    """A script that answers when it has the head; ``then`` holds the connection, resets it, or reads on."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        if server.read_request(reader, body=False) is None:
            return
        connection.sendall(answer)
        if then == "reset":
            eventually(lambda: _taken(connection) < 0 or True)
            reset(connection)
            return
        if then == "hold":
            server.stopped.wait(WAIT)
            return
        count = 0
        with contextlib.suppress(OSError):
            while block := connection.recv(65536):
                count += len(block)
        if keep is not None:
            keep.append(count)

    return script


def _taken(connection: Any) -> int:
    return int(connection.fileno())


def in_pieces_early(answer: bytes, size: int) -> Any:
    """As ``early``, in pieces."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.read_request(reader, body=False)
        for at in range(0, len(answer), size):
            connection.sendall(answer[at : at + size])
        server.stopped.wait(WAIT)

    return script


def closing_on_reuse(said: bytes = b"") -> Any:
    """A script that answers one request, takes another, says so much of an answer, and closes."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader)
        connection.sendall(CREATED)
        if server.read_request(reader):
            connection.sendall(said)

    return script


def warm(transport: HttpTransport, server: FaultyServer, count: int) -> None:
    """Have ``count`` connections kept alive; the scripts of the server answer their first requests."""
    origin = transport._pools.origin(host(server).url)
    leased = [origin.lease() for _ in range(count)]
    for connection in leased:
        connection.connect()
        connection.sock.sendall(b"PUT /warm HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert connection.sock.recv(1000) == CREATED
        connection.used = True
    for connection in leased:
        origin.give_back(connection)
