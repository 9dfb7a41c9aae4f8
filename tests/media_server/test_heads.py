"""Heads of requests that proxies and servers read differently, over the wire."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from node_requests import ask_server, say
from servers import Node

HOST = b"Host: localhost\r\n"
DOUBTFUL = {
    "a blank before the colon": b"PUT /x HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n\r\nx",
    "a tab before the colon": b"PUT /x HTTP/1.1\r\n" + HOST + b"Content-Length\t: 1\r\n\r\nx",
    "a vertical tab before the colon": b"PUT /x HTTP/1.1\r\n" + HOST + b"Content-Length\x0b: 1\r\n\r\nx",
    "a tab in the name": b"PUT /x HTTP/1.1\r\n" + HOST + b"Content\tLength: 1\r\nContent-Length: 1\r\n\r\nx",
    "no name": b"PUT /x HTTP/1.1\r\n" + HOST + b": 1\r\nContent-Length: 1\r\n\r\nx",
    "a NUL in the value": b"PUT /x HTTP/1.1\r\n" + HOST + b"X: a\0b\r\nContent-Length: 1\r\n\r\nx",
    "a bare CR in the value": b"PUT /x HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\nContent-Length: 1\r\n\r\nx",
    "a fold": b"PUT /x HTTP/1.1\r\n" + HOST + b"Resto-Generation: 7\r\n 9\r\nContent-Length: 1\r\n\r\nx",
    "a fold before any header": b"PUT /x HTTP/1.1\r\n fold\r\n" + HOST + b"Content-Length: 1\r\n\r\nx",
    "two names of the host": b"PUT /x HTTP/1.1\r\n" + HOST + b"Host: evil\r\nContent-Length: 1\r\n\r\nx",
    "the host twice": b"PUT /x HTTP/1.1\r\n" + HOST + HOST + b"Content-Length: 1\r\n\r\nx",
    "no host": b"PUT /x HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
    "a target that is none": b"PUT //[ HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx",
}


@pytest.mark.parametrize("head", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_a_head_in_doubt_is_refused(node: Node, root: Path, capfd: pytest.CaptureFixture[str], head: bytes) -> None:
    """400 and the end of the connection: what follows is no request, and the log gets no line of it."""
    reply = say(node, head + b"PUT /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", reply) == [b"400"]
    assert not (root / "x").exists() and not (root / "smuggled").exists()
    assert capfd.readouterr().err == ""
    assert ask_server(node, "PUT", "/x", b"x")[0] == 201


def test_what_clients_send_is_taken(node: Node) -> None:
    """No blank after the colon, an empty value, tabs and bytes beyond ASCII in it; HTTP/1.0 without a host."""
    head = b"PUT /x HTTP/1.1\r\nHost:localhost\r\nX-A:\r\nX-B: a\tb \xc3\xa4\r\nx!#$%&'*+.^`|~9: y\r\n"
    assert say(node, head + b"Content-Length:1\r\nConnection: close\r\n\r\nx").startswith(b"HTTP/1.1 201 ")
    assert b" 200 " in say(node, b"GET /x HTTP/1.0\r\n\r\n").split(b"\r\n")[0]
