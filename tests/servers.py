"""Media servers for the tests: stock ones, our own node, and one that fails in a way that a real one cannot be made to.

Each has ``url`` (no slash at the end), ``start`` and ``stop``; all but the last also have ``root``, and what they hold
is what ``held`` returns. The fixtures in ``conftest.py`` start them and see to it that nothing of them is left after a
test.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from ports import LOOPBACK, free_port

from resto_wsgi.demo.stock import StockServer, missing
from resto_wsgi.media_server import Access, make_server
from resto_wsgi.media_server.node import MediaServer

KINDS = ("nginx", "lighttpd", "apache", "node", "tree")
REPLICATED_TO = ("nginx", "node", "tree")  # what the tests of replication run against
REFUSED = "refuses connections, or is unreachable: 127.0.0.1: Connection refused"  # by one of these that is stopped
PATIENCE = 10.0  # seconds that a test waits for something that takes milliseconds

Script = Callable[[socket.socket, BinaryIO], None]
Behaviour = str | tuple[Any, ...] | Script


def eventually(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Return the first true value of ``condition()``; fail where none comes in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout} s: {condition}")
        time.sleep(0.005)
    return value


def need(kind: str) -> None:
    """Skip the test where ``kind`` is not installed; in CI that is a failure."""
    lacking = None if kind in ("node", "tree") else missing(kind)
    if lacking:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{kind} needs {lacking}")


def server_of(kind: str, folder: str | os.PathLike[str], **options: Any) -> StockServer | Node | Tree:
    """Return a server of ``kind``, not started, that keeps everything in ``folder``."""
    need(kind)
    if kind == "tree":
        return Tree(folder, **options)
    if kind == "node":
        return Node(os.path.join(folder, "files"), **options)
    return StockServer(kind, folder, **options)


def on_every_kind(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with hosts of each kind: nginx, our own node alone, and trees of seven nodes.

    It is for tests whose hosts come of the fixture ``kind_of_host``, which is nginx where a test does not say this.
    """
    return pytest.mark.parametrize("kind_of_host", REPLICATED_TO)(test)


def on_nginx_and_node(test: Callable[..., None]) -> Callable[..., None]:
    """The same, but on no trees: for tests with many writers, whom 21 nodes in this very process would starve."""
    return pytest.mark.parametrize("kind_of_host", ["nginx", "node"])(test)


def files(root: str | os.PathLike[str]) -> dict[str, bytes]:
    """Every file under a folder, by its relative path: staged ones too, but no locks, outbox and generations."""
    found = {}
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            if path.suffix != ".lock" and path.parent.name not in (".resto", "generations"):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # removed while one looks
                    found[str(path.relative_to(root))] = path.read_bytes()
    return found


def roots_of(server: StockServer | Node | Tree) -> list[str]:
    """The folders that a server keeps its files in: one, or that of each node of a tree."""
    return [node.root for node in server.nodes] if isinstance(server, Tree) else [server.root]


def held(server: StockServer | Node | Tree) -> dict[str, bytes]:
    """Every file that a server holds; of a tree it is what each of its nodes holds, and fails where one never does.

    What is below the root may have it a little later.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        found = {root: files(root) for root in roots_of(server)}
        first = found[server.root]
        differing = [root for root, each in found.items() if each != first]
        if not differing:
            return first
        if time.monotonic() > deadline:
            pytest.fail(f"not as the root of their tree, which has {sorted(first)}: {differing}")
        time.sleep(0.005)


LOCAL = Access(["127.0.0.0/8", "::1"])  # this machine may write, as `--allow` says it


class Node:
    """Our own media server, on cheroot in a thread; ``server`` has the options of that, the others are its own."""

    def __init__(
        self, root: str | os.PathLike[str], port: int = 0, *, server: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.kind = "node"
        self.root = os.fspath(root)
        self.port = port or free_port()  # cheroot takes one again at once only where it was asked for by number
        self._options = {"access": LOCAL, **options}
        self._server_options = server or {}
        self._server: Any = None
        self.app: Any = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.app = MediaServer(self.root, **self._options)
        self._server = make_server(self.app, LOOPBACK, self.port, **self._server_options)
        self._server.shutdown_timeout = 1  # seconds
        self._server.expiration_interval = 0.02  # seconds until it hears that it is to stop
        self._server.prepare()
        self.port = self._server.bind_addr[1]
        self._thread = threading.Thread(target=self._server.serve, name="node")
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._thread = None
            self.app.close()

    kill = stop

    def restart(self) -> None:
        self.stop()
        self.start()


class Tree:
    """Seven of our nodes in three levels: the root, which has ``url``, two below it, and two below each of those.

    ``nodes`` has all of them, the root first; ``options`` are the nodes'. ``root`` is the folder of the root, and
    ``port`` its port.
    """

    def __init__(self, folder: str | os.PathLike[str], port: int = 0, **options: Any) -> None:
        self.kind = "tree"
        self.port = port or free_port()
        self._folder = os.fspath(folder)
        self._options = options
        self.root = os.path.join(self._folder, "0")
        self.nodes: list[Node] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Tree:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it, from the leaves up; once more on the same ports, and with what the nodes had."""
        if self.nodes:
            for node in reversed(self.nodes):
                node.start()
            return
        started: dict[int, Node] = {}
        for number in reversed(range(7)):
            children = [started[each].url for each in (2 * number + 1, 2 * number + 2) if each < 7]
            port = 0 if number else self.port
            node = Node(os.path.join(self._folder, str(number)), port, children=children, **self._options)
            node.start()
            started[number] = node
        self.nodes = [started[number] for number in range(7)]

    def stop(self) -> None:
        """Stop all nodes at once: each takes a while to hear of it."""
        with ThreadPoolExecutor(7) as pool:
            list(pool.map(Node.stop, self.nodes))

    kill = stop

    def restart(self) -> None:
        """Stop and start the root: what a client of the tree sees of it."""
        self.nodes[0].restart()


