"""A network that can be broken: a TCP proxy before one server, whose mode is switched while it runs.

    mode                                what happens to what is sent from now on
    pass                                it goes through
    refuse                              nobody listens on the port, and every open connection is reset
    silent                              connections are taken, nothing goes through and nothing is said
    delay, seconds                      each block arrives that much later, in both directions
    slow, rate                          so many bytes a second go through, in each direction; who sends faster waits
    cut, after, direction="request"     of this direction that many bytes go through, then both sides are reset
    answer_then_cut                     the server gets the request and does it; instead of its answer comes a reset
    late, seconds                       the request is held; that long after the client gave up the server gets it

A connection on which bytes were swallowed never says anything again, since what follows would make no sense.
Nothing is known here of HTTP. ``counts`` has, for each mode, the connections that it touched.
"""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from ports import LOOPBACK, free_port

BLOCK = 64 * 1024  # bytes
PATIENCE = 10.0  # seconds in which a block is taken by the side that it is for
PIECE = 4096  # bytes that a slow link passes on at a time
LENGTH = 16 * 1024  # bytes that are on a slow link; it is read from no faster than they leave it
ANSWER_WITHIN = 2.0  # seconds of silence after which nobody waits for the answer to a late request any more
MODES = ("pass", "refuse", "silent", "delay", "slow", "cut", "answer_then_cut", "late")


@dataclass(frozen=True)
class Mode:
    """What happens to what is sent; ``after`` is in bytes, ``rate`` in bytes a second."""

    kind: str = "pass"
    seconds: float = 0.0
    after: int = 0
    direction: str = "request"
    rate: float = 0.0

    def __post_init__(self) -> None:
        known = self.kind in MODES and self.direction in ("request", "reply")
        if not known or (self.kind == "slow") != (self.rate > 0):
            raise ValueError(f"no such mode: {self}")


class Proxy:
    """Between whoever connects to ``url`` and the server on ``target``, a port of the loopback interface."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.counts: collections.Counter[str] = collections.Counter()
        self.latest = 0.0  # when the last late request was delivered, as time.monotonic tells it
        self.stopped = threading.Event()
        self._mode = Mode()
        self._switch = threading.Lock()
        self._lock = threading.Lock()
        self._links: dict[_Link, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.port = self._open(0)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def held(self) -> int:
        """The number of requests that the server has yet to get."""
        with self._lock:
            return sum(bool(link.held) for link in self._links)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def under_way(self) -> bool:
        """True while something that was sent has yet to come out at the other end."""
        with self._lock:
            return any(link.held or link.waiting for link in self._links)

    def set(
        self, kind: str, *, seconds: float = 0.0, after: int = 0, direction: str = "request", rate: float = 0.0
    ) -> None:
        """Switch the mode, for open connections too."""
        with self._switch:
            self._mode = Mode(kind, seconds, after, direction, rate)
            if kind == "refuse":
                self._end()
            elif self._listener is None and not self.stopped.is_set():
                self._open(self.port)

    def stop(self) -> None:
        """End every connection and every thread. What is still held is dropped."""
        with self._switch:
            self.stopped.set()
            for thread in self._end():
                thread.join(PATIENCE)
                assert not thread.is_alive(), "a connection of a proxy does not end"

    def touch(self, link: _Link, mode: Mode) -> None:
        """Count a connection that ``mode`` changed something on, once for each mode."""
        with self._lock:
            if mode.kind not in link.touched:
                link.touched.add(mode.kind)
                self.counts[mode.kind] += 1

    def note_late(self) -> None:
        """Count a late request that the server has got."""
        with self._lock:
            self.counts["delivered late"] += 1
            self.latest = time.monotonic()

    def _open(self, port: int) -> int:
        """Listen again, on the same port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                listener.bind((LOOPBACK, port or free_port()))
                listener.listen(128)
                break
            except OSError:
                if port:
                    listener.close()
                    raise
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True)
        self._acceptor.start()
        return int(listener.getsockname()[1])

    def _end(self) -> list[threading.Thread]:
        """Listen no more and reset every connection; return the threads of these.

        The acceptor has to be out of ``accept``, or the kernel goes on taking connections.
        """
        listener, self._listener = self._listener, None
        if listener is not None and self._acceptor is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            self._acceptor.join(PATIENCE)
            listener.close()
        with self._lock:
            for link in self._links:
                if not link.held or self.stopped.is_set():  # what is held arrives all the same
                    link.abort()
            return list(self._links.values())

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            link = _Link(self, client)
            thread = threading.Thread(target=self._run, args=(link,), name="proxy link", daemon=True)
            with self._lock:
                self._links[link] = thread
            thread.start()

    def _run(self, link: _Link) -> None:
        try:
            with contextlib.suppress(OSError):
                link.run()
        finally:
            with self._lock:  # nobody wakes a link that is closed
                self._links.pop(link, None)
            link.close()


