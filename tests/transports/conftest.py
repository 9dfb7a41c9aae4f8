"""Fixtures of the HTTP transport's tests: raw hosts, and a file to be sent to them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from over_http import host
from raw_hosts import (
    Script,
)
from servers import FaultyServer

from resto_wsgi.transports.http.transport import HttpTransport


@pytest.fixture
def patient(transport: HttpTransport) -> HttpTransport:
    """The transport that is not ``hasty``."""
    return transport


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """``put(transport, server, content, name="cat")`` sends a file with that content."""
    lock = threading.Lock()
    count = [0]

    def put(transport: HttpTransport, server: Any, content: bytes = b"content", name: str = "cat") -> None:
        with lock:
            count[0] += 1
            path = tmp_path / f"master-{count[0]}"
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            transport.put(host(server), name, file, len(content), 0)

    return put


@pytest.fixture
def serving(faulty: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultyServer]]:
    """``serving(script, ..., tls=True)`` returns a server whose n-th connection is for the n-th script, or the last.

    A script gets the server, the connection, and a reader of it.
    """
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secured: list[ssl.SSLSocket] = []

    def start(*scripts: Callable[[FaultyServer, Any, BinaryIO], None], tls: bool = False) -> FaultyServer:
        def in_clear(script: Any) -> Script:
            return lambda connection, reader: script(server, connection, reader)

        def under_tls(script: Any) -> Script:
            def run(connection: Any, reader: BinaryIO) -> None:
                with context.wrap_socket(connection, server_side=True) as secure, secure.makefile("rb") as plain:
                    secured.append(secure)
                    script(server, secure, plain)

            return run

        server: FaultyServer = faulty(*((under_tls if tls else in_clear)(script) for script in scripts))
        if tls:
            server.url = server.url.replace("http:", "https:")
        return server

    yield start
    for secure in secured:
        with contextlib.suppress(OSError):
            secure.shutdown(socket.SHUT_RDWR)
