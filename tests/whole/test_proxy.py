"""Each mode of the chaos harness's proxy does what it says, to urllib3 on one side and a real nginx on the other."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from chaos.proxy import Proxy
from servers import eventually

BODY = os.urandom(300_000)
SOON = 0.5  # seconds that a hasty client waits
PATIENCE = 10.0  # seconds that any other waits for what takes milliseconds


@pytest.fixture
def proxy(nginx: Any) -> Iterator[Proxy]:
    """A proxy before one nginx."""
    with Proxy(nginx.port) as proxy:
        yield proxy


@pytest.fixture
def client() -> Iterator[urllib3.PoolManager]:
    """A client that keeps its connection and tries once."""
    with urllib3.PoolManager(retries=False, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def hasty() -> Iterator[urllib3.PoolManager]:
    """The same, but it gives up after half a second."""
    with urllib3.PoolManager(retries=False, timeout=SOON) as client:
        yield client


def put(client: urllib3.PoolManager, proxy: Proxy, name: str, body: bytes = BODY) -> int:
    return client.request("PUT", f"{proxy.url}/{name}", body=body).status


def stored(nginx: Any, name: str) -> bytes | None:
    try:
        with open(os.path.join(nginx.root, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def test_slow_holds_the_sender_to_its_rate(nginx: Any, proxy: Proxy, client: Any) -> None:
    """What is sent arrives, no sooner than the rate allows, and the kernels in between swallow little of it."""
    proxy.set("slow", rate=400_000)
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.sendall(b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n")
        began = time.monotonic()
        connection.sendall(bytes(600_000))
        assert 0.5 < time.monotonic() - began < 3
        assert connection.recv(12) == b"HTTP/1.1 201"
        assert 1.4 < time.monotonic() - began < 4
    assert stored(nginx, "a") == bytes(600_000)
    assert proxy.counts == {"slow": 1}


def test_slow_ends_when_the_mode_does(nginx: Any, proxy: Proxy, client: Any) -> None:
    """What was on the link still comes, and the rest is as quick as before."""
    proxy.set("slow", rate=100_000)
    threading.Timer(0.3, proxy.set, ["pass"]).start()
    began = time.monotonic()
    assert put(client, proxy, "a") == 201
    assert 0.3 < time.monotonic() - began < 2
    assert stored(nginx, "a") == BODY
    assert not proxy.under_way


def test_pass_changes_nothing(nginx: Any, proxy: Proxy, client: Any) -> None:
    """What is put through it arrives, and comes back, over one connection."""
    assert put(client, proxy, "a") == 201
    assert client.request("GET", f"{proxy.url}/a").data == BODY == stored(nginx, "a")
    assert client.connection_from_url(proxy.url).num_connections == 1
    assert not proxy.counts


def test_refuse_refuses_connections_and_resets_open_ones(nginx: Any, proxy: Proxy, client: Any) -> None:
    """The kept connection is gone, a new one is refused, and all is well after the switch back, on the same port."""
    assert put(client, proxy, "a") == 201
    proxy.set("refuse")
    with pytest.raises((urllib3.exceptions.ProtocolError, urllib3.exceptions.NewConnectionError)):
        put(client, proxy, "a", b"new")
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        put(client, proxy, "a", b"new")
    assert stored(nginx, "a") == BODY
    proxy.set("pass")
    assert put(client, proxy, "a", b"new") == 204
    assert stored(nginx, "a") == b"new"


@pytest.mark.parametrize("kept", [True, False])
def test_silent_takes_connections_and_says_nothing(nginx: Any, proxy: Proxy, hasty: Any, kept: bool) -> None:
    """The client waits in vain, on a new and on a kept connection, and the server never hears of it."""
    if kept:
        assert put(hasty, proxy, "a", b"old") == 201
    proxy.set("silent")
    with pytest.raises((urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError)):
        put(hasty, proxy, "a", b"new")
    proxy.set("pass")
    assert stored(nginx, "a") == (b"old" if kept else None)
    assert proxy.counts == {"silent": 1}
    assert put(hasty, proxy, "a") in (201, 204)


def test_delay_delays_each_direction(nginx: Any, proxy: Proxy, client: Any) -> None:
    """A request takes at least twice the delay, and arrives unchanged."""
    proxy.set("delay", seconds=0.1)
    begun = time.monotonic()
    assert put(client, proxy, "a") == 201
    assert time.monotonic() - begun >= 0.2
    assert stored(nginx, "a") == BODY
    assert proxy.counts == {"delay": 1}


def test_cut_of_the_request_leaves_the_server_as_it_was(nginx: Any, proxy: Proxy, client: Any) -> None:
    """After that many bytes of it both sides are reset; the old file stays."""
    assert put(client, proxy, "a", b"old") == 201
    proxy.set("cut", after=1000)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        put(client, proxy, "a")
    assert stored(nginx, "a") == b"old"
    assert proxy.counts == {"cut": 1}


def test_cut_lets_shorter_requests_through(nginx: Any, proxy: Proxy, client: Any) -> None:
    """It counts the bytes of one connection in one direction."""
    proxy.set("cut", after=100_000)
    assert put(client, proxy, "a", b"short") == 201
    with pytest.raises(urllib3.exceptions.ProtocolError):
        put(client, proxy, "a")


def test_cut_of_the_reply_comes_after_the_server_did_it(nginx: Any, proxy: Proxy, client: Any) -> None:
    """The client gets the beginning of an answer; the server has the file."""
    proxy.set("cut", after=20, direction="reply")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        put(client, proxy, "a")
    assert stored(nginx, "a") == BODY


def test_cut_of_a_long_reply_is_an_incomplete_read(nginx: Any, proxy: Proxy, client: Any) -> None:
    """That many bytes of it arrive."""
    assert put(client, proxy, "a") == 201
    proxy.set("cut", after=100_000, direction="reply")
    response = client.request("GET", f"{proxy.url}/a", preload_content=False)
    assert response.status == 200
    with pytest.raises(urllib3.exceptions.ProtocolError):
        response.read()


def test_answer_then_cut_does_the_work_and_resets(nginx: Any, proxy: Proxy, client: Any) -> None:
    """The server did what it was asked, and the client is told nothing."""
    assert put(client, proxy, "a", b"old") == 201
    proxy.set("answer_then_cut")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        put(client, proxy, "a")
    assert stored(nginx, "a") == BODY
    with pytest.raises(urllib3.exceptions.ProtocolError):
        client.request("DELETE", f"{proxy.url}/a")
    assert stored(nginx, "a") is None
    assert proxy.counts == {"answer_then_cut": 2}


@pytest.mark.parametrize("kept", [True, False])
def test_late_delivers_after_the_client_gave_up(nginx: Any, proxy: Proxy, hasty: Any, kept: bool) -> None:
    """The server carries it out when nobody waits for it any more, even after the mode was switched back."""
    if kept:
        assert put(hasty, proxy, "a", b"old") == 201
    proxy.set("late", seconds=0.5)
    with pytest.raises((urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError)):
        put(hasty, proxy, "a")
    hasty.clear()
    proxy.set("pass")
    assert stored(nginx, "a") == (b"old" if kept else None)
    assert hasty.request("DELETE", f"{proxy.url}/a").status in (204, 404)
    assert stored(nginx, "a") is None
    assert proxy.held == 1
    assert eventually(lambda: stored(nginx, "a")) == BODY
    eventually(lambda: proxy.held == 0)
    assert proxy.counts == {"late": 1, "delivered late": 1}


def test_stop_drops_what_is_held(nginx: Any, hasty: Any) -> None:
    """Nothing arrives, and no thread is left, once it was stopped."""
    with Proxy(nginx.port) as proxy:
        proxy.set("late", seconds=60)
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            put(hasty, proxy, "a", b"small")
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    assert stored(nginx, "a") is None


def test_a_server_that_is_down_is_a_reset(nginx: Any, proxy: Proxy, client: Any) -> None:
    """The proxy itself holds on, and works again when the server is back."""
    nginx.stop()
    with pytest.raises((urllib3.exceptions.ProtocolError, urllib3.exceptions.NewConnectionError)):  # or even sooner
        put(client, proxy, "a")
    nginx.start()
    assert put(client, proxy, "a") == 201


def test_modes_are_checked() -> None:
    """A misspelt mode is an error, and not a fault that is never injected."""
    with Proxy(1) as proxy:
        with pytest.raises(ValueError, match="no such mode"):
            proxy.set("dorp")
        with pytest.raises(ValueError, match="no such mode"):
            proxy.set("cut", after=1, direction="up")
