"""Connections are made within bounds, whichever addresses a host has, and so that nothing of them is done late."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from over_http import descriptors
from servers import LOOPBACK, free_port

from resto_wsgi.transports.http import connecting
from resto_wsgi.transports.http.connecting import NotConnected, Route
from resto_wsgi.transports.http.progress import Traffic
from resto_wsgi.transports.http.resolving import Resolver

TIMEOUT = 1.0  # second
NOWHERE = ("fe80::1", 80, 0, 0)  # no address without an interface


def look_up(*addresses: tuple[Any, ...]) -> Callable[..., list[tuple[Any, ...]]]:
    """Return a resolver that knows these addresses of every name."""
    return lambda host, port: [
        (socket.AF_INET6 if ":" in each[0] else socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses
    ]


def route(
    *addresses: tuple[Any, ...], context: ssl.SSLContext | None = None, timeout: float = TIMEOUT, host: str = "media"
) -> Route:
    resolver = Resolver(timeout, look_up=look_up(*addresses))
    return Route(host, 80, timeout, resolver, Traffic(), (lambda: context) if context is not None else None)


@pytest.fixture
def listening() -> Iterator[Callable[..., tuple[str, int]]]:
    """``listening()`` returns an address that takes connections; with ``full=True`` it lets them wait."""
    with contextlib.ExitStack() as stack:

        def listen(*, full: bool = False) -> tuple[str, int]:
            listener = stack.enter_context(socket.socket())
            listener.bind((LOOPBACK, 0))
            listener.listen(0 if full else 8)
            for _ in range(2 if full else 0):  # its queue has room for one; what comes after it is not answered
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
            return LOOPBACK, listener.getsockname()[1]

        yield listen


def test_each_connection_is_ended_with_a_reset_and_is_not_silent_for_long(listening: Any) -> None:
    """Set before it connects: a process may be killed at any moment after that."""
    with route(listening()).connect() as sock:
        linger = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger) == (1, 0)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_addresses_that_are_refused_are_passed_over_at_once(listening: Any) -> None:
    """And one that this machine has no way to."""
    good = listening()
    begun = time.monotonic()
    with route((LOOPBACK, free_port()), NOWHERE, (LOOPBACK, free_port()), good).connect() as sock:
        assert sock.getpeername() == good
    assert time.monotonic() - begun < connecting.STAGGER


def test_an_address_that_does_not_answer_costs_a_moment(listening: Any) -> None:
    """The next is tried beside it, and what has lost is closed."""
    before = descriptors()
    silent, good = [listening(full=True) for _ in range(2)], listening()
    opened = descriptors()
    begun = time.monotonic()
    with route(*silent, good).connect() as sock:
        assert sock.getpeername() == good
        assert 2 * connecting.STAGGER <= time.monotonic() - begun < TIMEOUT
        assert descriptors() == opened + 1
    assert opened > before


def test_an_address_that_has_answered_is_tried_first_the_next_time(listening: Any) -> None:
    """So that a dead one costs its moment once."""
    way = route(listening(full=True), listening())
    way.connect().close()
    begun = time.monotonic()
    way.connect().close()
    assert time.monotonic() - begun < connecting.STAGGER


def test_the_first_is_still_waited_for_when_the_others_are_tried(listening: Any) -> None:
    """A slow one of several is better than none."""
    full = socket.socket()
    with full, contextlib.ExitStack() as stack:
        full.bind((LOOPBACK, 0))
        full.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        def make_room() -> None:
            time.sleep(2 * connecting.STAGGER)
            for _ in range(2):
                stack.callback(full.accept()[0].close)

        thread = threading.Thread(target=make_room)
        thread.start()
        with route((LOOPBACK, full.getsockname()[1]), (LOOPBACK, free_port()), timeout=5).connect() as sock:
            assert sock.getpeername() == full.getsockname()
        thread.join()


def test_all_addresses_are_tried_within_one_timeout(listening: Any) -> None:
    """Not within one each."""
    before = descriptors()
    silent = [listening(full=True) for _ in range(4)]
    opened = descriptors()
    begun = time.monotonic()
    with pytest.raises(NotConnected, match=r"^no connection within 1 s$"):
        route(*silent).connect()
    assert TIMEOUT <= time.monotonic() - begun < 1.5 * TIMEOUT
    assert descriptors() == opened > before


def test_each_refusal_is_told_with_its_address() -> None:
    """In one line."""
    port = free_port()
    with pytest.raises(NotConnected) as caught:
        route((LOOPBACK, port), NOWHERE).connect()
    text = str(caught.value)
    assert text.startswith("refuses connections, or is unreachable: 127.0.0.1: Connection refused; fe80::1: ")
    assert "\n" not in text


def test_a_host_that_says_nothing_of_tls_is_given_up(listening: Any) -> None:
    """As if it were frozen: its kernel takes the connection, and it never answers."""
    context = ssl.create_default_context()
    before = descriptors()
    address = listening()
    opened = descriptors()
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^TLS: no answer within 1 s$"):
        route(address, context=context).connect()
    assert TIMEOUT <= time.monotonic() - begun < 2 * TIMEOUT
    assert descriptors() == opened > before


def test_tls_is_spoken_to_the_name_and_may_take_its_time(certificate: Path) -> None:
    """A server that needs longer than the timeout, but is seen to go on, is waited for."""
    client = ssl.create_default_context(cafile=str(certificate))
    client.check_hostname = False
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    listener = socket.create_server((LOOPBACK, 0))
    names: list[str] = []
    server.sni_callback = lambda connection, name, context: names.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server.wrap_bio(incoming, outgoing, server_side=True)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            done = False
            while not done:
                try:
                    tls.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    pass
                answer = outgoing.read()
                for at in range(0, len(answer), 1 + len(answer) // 6):  # its part in six pieces, and as many waits
                    time.sleep(TIMEOUT / 4)
                    connection.sendall(answer[at : at + 1 + len(answer) // 6])
                if not done:
                    incoming.write(connection.recv(65536))

    thread = threading.Thread(target=serve)
    thread.start()
    begun = time.monotonic()
    with listener, route(listener.getsockname(), context=client).connect() as sock:
        assert isinstance(sock, ssl.SSLSocket) and sock.version()
        assert time.monotonic() - begun > TIMEOUT
        thread.join()
    assert names == ["media"]


def test_a_host_that_is_no_other_is_refused_over_tls(certificate: Path, listening: Any) -> None:
    """Its certificate is for a number, and it was asked for by name."""
    client = ssl.create_default_context(cafile=str(certificate))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    before = descriptors()
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                server.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ssl.SSLCertVerificationError):
            route(listener.getsockname(), context=client, host="other").connect()
        thread.join()
    assert descriptors() == before
