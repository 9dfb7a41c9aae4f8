"""What goes out: the very bytes of a file, in the cheapest way, and never fewer than were announced."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import ssl
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from over_http import host
from raw_hosts import (
    CREATED,
    LARGE,
    keeping,
)
from servers import FaultyServer, eventually

from resto_wsgi import Replicator
from resto_wsgi.errors import DeliveryError, ReplicationError
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http import flight as http_flight
from resto_wsgi.transports.http.security import Security


def test_a_small_file_goes_out_in_one_send_with_its_head(
    patient: Any, serving: Any, put: Any, monkeypatch: Any
) -> None:
    """One packet in most cases; a second small one would wait for nothing but cost a wake-up on both sides."""
    sends: list[int] = []
    calls: list[str] = []
    send = socket.socket.send

    def counted(self: socket.socket, data: Any, *flags: int) -> int:
        count = send(self, data, *flags)
        if bytes(data[:4]) == b"PUT " or sends:
            sends.append(count)
        return count

    server = serving(keeping({}))
    monkeypatch.setattr(socket.socket, "send", counted)
    monkeypatch.setattr(os, "sendfile", lambda *arguments: calls.append("sendfile"))
    put(patient, server, bytes(10_000))
    assert len(sends) == 1
    assert sends[0] > 10_000
    assert calls == []


@pytest.mark.parametrize("size", [http_flight.SMALL, http_flight.SMALL + 1, 3_000_001, LARGE])
def test_a_large_file_goes_from_the_disk_to_the_socket_in_the_kernel(
    patient: Any, serving: Any, put: Any, monkeypatch: Any, size: int
) -> None:
    """No byte of it passes through this process, and all arrive."""
    sent: list[int] = []
    sendfile = os.sendfile

    def counted(*arguments: int) -> int:
        count = sendfile(*arguments)
        sent.append(count)
        return count

    monkeypatch.setattr(os, "sendfile", counted)
    held: dict[str, bytes] = {}
    content = os.urandom(size)
    put(patient, serving(keeping(held)), content)
    assert sum(sent) == (size if size > http_flight.SMALL else 0)
    assert held == {"/cat": content}


@pytest.mark.parametrize("code", [22, 95, 38, 75])  # EINVAL, EOPNOTSUPP, ENOSYS, EOVERFLOW
@pytest.mark.parametrize("after", [0, 1])
def test_where_the_kernel_refuses_to_send_a_file_it_is_read(
    patient: Any, serving: Any, put: Any, monkeypatch: Any, code: int, after: int
) -> None:
    """Some file systems cannot; also where some of it went, all arrives once and in order."""
    calls: list[int] = []
    sendfile = os.sendfile

    def refuse(*arguments: int) -> int:
        calls.append(1)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return sendfile(*arguments[:3], 70_000)

    monkeypatch.setattr(os, "sendfile", refuse)
    held: dict[str, bytes] = {}
    content = os.urandom(3_000_000)
    put(patient, serving(keeping(held)), content)
    assert held == {"/cat": content}
    assert len(calls) == after + 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_file_that_cannot_be_read_on_is_not_acknowledged(
    patient: Any, serving: Any, put: Any, monkeypatch: Any, tls: bool
) -> None:
    """A disk that breaks is this side's, and the host is told by a reset that no more comes."""
    held: dict[str, bytes] = {}
    server = serving(keeping(held), tls=tls)

    def broken(*arguments: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "sendfile", broken)
    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(DeliveryError, match="the master cannot be read: Input/output error"):
        put(patient, server, bytes(LARGE))
    monkeypatch.undo()
    server.stop()
    assert held == {}


def test_a_large_file_over_tls_arrives_whole(patient: Any, serving: Any, put: Any) -> None:
    """Sent in blocks through memory; and the connection is good for the next."""
    held: dict[str, bytes] = {}
    server = serving(keeping(held), tls=True)
    first, second = os.urandom(LARGE), os.urandom(1_000_000)
    put(patient, server, first, "first")
    put(patient, server, second, "second")
    assert hashlib.sha256(held["/first"]).digest() == hashlib.sha256(first).digest()
    assert held["/second"] == second
    assert server.connections == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_under_tls_a_reader_that_is_slow_gets_all(patient: Any, serving: Any, put: Any, version: Any) -> None:
    """Records that did not go out as a whole are gone on with, with either protocol."""
    held: dict[str, bytes] = {}

    def read_slowly(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        seen = server.read_request(reader, body=False)
        assert seen is not None
        parts: list[bytes] = []
        while (left := int(seen.headers["content-length"]) - sum(map(len, parts))) > 0:
            parts.append(reader.read(min(left, 300_000)))
            server.stopped.wait(0.001)
        held[seen.path] = b"".join(parts)
        connection.sendall(CREATED)

    content = os.urandom(6_000_000)
    tls, connect = Security.tls, http_connection.Bounded.connect

    def of_version(self: Security) -> ssl.SSLContext:
        context = tls(self)
        context.maximum_version = version
        return context

    def with_a_small_buffer(self: Any) -> None:
        connect(self)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Security, "tls", of_version)
        patch.setattr(http_connection.Bounded, "connect", with_a_small_buffer)
        put(patient, serving(read_slowly, tls=True), content)
    assert held == {"/cat": content}


