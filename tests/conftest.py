"""Fixtures that start media servers and leave nothing of them behind; the servers themselves are in ``servers.py``.

The stock servers start in 15 ms, so each test has its own, with an empty root. Where one is not installed its tests
are skipped; with the environment variable CI set they fail.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from over_http import TIMEOUT
from servers import KINDS, FaultyServer, Node, server_of

from resto_wsgi.demo.stock import StockServer
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http.transport import HttpTransport

for size_of_terminal in ("COLUMNS", "LINES"):  # which readline leaves to the workers of pytest-xdist
    os.environ.pop(size_of_terminal, None)

MediaServers = Callable[..., "list[StockServer | Node]"]


@pytest.fixture(autouse=True)
def traced_on() -> Iterator[None]:
    """No test ends the tracing that coverage counts by: what later tests run would count as never run."""
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Leave out of each collection what is there already: for tests that collect hundreds of times, late in a run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def media_servers(tmp_path: Path) -> Iterator[MediaServers]:
    """``media_servers("nginx", 3, max_body=1000)`` returns three started servers with that option."""
    with ExitStack() as stack:
        count = 0

        def start(kind: str, number: int = 1, **options: Any) -> list[StockServer | Node]:
            nonlocal count
            started = []
            for _ in range(number):
                count += 1
                server = server_of(kind, tmp_path / f"server-{count}", **options)
                started.append(stack.enter_context(server))
            return started

        yield start


@pytest.fixture
def nginx(media_servers: MediaServers) -> StockServer:
    """One nginx that makes the folders of a name."""
    return media_servers("nginx")[0]


@pytest.fixture
def lighttpd(media_servers: MediaServers) -> StockServer:
    """One lighttpd."""
    return media_servers("lighttpd")[0]


@pytest.fixture
def apache(media_servers: MediaServers) -> StockServer:
    """One Apache. As root it serves as www-data: a folder that a test makes in its root is not writable for it."""
    return media_servers("apache")[0]


@pytest.fixture(params=KINDS)
def any_server(request: pytest.FixtureRequest, media_servers: MediaServers) -> StockServer | Node:
    """Each media server in turn: nginx, lighttpd, Apache, our own node, and the root of a tree of nodes."""
    return media_servers(request.param)[0]


@pytest.fixture
def kind_of_host() -> str:
    """Of which kind the hosts of a test of replication are, where it does not say ``on_every_kind``."""
    return "nginx"


@pytest.fixture
def media_server(kind_of_host: str, media_servers: MediaServers) -> StockServer | Node:
    """One media server of that kind."""
    return media_servers(kind_of_host)[0]


@pytest.fixture
def hosts(kind_of_host: str, media_servers: MediaServers) -> list[StockServer | Node]:
    """Three media servers of that kind."""
    return media_servers(kind_of_host, 3)


@pytest.fixture
def faulty() -> Iterator[Callable[..., FaultyServer]]:
    """``faulty("hang")`` returns a started FaultyServer; its docstring lists the behaviours."""
    with ExitStack() as stack:
        yield lambda *behaviours: stack.enter_context(FaultyServer(*behaviours))


# The HTTP transport


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """A transport with patience, for servers that work or that fail at once."""
    transport = HttpTransport(5)
    yield transport
    transport.close()


@pytest.fixture
def hasty() -> Iterator[HttpTransport]:
    """A transport with little patience, for servers that are awaited in vain."""
    transport = HttpTransport(TIMEOUT)
    yield transport
    transport.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each connection that is made from now on."""
    made: list[object] = []
    connect = http_connection.Bounded.connect

    def counted(self: Any) -> None:
        made.append(self)
        connect(self)

    monkeypatch.setattr(http_connection.Bounded, "connect", counted)
    return made


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that nobody but itself signed."""
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "certificate.pem"
    what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=media"]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(path)]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *what, *more], check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "key.pem").read_text())
    return path