@dataclass
class Seen:
    """One request that a FaultyServer saw: header names in lower case, ``body`` the bytes of it that were read."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: int = 0


class FaultyServer:
    """A server on a loopback port that behaves as it is told: the n-th behaviour on the n-th connection, then the last.

    A behaviour is a callable ``(connection, reader)``, or one of these names, alone or first in a tuple:

        refuse              nobody listens on the port
        hang                takes the connection, reads nothing and says nothing
        garbage             answers something that is not HTTP
        endless             answers 201 and sends a body that does not end
        endless_headers     answers 201 and sends headers that do not end
        drip                sends a header, one byte each 0.2 s
        gzip_bomb           answers 201 with 1 MiB that claims to be 1 GiB
        early_413           answers 413 when it has read the headers, and closes
        reset               resets the connection when it has read the headers
        close_idle          answers 201 and closes, although it did not say so
        close_on_reuse      answers 201 and keeps the connection, but closes it when the next request begins
        late, N, code=201   reads the request, and answers N seconds later
        status, code, headers={}, body=b""          reads each request and answers so
        redirect, code, location                    the same

    A callable that wants its requests counted reads them with ``read_request``. ``requests`` has what was seen,
    ``connections`` how many there were.
    """

    LIMIT = 256  # connections; more are a runaway client

    def __init__(self, *behaviours: Behaviour) -> None:
        self.requests: list[Seen] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._scripts = [self._script(each) for each in behaviours or (("status", 201),)]
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> FaultyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if self._scripts[0] is None:
            return  # bound but not listening: the port is refused, and nobody else can have it
        self._listener.listen(64)
        self._spawn(self._accept)

    def stop(self) -> None:
        """End every connection and every thread."""
        self.stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        while self._threads:
            thread = self._threads.pop(0)
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection of a faulty server does not end"
        self._listener.close()

    def read_request(self, reader: BinaryIO, *, body: bool = True) -> Seen | None:
        """Read and record one request, with or without its body; return None where the client has closed."""
        method, _, rest = reader.readline().decode("latin-1").strip().partition(" ")
        if not method:
            return None
        seen = Seen(method, rest.partition(" ")[0])
        while line := reader.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            seen.headers[name.lower()] = value.strip()
        self.requests.append(seen)
        if body:
            for block in _body(reader, seen.headers):
                seen.body += len(block)
        return seen

    def _script(self, behaviour: Behaviour) -> Script | None:
        if callable(behaviour):
            return behaviour
        name, *arguments = (behaviour,) if isinstance(behaviour, str) else behaviour
        if name == "refuse":
            return None
        method = getattr(self, f"_{name}")
        return lambda connection, reader: method(connection, reader, *arguments)

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name="faulty server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self.connections < self.LIMIT:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            if self.stopped.is_set():
                with contextlib.suppress(OSError):  # the other end may be gone
                    connection.shutdown(socket.SHUT_RDWR)
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._spawn(self._run, script, connection)

    def _run(self, script: Script, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as reader, contextlib.suppress(OSError):
                script(connection, reader)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    # The behaviours

    def _hang(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.stopped.wait()

    def _garbage(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader)
        connection.sendall(b"220 mail.example ESMTP\r\n\x00\xff\xfe\r\n\r\n")

    def _endless(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\n\r\n")
        while not self.stopped.is_set():
            connection.sendall(bytes(65536))

    def _endless_headers(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\n")
        while not self.stopped.is_set():
            connection.sendall(b"X-More: and more\r\n" * 100)

    def _drip(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader)
        connection.sendall(b"HTTP/1.1 201 Created\r\nX-Slow: ")
        while not self.stopped.wait(0.2):
            connection.sendall(b"z")

    def _gzip_bomb(self, connection: socket.socket, reader: BinaryIO) -> None:
        bomb = gzip.compress(bytes(1 << 20)) * 1024
        self._status(connection, reader, 201, {"Content-Encoding": "gzip"}, bomb)

    def _early_413(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader, body=False)
        connection.sendall(_answer(413, {"Connection": "close"}))

    def _reset(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader, body=False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _close_idle(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader)
        connection.sendall(_answer(201))

    def _close_on_reuse(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.read_request(reader)
        connection.sendall(_answer(201))
        reader.read(1)

    def _late(self, connection: socket.socket, reader: BinaryIO, seconds: float, code: int = 201) -> None:
        self.read_request(reader)
        if not self.stopped.wait(seconds):
            connection.sendall(_answer(code))

    def _status(
        self,
        connection: socket.socket,
        reader: BinaryIO,
        code: int,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        while self.read_request(reader):
            connection.sendall(_answer(code, headers, body))

    def _redirect(self, connection: socket.socket, reader: BinaryIO, code: int, location: str) -> None:
        self._status(connection, reader, code, {"Location": location})


def _answer(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {code} Whatever", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if code != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _body(reader: BinaryIO, headers: dict[str, str]) -> Iterator[bytes]:
    """Read a request's body in blocks, by its length or in chunks."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(reader.readline().partition(b";")[0] or b"0", 16):
            yield reader.read(size)
            reader.readline()
        reader.readline()
        return
    left = int(headers.get("content-length", "0"))
    while left and (block := reader.read(min(left, 65536))):
        left -= len(block)
        yield block