# Masters that change


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("change", ["truncated to 0", "shrunk"])
def test_a_master_that_shrinks_while_it_is_sent_is_never_acknowledged(
    patient: Any, serving: Any, tmp_path: Path, tls: bool, change: str
) -> None:
    """The host has taken a part of it by then, and gets a reset for the rest."""
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    held: dict[str, bytes] = {}

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        seen = server.read_request(reader, body=False)
        os.truncate(path, 0 if change == "truncated to 0" else LARGE - 1)
        body = reader.read(LARGE)
        if seen and len(body) == LARGE:
            held[seen.path] = body
            connection.sendall(CREATED)

    server = serving(script, tls=tls)
    with path.open("rb", buffering=0) as file, pytest.raises(DeliveryError, match=r"the master ends at \d+ bytes"):
        patient.put(host(server), "cat", file, LARGE, 0)
    server.stop()
    assert held == {}


@pytest.mark.parametrize("tls", [False, True])
def test_a_master_that_grows_while_it_is_sent_leaves_the_connection_in_order(
    patient: Any, serving: Any, put: Any, tmp_path: Path, tls: bool
) -> None:
    """No byte beyond its size goes out, which would be read as the next request."""
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    held: dict[str, bytes] = {}

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        with path.open("ab") as more:
            more.write(b"DELETE /cat HTTP/1.1\r\n\r\n" * 1000)
        keeping(held)(server, connection, reader)

    server = serving(script, tls=tls)
    with path.open("rb", buffering=0) as file:
        patient.put(host(server), "cat", file, LARGE, 0)
    put(patient, server, b"next", "next")
    assert (len(held["/cat"]), held["/next"]) == (LARGE, b"next")
    assert [seen.method for seen in server.requests] == ["PUT", "PUT"]
    assert server.connections == 1


@pytest.mark.parametrize("change", ["rewritten", "replaced", "truncated", "grown", "removed"])
def test_a_save_ends_with_what_the_master_is_at_last(serving: Any, tmp_path: Path, change: str) -> None:
    """Somebody who knows of no lock changes it while it is sent; the second look sees that, and it is sent again."""
    root = tmp_path / "media"
    held: dict[str, bytes | None] = {}
    changed: list[str] = []
    path = root / "cat"

    def alter() -> None:
        if changed:
            return
        changed.append(change)
        if change == "rewritten":
            with path.open("r+b") as file:
                file.seek(LARGE // 2)
                file.write(b"other" * 1000)
            os.utime(path, (1, 1))
        elif change == "replaced":
            (tmp_path / "other").write_bytes(b"other" * 1_000_000)
            os.replace(tmp_path / "other", path)
        elif change == "truncated":
            os.truncate(path, 0)
        elif change == "grown":
            with path.open("ab") as file:
                file.write(b"more")
        else:
            path.unlink()

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        while seen := server.read_request(reader, body=False):
            size = int(seen.headers.get("content-length", "0"))
            body = reader.read(min(size, 100_000))
            alter()
            body += reader.read(size - len(body))
            if len(body) < size:
                return
            held[seen.path] = body if seen.method == "PUT" else None
            connection.sendall(CREATED if seen.method == "PUT" else b"HTTP/1.1 204 No\r\n\r\n")

    servers = [serving(script) for _ in range(2)]
    replicator = Replicator(media_root=str(root), media_hosts=[server.url + "/" for server in servers], timeout=2)
    try:
        with contextlib.suppress(ReplicationError):  # then it is withdrawn
            replicator.save("cat", io.BytesIO(os.urandom(LARGE)))
            assert held["/cat"] == (path.read_bytes() if path.exists() else None)
        assert changed
        replicator.drain(timeout=0.5)
        eventually(lambda: held.get("/cat") == (path.read_bytes() if path.exists() else None))
    finally:
        replicator.close()
