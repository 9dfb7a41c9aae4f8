"""Uploads over links that are slow, far, lossy or cut, to real nginx in a namespace of its own.

``make chaos`` sweeps over many more of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from links import Link, need_links
from servers import need

from resto_wsgi.demo.stock import StockServer
from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport

TIMEOUT = 2.0  # seconds: the default of the settings
CLEAR, SECURE = 8080, 8443


class Site:
    """nginx at the far end of a link, and a transport at the near one."""

    def __init__(self, stack: ExitStack, folder: Path, delay: float, timeout: float) -> None:
        self.link = stack.enter_context(Link(delay))
        self._certificate = folder / "certificate.pem"
        names = f"subjectAltName=IP:{self.link.address}"
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-subj", "/CN=media", "-addext", names, "-keyout", folder / "key.pem", "-out", self._certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        tls = f"ssl_certificate {self._certificate}; ssl_certificate_key {folder / 'key.pem'};"
        extra = f"listen {CLEAR} backlog=64; listen {SECURE} ssl backlog=64; {tls}"
        self.nginx = StockServer("nginx", folder / "nginx", extra=extra)
        with self.link.far.entered():
            self.nginx.start()
        stack.callback(self._stop)
        self.transport = HttpTransport(timeout, Security(ca_bundle=str(self._certificate)))
        stack.callback(self.transport.close)
        self._folder = folder

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

        with self.link.near.entered(), ThreadPoolExecutor(count) as pool:
            ends = list(pool.map(send, range(count)))
        for number, error in enumerate(ends):
            arrived = Path(self.nginx.root, f"f-{number}")
            assert error or arrived.read_bytes() == path.read_bytes()
        return [error for error in ends if error]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """``site(rate=, delay=, loss=)`` returns one whose link is like that."""
    need_links()
    need("nginx")
    with ExitStack() as stack:

        def make(
            *, rate: float = 0, delay: float = 0, loss: float = 0, queue: str = "400ms", timeout: float = TIMEOUT
        ) -> Site:
            made = Site(stack, tmp_path, delay, timeout)
            if rate:
                made.link.shape(int(rate * 1e6), queue)
            if loss:
                made.link.lose(loss)
            return made

        yield make


# rate in Mbit/s, uploads at once, bytes of each, seconds one way, share of packets that is lost
LINKS = {
    "slow": (2.4, 1, 3_000_000, 0, 0),
    "shared": (2, 8, 300_000, 0, 0),
    "crowded": (0.5, 32, 20_000, 0, 0),
    "far and lossy": (2, 2, 300_000, 0.15, 0.02),
}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("link", LINKS)
def test_an_upload_succeeds_on_a_link_that_is_slow_but_steady(site: Callable[..., Site], link: str, tls: bool) -> None:
    """However long it takes, bytes arrive all the time."""
    rate, count, size, delay, loss = LINKS[link]
    begun = time.monotonic()
    assert site(rate=rate, delay=delay, loss=loss, queue="1500ms").upload(count, size, tls=tls) == []
    assert time.monotonic() - begun > TIMEOUT
