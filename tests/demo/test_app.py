"""The application behind the demo's page, by itself."""

from __future__ import annotations

import re
from html import unescape
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from resto_wsgi.demo.app import DemoApp, human_size
from resto_wsgi.hosts import Host

EVIL = SimpleNamespace(
    field="files",
    filename='<script>alert("x")</script>',
    name='a/"><b>.jpg',
    url="/media/x",
    size=2048,
    content_type='image/"><i>',
    sha256="0" * 64,
)


def ask(app: DemoApp, path: str, method: str = "GET", **environ: Any) -> tuple[str, dict[str, str], str]:
    """Ask the application as a WSGI server does; return status, headers and text."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "wsgi.input": BytesIO(), **environ}
    setup_testing_defaults(environ)
    got: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        got.update(status=status, headers=dict(headers))

    body = b"".join(app(environ, start_response))  # type: ignore[arg-type]
    return got["status"], got["headers"], body.decode("utf-8", "replace")


@pytest.fixture
def app() -> DemoApp:
    """The demo's application with two media servers that nobody asks."""
    servers = [Host(f"Server {n}", f"http://127.0.0.1:{n}") for n in (81, 82)]
    return DemoApp(servers, max_file_size=5 * 1024 * 1024)


def test_the_page_names_servers_and_limit_and_nothing_outside(app: DemoApp) -> None:
    """The page needs no network but its own servers, and says so in its policy."""
    status, headers, text = ask(app, "/")
    assert status == "200 OK"
    assert "two media servers" in text
    assert "5.0 MiB" in text
    assert "{{" not in text.replace("{{cards}}", "")
    assert "{{cards}}" not in text
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith(
        "default-src 'self'; img-src 'self' blob: http://127.0.0.1:81 http://127.0.0.1:82;"
    )


@pytest.mark.parametrize("name", ["demo.css", "demo.js", "icon.svg", "lake.jpg", "leaflet.pdf"])
def test_static_files_need_no_network(app: DemoApp, name: str) -> None:
    """Each file of the page is served, and none names another host."""
    status, headers, text = ask(app, f"/static/{name}")
    assert status == "200 OK"
    assert headers["Content-Type"] != "application/octet-stream"
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)\w", text)


@pytest.mark.parametrize("path", ["/static/index.html", "/static/../demo.py", "/nothing", "/static/"])
def test_anything_else_is_not_found(app: DemoApp, path: str) -> None:
    """Only files on the list are served."""
    assert ask(app, path)[0] == "404 Not Found"


def test_the_wrong_method_is_told_the_right_one(app: DemoApp) -> None:
    """A 405 carries Allow."""
    assert ask(app, "/upload")[:2][0] == "405 Method Not Allowed"
    assert ask(app, "/", "POST")[1]["Allow"] == "GET, HEAD"


def test_head_has_no_body(app: DemoApp) -> None:
    """HEAD answers as GET does, without the body."""
    _, headers, text = ask(app, "/", "HEAD")
    assert text == ""
    assert int(headers["Content-Length"]) > 1000


def test_a_form_without_script_gets_a_page(app: DemoApp) -> None:
    """What the client chose is shown, escaped."""
    status, _, text = ask(app, "/upload", "POST", **{"resto.uploads": [EVIL]})
    assert status == "200 OK"
    assert EVIL.filename not in text
    assert EVIL.filename in unescape(text)
    assert "<b>" not in text
    assert "<i>" not in text
    assert 'href="http://127.0.0.1:82/a/%22%3E%3Cb%3E.jpg"' in text
    assert "0" * 64 in text


def test_no_file_is_refused_in_the_form_that_was_asked_for(app: DemoApp) -> None:
    """An empty form is a 400, as text and as JSON."""
    assert ask(app, "/upload", "POST", **{"resto.uploads": []})[2].startswith("No file was chosen")
    answer = ask(app, "/upload", "POST", HTTP_ACCEPT="application/json", **{"resto.uploads": []})
    assert answer[0] == "400 Bad Request"
    assert '"no_file"' in answer[2]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (64 * 1024**2, "64.0 MiB"), (300 * 1024**2, "300 MiB")],
)
def test_sizes_are_shown_for_a_person(size: int, text: str) -> None:
    """Binary units, one decimal below a hundred."""
    assert human_size(size) == text
