"""Fixtures that start media servers and leave nothing of them behind; the servers themselves are in ``servers.py``.

The stock servers start in 15 ms, so each test has its own, with an empty root. Where one is not installed its tests
are skipped; with the environment variable CI set they fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers import KINDS, FaultyServer, Node, server_of

from resto_wsgi.media_server.stock import StockServer

MediaServers = Callable[..., "list[StockServer | Node]"]


@pytest.fixture(autouse=True)
def traced_on() -> Iterator[None]:
    """No test ends the tracing that coverage counts by: what later tests run would count as never run."""
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before


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
