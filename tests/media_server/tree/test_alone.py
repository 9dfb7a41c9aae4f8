"""A node without children: it waits for nobody, owes nothing, and does not mind which nodes a request came through."""

from __future__ import annotations

from pathlib import Path

from node_requests import ask, files

from resto_wsgi.media_server import MediaServer
from resto_wsgi.media_server.tree.alone import Alone


def test_it_is_what_a_media_server_is_without_children(app: MediaServer) -> None:
    """Chosen once, when it is made."""
    assert isinstance(app.role, Alone)


def test_a_change_is_answered_without_a_report(app: MediaServer, root: Path) -> None:
    """As a stock server answers it, whatever a node above says."""
    said = {"HTTP_RESTO_WAIT": "x", "HTTP_RESTO_PASSED_ON": "x", "QUERY_STRING": "wait=long"}
    for method, body, status in [
        ("PUT", b"one", 201),
        ("PUT", b"two", 204),
        ("DELETE", None, 204),
        ("DELETE", None, 404),
    ]:
        reply = ask(app, method, "/cat", body, **said)
        assert (reply.status_code, reply.headers.get("Resto-Owed")) == (status, None)
    assert files(root) == {}


def test_its_pages_say_that_nothing_is_owed(app: MediaServer) -> None:
    """And what was deleted is not known."""
    assert b"no children" in ask(app, "GET", "/__missing__").body
    reply = ask(app, "GET", "/__missing__", HTTP_ACCEPT="application/json")
    assert b'"subtree": 0, "complete": true' in reply.body
    assert ask(app, "GET", "/__missing__", QUERY_STRING="child=http://x").status_code == 404
    ask(app, "PUT", "/cat", b"x")
    ask(app, "DELETE", "/cat")
    reply = ask(app, "GET", "/__index__", QUERY_STRING="gone=1", HTTP_ACCEPT="application/json")
    assert b'"gone": []' in reply.body and b"node" not in reply.body
