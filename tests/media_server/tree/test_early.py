"""Large files are sent on while they arrive, and a child has one only when its parent has it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from over_http import descriptors
from servers import LOOPBACK, Node, Tree, eventually
from trees import ask, held, owed, report, settled

from resto_wsgi.fields.digests import format_digest
from resto_wsgi.media_server.tree.early import Stream
from resto_wsgi.transports.http.connection import Pools
from resto_wsgi.transports.http.request import head_of
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import Opening

LARGE = os.urandom(6 << 20)
SECOND = LARGE[::-1]
TIMEOUT = 0.4  # seconds, of a stream
RATE = 48 << 20  # bytes per second of a client


def staged(node: Node) -> list[int]:
    """The sizes of the files that are being received; one may be gone again before it was looked at."""
    sizes = []
    for path in Path(node.root, ".resto/staging").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes


@contextlib.contextmanager
def begun(node: Any, size: int, **headers: str) -> Iterator[http.client.HTTPConnection]:
    """A PUT of /cat, of which no byte of the body has been sent."""
    connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("PUT", "/cat")
        for name, value in {"Content-Length": str(size), **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        yield connection


def test_the_bytes_are_at_the_leaves_before_all_have_come(tree: Tree) -> None:
    """While the root still receives, every node has nearly as much; none has the file before the root."""
    ask(tree, "PUT", "/cat", b"old")
    with begun(tree, len(LARGE)) as connection:
        connection.send(LARGE[:-1])
        most = len(LARGE) - (256 << 10)
        eventually(lambda: all(any(size >= most for size in staged(node)) for node in tree.nodes))
        assert all(held(node) == {"cat": b"old"} for node in tree.nodes)
        connection.send(LARGE[-1:])
        assert connection.getresponse().status == 200
    assert all(held(node) == {"cat": LARGE} for node in tree.nodes)
    etags = {ask(node, "GET", "/cat", User_Agent="resto_wsgi")[1]["ETag"] for node in tree.nodes}
    assert len(etags) == 1 and settled(tree)
    assert not any(staged(node) for node in tree.nodes)


def test_what_the_root_refuses_reaches_nobody(tree: Tree) -> None:
    """A digest that is another file's, a condition, a generation that is late: though nearly all bytes were there."""
    ask(tree, "PUT", "/cat", SECOND, Resto_Generation="5")
    wrong = format_digest(hashlib.sha256(b"x").digest())
    for headers, status in [
        ({"Repr-Digest": wrong}, 400),
        ({"If-Match": '"other"'}, 412),
        ({"If-None-Match": "*"}, 412),
        ({"Resto-Generation": "4"}, 412),
    ]:
        assert ask(tree, "PUT", "/cat", LARGE, **headers)[0] == status, headers
    eventually(lambda: not any(staged(node) for node in tree.nodes))
    assert all(held(node) == {"cat": SECOND} for node in tree.nodes)
    assert settled(tree)


def test_a_client_that_goes_away_leaves_nothing(tree: Tree) -> None:
    """The children see a body that is cut short, as the root does."""
    with begun(tree, len(LARGE)) as connection:
        connection.send(LARGE[:-1])
        eventually(lambda: all(staged(node) for node in tree.nodes))
    eventually(lambda: not any(staged(node) for node in tree.nodes))
    assert all(held(node) == {} for node in tree.nodes)
    assert settled(tree)


def test_what_is_known_of_the_file_goes_with_it(tree: Tree) -> None:
    """Digest, generation and Date, all the way down."""
    digest, date = format_digest(hashlib.sha256(LARGE).digest()), "Tue, 03 Nov 2026 10:20:30 GMT"
    assert ask(tree, "PUT", "/cat", LARGE, Repr_Digest=digest, Resto_Generation="7", Date=date)[0] == 201
    for node in tree.nodes:
        headers = ask(node, "GET", "/cat", User_Agent="resto_wsgi")[1]
        found = headers["Repr-Digest"], headers["Resto-Generation"], headers["Last-Modified"]
        assert found == (digest, "7", date)


