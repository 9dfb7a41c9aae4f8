"""Links of their own for tests: two network namespaces, and what lies between them made slow, far, lossy or cut.

    near 10.77.0.1 ──── veth, shaped by ``tc tbf`` on its way out of near ────> far 10.77.0.2
    near 10.78.0.1 ──── a TUN device at each end, and this process that delays each packet ──> far 10.78.0.2

A namespace lives as long as the process that holds it, which ends with this one, so that nothing is left behind, not
even after kill -9. A thread that has ``entered`` one makes its sockets, threads and processes there. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from resto_wsgi.demo.stock import StockServer
from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport

__all__ = ["SENDER", "Link", "Site", "lacking", "need_links", "queued"]

CLEAR, SECURE = 8080, 8443  # the ports of a site

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65535  # bytes
TOOLS = ("ip", "tc", "iptables", "unshare", "nsenter")
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
TABLES = {"PATH": PATH, "XTABLES_LOCKFILE": "/dev/null"}


def lacking() -> str:
    """Return what is missing for a link here, "" if nothing is."""
    found = ["root"] if os.geteuid() else []
    found += [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    found += [] if os.path.exists("/dev/net/tun") else ["/dev/net/tun"]
    return ", ".join(found)


def need_links() -> None:
    """Skip the test if no namespace can be made; in CI that is a failure."""
    if lacking():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"a link needs {lacking()}")


class _Namespace:
    """A network namespace, held by a process that ends when its standard input does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": PATH},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.read(1), "no network namespace can be made"
        self.pid = self._process.pid
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        """Run a program there; return what it says. Raises CalledProcessError."""
        argv = ["nsenter", "--target", str(self.pid), "--net", *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=TABLES).stdout

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread, and the threads and processes that it starts, be there."""
        with open("/proc/thread-self/ns/net") as before, open(f"/proc/{self.pid}/ns/net") as there:
            _set(there.fileno())
            try:
                yield
            finally:
                _set(before.fileno())

    def close(self) -> None:
        self._process.communicate()


def _set(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Link:
    """Two ends and what is between them; ``delay`` is in seconds one way, 0 for none.

    ``address`` is how the far end is reached from the near one.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.near, self.far = _Namespace(), _Namespace()
        self._delay = _Delay(delay, self.near, self.far) if delay else None
        self.address = "10.78.0.2" if delay else "10.77.0.2"
        self._device = "tun0" if delay else "veth0"
        if not delay:
            peer = ["peer", "name", "veth0", "netns", str(self.far.pid)]
            self.near.run("ip", "link", "add", "veth0", "type", "veth", *peer)
            for end, address in ((self.near, "10.77.0.1/24"), (self.far, "10.77.0.2/24")):
                end.run("ip", "address", "add", address, "dev", "veth0")
                end.run("ip", "link", "set", "veth0", "up")
                # Offloading would hand packets of 64 KiB to the shaper, which drops what is larger than its burst.
            for end in (self.near, self.far):
                end.run("ip", "link", "set", "veth0", "gso_max_size", "1514", "gro_max_size", "1514")

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        if self._delay is not None:
            self._delay.close()
        self.near.close()
        self.far.close()

    def shape(self, rate: int, queue: str = "400ms") -> None:
        """Let no more than ``rate`` bits a second out of the near end; more waits for up to ``queue``, then is lost."""
        shaper = ["tbf", "rate", f"{rate}bit", "burst", "16kb", "latency", queue]
        self.near.run("tc", "qdisc", "replace", "dev", self._device, "root", *shaper)

    def lose(self, share: float) -> None:
        """Lose that share of the packets, in both directions."""
        rule = ["-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
        for end in (self.near, self.far):
            end.run("iptables", "-A", "INPUT", "-i", self._device, *rule)

    def cut(self) -> None:
        """Let nothing through any more."""
        for end in (self.near, self.far):
            end.run("iptables", "-I", "INPUT", "-i", self._device, "-j", "DROP")

    def mend(self) -> None:
        """Let all through again."""
        for end in (self.near, self.far):
            end.run("iptables", "-F", "INPUT")


class _Delay:
    """A TUN device in each namespace, and a thread that takes each packet to the other end ``seconds`` later."""

    def __init__(self, seconds: float, *ends: _Namespace) -> None:
        self._seconds = seconds
        self._tuns = [self._open(end, f"10.78.0.{number}/24") for number, end in enumerate(ends, 1)]
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name="delay", daemon=True)
        self._thread.start()

    @staticmethod
    def _open(end: _Namespace, address: str) -> int:
        with end.entered():
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", b"tun0", IFF_TUN | IFF_NO_PI))
        end.run("ip", "address", "add", address, "dev", "tun0")
        end.run("ip", "link", "set", "tun0", "up")
        return tun

    def close(self) -> None:
        os.write(self._waker, b"x")
        self._thread.join()
        for each in (*self._tuns, self._wake, self._waker):
            os.close(each)

    def _run(self) -> None:
        other = dict(zip(self._tuns, reversed(self._tuns), strict=True))
        poll = select.poll()
        for each in (*self._tuns, self._wake):
            poll.register(each, select.POLLIN)
        due: list[tuple[float, int, int, bytes]] = []
        count = 0
        while True:
            wait = None if not due else max(0.0, due[0][0] - time.monotonic()) * 1000
            for descriptor, _ in poll.poll(wait):
                if descriptor == self._wake:
                    return
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packet = os.read(descriptor, PACKET)
                        count += 1
                        heapq.heappush(due, (time.monotonic() + self._seconds, count, other[descriptor], packet))
            while due and due[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(due)
                with contextlib.suppress(OSError):  # its queue is full: lost, as on any link
                    os.write(to, packet)


class Site:
    """nginx at the far end of a link, and a transport at the near one.

    ``rate`` is in Mbit/s, 0 for as much as there is, ``loss`` the share of packets that is lost, ``queue`` for how long
    packets wait for their turn before they are lost.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rate: float = 0,
        delay: float = 0,
        loss: float = 0,
        queue: str = "1500ms",
        timeout: float = 2,
    ) -> None:
        self._stack = ExitStack()
        self.link = self._stack.enter_context(Link(delay))
        self.timeout = timeout
        self._folder = folder
        try:
            self._start()
            if rate:
                self.link.shape(int(rate * 1e6), queue)
            if loss:
                self.link.lose(loss)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.certificate, key = self._folder / "certificate.pem", self._folder / "key.pem"
        names = f"subjectAltName=IP:{self.link.address}"
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-subj", "/CN=media", "-addext", names, "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        tls = f"ssl_certificate {self.certificate}; ssl_certificate_key {key};"
        extra = f"listen {CLEAR} backlog=64; listen {SECURE} ssl backlog=64; {tls}"
        self.nginx = StockServer("nginx", self._folder / "nginx", extra=extra)
        with self.link.far.entered():
            self.nginx.start()
        self._stack.callback(self._stop)
        self.transport = HttpTransport(self.timeout, Security(ca_bundle=str(self.certificate)))
        self._stack.callback(self.transport.close)

    def _stop(self) -> None:
        self.signal(signal.SIGCONT)
        with self.link.far.entered():
            self.nginx.stop()

    def signal(self, number: int) -> None:
        """Send a signal to nginx and its workers."""
        assert self.nginx.pid is not None
        os.killpg(self.nginx.pid, number)

    def host(self, *, tls: bool = False) -> Host:
        url = f"https://{self.link.address}:{SECURE}" if tls else f"http://{self.link.address}:{CLEAR}"
        return Host(url, url)

    def upload(self, count: int, size: int, *, tls: bool = False) -> list[DeliveryError]:
        """Send so many files of that many bytes at once; return what went wrong, after looking at what arrived."""
        path = self._folder / "master"
        path.write_bytes(os.urandom(size))
        host = self.host(tls=tls)

        def send(number: int) -> DeliveryError | None:
            try:
                with path.open("rb", buffering=0) as file:
                    self.transport.put(host, f"f-{number}", file, size, 1e9)
            except DeliveryError as error:
                return error
            return None

        # What this thread starts in a namespace stays there.
        with self.link.near.entered(), ThreadPoolExecutor(count) as pool:
            ends = list(pool.map(send, range(count)))
        for number, error in enumerate(ends):
            arrived = Path(self.nginx.root, f"f-{number}")
            assert error or arrived.read_bytes() == path.read_bytes()
        return [error for error in ends if error]


def queued(made: Site) -> list[int]:
    """The bytes that the kernel at the near end has yet to see acknowledged, by connection."""
    lines = made.link.near.run("cat", "/proc/net/tcp").splitlines()[1:]
    return [waiting for line in lines if (waiting := int(line.split()[4].partition(":")[0], 16))]


# Sends two small files, on a connection that was kept alive and on a new one, and never ends: path, URL, certificate.
SENDER = """
import io, sys, threading
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport
path, url, certificate = sys.argv[1:]
transport = HttpTransport(60, Security(ca_bundle=certificate))
def put(name, size):
    with open(path, "rb", buffering=0) as file:
        transport.put(Host(url, url), name, file, size, 1e9)
put("warm", 100)
print("warm", flush=True)
sys.stdin.readline()
for name in ("kept", "new"):
    threading.Thread(target=put, args=(name, 1000), daemon=True).start()
print("sent", flush=True)
sys.stdin.readline()
"""
