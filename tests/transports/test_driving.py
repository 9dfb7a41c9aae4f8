"""Many requests moved by one thread: none delays another, and an interruption leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from interruption import interrupted_at
from over_http import descriptors, host
from raw_hosts import (
    CREATED,
    LARGE,
    STATE,
    WAIT,
    keeping,
    reset,
)
from servers import FaultyServer

from resto_wsgi.errors import DeliveryError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import Master
from resto_wsgi.replication import fanout as replication_fanout
from resto_wsgi.replication.fanout import Fanout, Task
from resto_wsgi.transports import driving
from resto_wsgi.transports.http import connecting as http_connecting
from resto_wsgi.transports.http import connection as http_connection
from resto_wsgi.transports.http import flight as http_flight
from resto_wsgi.transports.http import job as http_job
from resto_wsgi.transports.http import progress as http_progress
from resto_wsgi.transports.http.transport import HttpTransport


@pytest.mark.parametrize("kind", ["lighttpd", "apache"])
def test_folders_are_made_by_what_is_driven(media_servers: Any, patient: Any, tmp_path: Path, kind: str) -> None:
    """At several hosts at once, in one or two goes: lighttpd closes the connection of a PUT that it has refused."""
    servers = media_servers(kind, 2)
    path = tmp_path / "master"
    path.write_bytes(b"content")
    fanout = Fanout(patient)
    ends: list[DeliveryError | None] = []
    for name in ("warm", "a/b/c/cat"):
        with path.open("rb", buffering=0) as file:
            tasks = [Task(host(server), name, Master(file, 7, 0, STATE)) for server in servers]
            fanout.run(tasks, lambda task, error, value: ends.append(error), 2)
    fanout.close()
    assert ends == [None] * 4
    assert [Path(server.root, "a/b/c/cat").read_bytes() for server in servers] == [b"content"] * 2


def test_requests_after_one_another_are_driven_without_a_thread(patient: Any, serving: Any, tmp_path: Path) -> None:
    """PUT, MKCOL, MKCOL and PUT again at three hosts at once, on the connections that are there."""

    def script(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        made: set[str] = set()
        while seen := server.read_request(reader):
            if seen.method == "MKCOL":
                made.add(seen.path)
            missing = seen.path == "/a/b/cat" and made != {"/a/", "/a/b/"}
            connection.sendall(b"HTTP/1.1 409 No\r\nContent-Length: 2\r\n\r\nno" if missing else CREATED)

    servers = [serving(script) for _ in range(3)]
    path = tmp_path / "master"
    path.write_bytes(bytes(LARGE))
    fanout = Fanout(patient)
    ends: list[DeliveryError | None] = []
    for name, size in (("warm", 1), ("a/b/cat", 1_000_000)):
        fanout.close()  # the threads that have connected
        with path.open("rb", buffering=0) as file:
            tasks = [Task(host(server), name, Master(file, size, 0, STATE)) for server in servers]
            fanout.run(tasks, lambda task, error, value: ends.append(error), 3)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("resto ")]
    assert ends == [None] * 6
    for server in servers:
        assert server.connections == 1
        assert [(seen.method, seen.path, seen.body) for seen in server.requests[1:]] == [
            ("PUT", "/a/b/cat", 1_000_000),
            ("MKCOL", "/a/", 0),
            ("MKCOL", "/a/b/", 0),
            ("PUT", "/a/b/cat", 1_000_000),
        ]


@pytest.mark.parametrize("warmed", [False, True])
def test_bad_hosts_have_each_its_own_error_and_delay_no_other(serving: Any, tmp_path: Path, warmed: bool) -> None:
    """Twelve hosts: one hangs, one drips, one resets, one is dead, one speaks TLS, and seven are as always."""
    held: list[dict[str, bytes]] = [{} for _ in range(8)]
    ready = threading.Event()

    def after_warm(script: Any) -> Any:
        def run(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
            if not ready.is_set():
                server.read_request(reader)
                connection.sendall(CREATED)
                ready.wait(WAIT)
            script(server, connection, reader)

        return run

    def hang(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.stopped.wait(WAIT)

    def drip(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server._drip(connection, reader)

    def break_off(server: FaultyServer, connection: Any, reader: BinaryIO) -> None:
        server.read_request(reader, body=False)
        connection.sendall(b"HTTP/1.1 2")
        time.sleep(0)
        reset(connection)

    good = [serving(keeping(each)) for each in held[:7]]
    secure = serving(keeping(held[7]), tls=True)
    bad = {
        "hangs": serving(after_warm(hang)),
        "drips": serving(after_warm(drip)),
        "resets": serving(after_warm(break_off)),
    }
    dead = FaultyServer("refuse")
    hosts = [Host(label, server.url) for label, server in bad.items()] + [Host("dead", dead.url)]
    hosts += [Host(f"good-{number}", server.url) for number, server in enumerate([*good, secure])]
    transport = HttpTransport(1.0)
    fanout = Fanout(transport)
    path = tmp_path / "master"
    content = os.urandom(2_000_000)
    path.write_bytes(content)
    ends: list[tuple[str, DeliveryError | None, float]] = []

    def ended(task: Task, error: DeliveryError | None, value: object) -> None:
        ends.append((task.host.label, error, time.monotonic() - begun))

    try:
        with path.open("rb", buffering=0) as file:
            if warmed:
                begun = time.monotonic()
                fanout.run([Task(each, "warm", Master(file, 7, 0, STATE)) for each in hosts], ended, 12)
                assert [label for label, error, _ in ends if error] == ["dead"]
                ends.clear()
            ready.set()
            begun = time.monotonic()
            fanout.run([Task(each, "cat", Master(file, len(content), 0, STATE)) for each in hosts], ended, 12)
    finally:
        fanout.close()
        transport.close()
        dead.stop()
    order = [label for label, _, _ in ends]
    errors = {label: str(error) for label, error, _ in ends if error}
    assert len(order) == len(set(order)) == 12
    assert sorted(errors) == ["dead", "drips", "hangs", "resets"]
    assert "it took nothing for 1 s" in errors["hangs"] or "no answer within 1 s" in errors["hangs"]
    assert "no answer within 1 s" in errors["drips"]
    assert "the connection broke" in errors["resets"]
    assert "refuses connections" in errors["dead"]
    assert set(order[-2:]) == {"hangs", "drips"}
    assert max(took for label, _, took in ends if label.startswith("good")) < 0.9, "a bad host has held up a good one"
    assert all(each["/cat"] == content for each in held)


def test_many_callers_send_the_right_bytes_over_the_same_connections(
    media_servers: Any, patient: Any, tmp_path: Path
) -> None:
    """Sixteen threads, three hosts, small files and large ones: each name has its own content at the end."""
    servers = media_servers("nginx", 3)
    fanout = Fanout(patient)
    rounds, callers = 6, 16
    content = {
        f"f-{caller}-{count}": os.urandom([10, 5_000, 70_000, 1_500_000][(caller + count) % 4])
        for caller in range(callers)
        for count in range(rounds)
    }
    errors: list[DeliveryError] = []

    def ended(task: Task, error: DeliveryError | None, value: object) -> None:
        if error is not None:
            errors.append(error)

    def call(caller: int) -> None:
        for count in range(rounds):
            name = f"f-{caller}-{count}"
            path = tmp_path / name
            path.write_bytes(content[name])
            with path.open("rb", buffering=0) as file:
                master = Master(file, len(content[name]), 0, STATE)
                fanout.run([Task(host(server), name, master) for server in servers], ended, 3)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    fanout.close()
    assert errors == []
    for server in servers:
        assert {name: Path(server.root, name).read_bytes() for name in content} == content


ENGINE = [http_flight, http_job, http_connection, http_connecting, http_progress, driving, replication_fanout]


SWEPT = [module.__file__ for module in ENGINE]


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize("warmed", [True, False])
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_interruption_at_any_line_leaves_nothing_behind(
    media_servers: Any, patient: Any, tmp_path: Path, size: int, warmed: bool
) -> None:
    """No descriptor, no thread at work, no end that is not true, and no connection that is not in order."""
    servers = media_servers("nginx", 2)
    path = tmp_path / "master"
    content = os.urandom(size)
    path.write_bytes(content)
    fanout = Fanout(patient)

    def save(name: str) -> list[tuple[Host, DeliveryError | None]]:
        ends: list[tuple[Host, DeliveryError | None]] = []
        with path.open("rb", buffering=0) as file:
            tasks = [Task(host(server), name, Master(file, size, 0, STATE)) for server in servers]
            with contextlib.suppress(KeyboardInterrupt):
                fanout.run(tasks, lambda task, error, value: ends.append((task.host, error)), 2)
        return ends

    def held(server: Any, name: str) -> bytes | None:
        found = Path(server.root, name)
        return found.read_bytes() if found.exists() else None

    by_host = {host(server): server for server in servers}
    assert len(save("whole")) == 2
    fanout.close()
    before = descriptors()
    count, left = 0, [0]
    while left[0] <= 0:
        count += 1 if count < 20 else 13
        if not warmed:
            patient.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # a connection of which nobody had yet been told
            with interrupted_at(count, SWEPT) as left:
                ends = save(f"cut-{count}")
            fanout.close()
            assert descriptors() <= before
        for each, error in ends:
            assert error is not None or held(by_host[each], f"cut-{count}") == content
        for server in servers:
            assert held(server, f"cut-{count}") in (None, content)
    assert count > 100
    ends = save("last")
    fanout.close()
    assert [error for _, error in ends] == [None, None]
    assert [held(server, "last") for server in servers] == [content] * 2