def test_two_versions_of_one_date_and_size_have_two_etags_on_every_node(tree: Tree) -> None:
    """The same two: what was told to the children too early is told anew."""
    etags = []
    for body in (LARGE, SECOND, LARGE):
        ask(tree, "PUT", "/cat", body, Date="Tue, 03 Nov 2026 10:20:30 GMT")
        (etag,) = {ask(node, "GET", "/cat", User_Agent="resto_wsgi")[1]["ETag"] for node in tree.nodes}
        assert all(held(node) == {"cat": body} for node in tree.nodes)
        etags.append(etag)
    assert len({*etags}) == 3


def test_children_that_fail_under_way_are_owed(tmp_path: Path, faulty: Any) -> None:
    """One that resets, one that says no before the end, one that reads nothing; the good one has the file."""
    bad = [faulty(each).url for each in ("reset", "early_413", "refuse", "hang", ("status", 201))]
    with Node(tmp_path / "good") as good, Node(tmp_path / "root", children=[*bad, good.url], timeout=0.5) as node:
        status, lines = report(node, "PUT", "/cat", LARGE)
        assert status == 202
        assert [each["state"] for each in lines] == ["stored", "owed", "refused", "owed", "owed", "stored", "stored"]
        assert held(good) == {"cat": LARGE}


def test_two_large_files_of_one_name_leave_one_everywhere(tree: Tree) -> None:
    """The one that came last at the root, though both were on their way at once."""
    with begun(tree, len(LARGE)) as first, begun(tree, len(SECOND)) as second:
        first.send(LARGE[:-1])
        second.send(SECOND[:-1])
        eventually(lambda: all(len(staged(node)) == 2 for node in tree.nodes))
        for connection, last in ((second, SECOND), (first, LARGE)):
            connection.send(last[-1:])
            assert connection.getresponse().status in (200, 201)
    assert all(held(node) == {"cat": LARGE} for node in tree.nodes) and settled(tree)


