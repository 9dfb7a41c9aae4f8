"""What plain sockets do: the measure of what HTTP to these servers can cost at least. No library has to be this bare.

Requests are as short as nginx takes them, connections are kept alive as nginx lets them be, any answer but success
is an error, and nothing is retried.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Sequence

__all__ = ["Connection", "put_all", "send_file"]

REPLY = 65536


class Connection:
    """One connection to one host, made again after the host has closed it (nginx does, after 1,000 requests)."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._socket: socket.socket | None = None

    @property
    def socket(self) -> socket.socket:
        if self._socket is None:
            address, port = self.host.split(":")
            self._socket = socket.create_connection((address, int(port)), timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def head(self, path: str, size: int) -> bytes:
        return f"PUT {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {size}\r\n\r\n".encode("ascii")

    def send(self, path: str, body: bytes) -> None:
        self.socket.sendall(self.head(path, len(body)) + body)

    def reply(self) -> None:
        """Read the reply. Raises OSError where it is not 201 or 204."""
        data = b""
        while b"\r\n\r\n" not in data:
            block = self.socket.recv(REPLY)
            if not block:
                raise ConnectionError(f"{self.host} closed the connection")
            data += block
        head, _, body = data.partition(b"\r\n\r\n")
        lower = head.lower()
        if head[9:12] not in (b"201", b"204"):
            raise ConnectionError(f"{self.host} answered {head[:80]!r}")
        _, found, length = lower.partition(b"\r\ncontent-length:")
        missing = int(length.split(b"\r\n")[0]) - len(body) if found else 0
        while missing > 0:
            missing -= len(self.socket.recv(missing))
        if b"\r\nconnection: close" in lower:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def put_all(connections: Sequence[Connection], path: str, body: bytes) -> None:
    """Send one small file to all hosts, then read all replies."""
    for connection in connections:
        connection.send(path, body)
    for connection in connections:
        connection.reply()


def send_file(connections: Sequence[Connection], path: str, file: int, size: int) -> None:
    """Send one large file to all hosts at once: each at its own offset, by ``sendfile``, in one thread."""
    with selectors.DefaultSelector() as selector:
        offsets = dict.fromkeys(connections, 0)
        for connection in connections:
            connection.socket.sendall(connection.head(path, size))
            connection.socket.setblocking(False)
            selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        while selector.get_map():
            for key, _ in selector.select(30):
                connection = key.data
                offsets[connection] += os.sendfile(
                    connection.socket.fileno(), file, offsets[connection], size - offsets[connection]
                )
                if offsets[connection] == size:
                    selector.unregister(connection.socket)
    for connection in connections:
        connection.socket.settimeout(30)
        connection.reply()