class _Link:
    """A client's connection and the one to the server that goes with it, moved by one thread."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.touched: set[str] = set()
        self.held = b""
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._queue: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
        self._dead = False  # bytes were swallowed: nothing goes through any more
        self._done = self._reset = False
        self._wakened, self._waker = socket.socketpair()
        self._late_by = 0.0  # seconds
        self._free = {"request": 0.0, "reply": 0.0}  # when a slow link has passed on what it was given
        self._at_end: set[socket.socket] = set()  # the sides that have closed
        self._since = Mode()  # the mode whose bytes are counted
        self._passed = {"request": 0, "reply": 0}

    def run(self) -> None:
        """Move blocks until one side has enough."""
        mode = self._proxy.mode
        if mode.kind not in ("silent", "late"):
            self._connect()
        else:
            self._proxy.touch(self, mode)
        while not self._done:
            for side in self._ready():
                block = self._receive(side)
                if side is self._client:
                    self._request(block)
                else:
                    self._reply(block)
            self._flush()

    @property
    def waiting(self) -> int:
        """The number of pieces that are on the link."""
        return len(self._queue)

    def abort(self) -> None:
        """Have the thread end with a reset of both sides; also called by other threads, so nothing is closed here."""
        self._reset = self._done = True
        self.held = b""
        self._waker.send(b"x")

    def close(self) -> None:
        """End both connections; called by the thread itself."""
        for side in (self._client, self._server):
            if side is not None:
                if self._reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.close()
        self._wakened.close()
        self._waker.close()

    def _connect(self) -> socket.socket:
        if self._server is None:
            try:
                self._server = socket.create_connection((LOOPBACK, self._proxy.target), PATIENCE)
            except OSError:
                self.abort()
                raise
            self._client.settimeout(PATIENCE)
        return self._server

    def _ready(self) -> list[socket.socket]:
        """Wait until a side has something that there is room for, or until a delayed block is due."""
        poll = select.poll()
        full = {to for to in (self._client, self._server) if self._is_full(to)}
        both = [(self._client, self._server), (self._server, self._client)]
        sides = {
            side.fileno(): side for side, to in both if side is not None and side not in self._at_end and to not in full
        }
        for descriptor in sides:
            poll.register(descriptor, select.POLLIN)
        poll.register(self._wakened, select.POLLIN)
        wait = max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None
        found = poll.poll(None if wait is None else wait * 1000 + 1)
        return [sides[descriptor] for descriptor, _ in found if descriptor in sides and not self._done]

    def _is_full(self, to: socket.socket | None) -> bool:
        """True where a slow link takes no more in that direction."""
        if self._proxy.mode.kind != "slow":
            return False
        return sum(len(block) for _, side, block in self._queue if side is to) >= LENGTH

    def _receive(self, side: socket.socket) -> bytes | None:
        """Return what came, b"" at the end, None where the side reset the connection."""
        try:
            if self._proxy.mode.kind == "slow":
                side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLOCK)  # or the kernel takes far more than we do
                return side.recv(PIECE)
            return side.recv(BLOCK)
        except OSError:
            return None

    def _request(self, block: bytes | None) -> None:
        """Deal with what the client sent."""
        mode = self._proxy.mode
        if self.held and not block:
            self._deliver_late()
        elif not block:
            self._end(block, self._client, self._server)
        elif mode.kind == "late" or self.held:
            self._proxy.touch(self, mode)
            self._late_by = max(self._late_by, mode.seconds)
            self.held += block
        elif mode.kind == "silent" or self._dead:
            self._swallow(mode)
        else:
            self._pass(block, self._connect(), mode, "request")

    def _reply(self, block: bytes | None) -> None:
        """Deal with what the server sent."""
        mode = self._proxy.mode
        if not block and self.held:
            self._server = None
        elif not block:
            self._end(block, self._server, self._client)
        elif mode.kind == "answer_then_cut":
            self._proxy.touch(self, mode)
            self.abort()
        elif mode.kind in ("silent", "late") or self._dead or self.held:
            self._swallow(mode)
        else:
            self._pass(block, self._client, mode, "reply")

    def _swallow(self, mode: Mode) -> None:
        self._proxy.touch(self, mode)
        self._dead = True

    def _end(self, block: bytes | None, side: socket.socket | None, other: socket.socket | None) -> None:
        """One side has closed, or reset: so does the other, a swallowing link at once, an intact one in its turn."""
        if block is None or self._dead or other is None or side is None:
            self.abort()
        else:
            self._at_end.add(side)
            self._queue.append((self._queue[-1][0] if self._queue else 0.0, other, b""))

    def _pass(self, block: bytes, to: socket.socket, mode: Mode, direction: str) -> None:
        if mode is not self._since:
            self._since = mode
            self._passed = {"request": 0, "reply": 0}
        due = time.monotonic()
        if mode.kind == "delay":
            due += mode.seconds
        elif mode.kind == "slow":
            due = self._free[direction] = max(due, self._free[direction]) + len(block) / mode.rate
        if mode.kind != "pass":
            self._proxy.touch(self, mode)
        cut = mode.kind == "cut" and mode.direction == direction
        left = mode.after - self._passed[direction]
        if cut and len(block) >= left:
            self._queue.append((0.0, to, block[:left]))
            self._flush()
            self.abort()
            return
        self._passed[direction] += len(block)
        self._queue.append((max(due, self._queue[-1][0] if self._queue else 0.0), to, block))

    def _flush(self) -> None:
        """Send what is due."""
        while self._queue and self._queue[0][0] <= time.monotonic() and not self._done:
            _, to, block = self._queue.popleft()
            if not block:
                self._done = True
                return
            to.settimeout(PATIENCE)
            to.sendall(block)

    def _deliver_late(self) -> None:
        """The client gave up. Give the server what it asked for, and let nobody hear of the answer."""
        if not self._proxy.stopped.wait(self._late_by):
            server = self._connect()
            server.sendall(self.held)
            server.settimeout(ANSWER_WITHIN)
            with contextlib.suppress(TimeoutError):
                server.recv(BLOCK)
            self._proxy.note_late()
        self.held = b""
        self._done = True