# One stream


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path) -> Iterator[Callable[..., Stream]]:
    """``stream(url)`` returns one of a file that is all there, which nobody has told it yet."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    pools = Pools(TIMEOUT, Security())

    def make(url: str) -> Stream:
        origin = pools.origin(url)
        opening = Opening(origin, head_of(origin, "PUT", "/cat", {"Content-Length": str(len(LARGE))}), TIMEOUT)
        made = Stream(opening, str(path), len(LARGE), path.stat().st_mtime_ns)
        assert made.start()
        return made

    yield make
    pools.close()


def usable(made: Stream, tmp_path: Path) -> bool:
    """End a stream as who takes it over does; return whether it can be gone on with."""
    with (tmp_path / "file").open("rb") as file:
        begun = made.end(file.fileno())
        assert begun is None or begun.sent == made._sent
        return begun is not None


def reading(server: Any, pause: float) -> Callable[..., None]:
    """A script that reads some KiB at a time, with a pause after each."""

    def script(connection: Any, reader: Any) -> None:
        while not server[0].stopped.wait(pause) and connection.recv(16 * 1024):
            """On and on."""

    return script


def child(faulty: Any, pause: float, tls: ssl.SSLContext | None) -> str:
    """Return the URL of a child that reads so, in the clear or over TLS, with a kernel that takes little for it."""
    server: list[Any] = []
    script = reading(server, pause)

    def secure(connection: Any, reader: Any) -> None:
        assert tls is not None
        with tls.wrap_socket(connection, server_side=True) as secured:
            script(secured, reader)

    server.append(faulty(secure if tls else script))
    server[0]._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    url: str = server[0].url
    return url.replace("http:", "https:") if tls else url


@pytest.fixture(params=["in the clear", "over TLS"])
def tls(request: pytest.FixtureRequest, certificate: Path) -> ssl.SSLContext | None:
    if request.param == "in the clear":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_child_that_is_slow_but_steady_is_not_given_up(stream: Any, faulty: Any, tmp_path: Path, tls: Any) -> None:
    """What the kernel has taken arrives there little by little, for longer than the timeout."""
    made = stream(child(faulty, 0.05, tls))
    made.arrived(len(LARGE))
    time.sleep(4 * TIMEOUT)
    assert made._thread.is_alive()
    assert 0 < made._sent < len(LARGE)
    assert usable(made, tmp_path)
    made._connection.close()


def test_a_child_that_reads_nothing_is_given_up_in_time(stream: Any, faulty: Any, tmp_path: Path, tls: Any) -> None:
    """Though the kernels take some of it."""
    made = stream(child(faulty, 60, tls))
    made.arrived(len(LARGE))
    begun = time.monotonic()
    eventually(lambda: not made._thread.is_alive())
    assert time.monotonic() - begun < 4 * TIMEOUT
    assert not usable(made, tmp_path)


def test_the_time_in_which_nothing_is_there_is_not_the_childs(
    stream: Any, faulty: Any, tmp_path: Path, tls: Any
) -> None:
    """The client of this node may take as long as it likes."""
    made = stream(child(faulty, 0, tls))
    for part in range(1, 4):
        made.arrived(part * 100_000)
        time.sleep(2 * TIMEOUT)
    eventually(lambda: made._sent == 300_000)
    assert usable(made, tmp_path)
    made._connection.close()


def test_whoever_takes_over_does_not_wait_for_the_child(stream: Any, faulty: Any, tmp_path: Path, tls: Any) -> None:
    """Neither for one that has no room, nor for bytes of the file."""
    slow, idle = stream(child(faulty, 0.1, tls)), stream(child(faulty, 0, tls))
    slow.arrived(len(LARGE))
    eventually(lambda: slow._sent and not idle._connecting)
    begun = time.monotonic()
    for made in (slow, idle):
        assert usable(made, tmp_path)
        made._connection.close()
    assert time.monotonic() - begun < TIMEOUT / 2


def test_nobody_waits_for_a_child_that_still_connects(stream: Any, tmp_path: Path) -> None:
    """Its thread ends by itself, and leaves nothing."""
    before = descriptors()
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((LOOPBACK, 0))
        full.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        made = stream(f"http://{LOOPBACK}:{full.getsockname()[1]}")
        made.arrived(len(LARGE))
        begun = time.monotonic()
        assert not usable(made, tmp_path)
        assert time.monotonic() - begun < TIMEOUT / 2
        made._thread.join(10)
    assert descriptors() == before


def test_a_child_that_hangs_up_is_left_to_the_engine(stream: Any, faulty: Any, tmp_path: Path, tls: Any) -> None:
    """Which reads what it has said before; nobody goes round and round meanwhile."""

    def hang_up(connection: Any, reader: Any) -> None:
        if tls:
            tls.wrap_socket(connection, server_side=True).close()

    url = faulty(hang_up).url
    made = stream(url.replace("http:", "https:") if tls else url)
    begun = time.process_time()
    made._thread.join(TIMEOUT)
    made.arrived(len(LARGE))
    eventually(lambda: not made._thread.is_alive())
    assert time.process_time() - begun < TIMEOUT
    if usable(made, tmp_path):
        made._connection.close()


# All of it


def test_three_levels_take_little_longer_than_one(tmp_path: Path) -> None:
    """At the pace of a network: at most 1.6 times as long."""
    body = LARGE * 16

    def seconds(node: Node) -> float:
        began = time.monotonic()
        with begun(node, len(body)) as connection:
            for offset in range(0, len(body), 1 << 18):
                connection.send(body[offset : offset + (1 << 18)])
                time.sleep(max(0.0, began + offset / RATE - time.monotonic()))
            assert connection.getresponse().status == 201
        return time.monotonic() - began

    with (
        Node(tmp_path / "alone") as alone,
        Node(tmp_path / "3") as leaf,
        Node(tmp_path / "2", children=[leaf.url]) as middle,
        Node(tmp_path / "1", children=[middle.url]) as root,
    ):
        one, three = seconds(alone), seconds(root)
        print(f"{len(body) >> 20} MiB: one level {one:.2f} s, three {three:.2f} s")
        assert three <= 1.6 * one
        assert not owed(root, middle)
