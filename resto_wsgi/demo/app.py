"""The demo's web application: a plain WSGI application that knows nothing of replication.

It owns the page, the files below ``static/`` and the answer to an upload, as JSON for the page's script and as
HTML for a form without one. It never reads a body: what was uploaded comes from ``environ["resto.uploads"]``.
Every text that a client chose is escaped when it enters HTML. ``run`` puts it behind `UploadMiddleware`.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..hosts import Host

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["STATIC", "DemoApp", "human_size"]

STATIC = Path(__file__).with_name("static")

_SERVED = ("demo.css", "demo.js", "icon.svg", "lake.jpg", "leaflet.pdf")
_ARCHIVE = re.compile(r"[/+.-](zip|gzip|tar|xz|bzip2|zstd|7z|rar)")
_NUMBERS = {1: "the media server", 2: "two media servers", 3: "three media servers"}


@dataclass(frozen=True, kw_only=True)
class Response:
    """One response: plain values until `DemoApp.__call__` hands it to the server."""

    status: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class DemoApp:
    """GET / is the page, GET /static/... its files, POST /upload takes the files."""

    def __init__(self, servers: Sequence[Host], *, max_file_size: int) -> None:
        self._servers = tuple(servers)
        self._page = self._filled((STATIC / "index.html").read_text("utf-8"), max_file_size)
        self._static = {f"/static/{name}": (STATIC / name).read_bytes() for name in _SERVED}
        self._security = self._security_headers()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-cache"),
            *answer.headers,
            *self._security,
        ]
        start_response(answer.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: WSGIEnvironment) -> Response:
        path, method = environ.get("PATH_INFO") or "/", environ["REQUEST_METHOD"]
        views: dict[str, tuple[str, Callable[[], Response]]] = {
            "/": ("GET, HEAD", lambda: self._html(())),
            "/upload": ("POST", lambda: self._uploaded(environ)),
        }
        if path in self._static:
            views[path] = ("GET, HEAD", lambda: self._file(path))
        if path not in views:
            return _text("404 Not Found", "There is nothing here.")
        allowed, view = views[path]
        if method not in allowed.split(", "):
            return _text("405 Method Not Allowed", "This address takes another method.", ("Allow", allowed))
        return view()

    def _uploaded(self, environ: WSGIEnvironment) -> Response:
        files = [self._described(upload) for upload in environ.get("resto.uploads", ())]
        if "application/json" in environ.get("HTTP_ACCEPT", ""):
            if not files:
                return _json("400 Bad Request", {"message": "No file came with the request.", "code": "no_file"})
            return _json("200 OK", {"files": files})
        return self._html(files) if files else _text("400 Bad Request", "No file was chosen: go back and choose some.")

    def _described(self, upload: Any) -> dict[str, Any]:
        return {
            "name": upload.name,
            "filename": upload.filename,
            "size": upload.size,
            "sha256": upload.sha256,
            "content_type": upload.content_type,
            "url": upload.url,
            "copies": [{"label": server.label, "url": server.url_of(upload.name)} for server in self._servers],
        }

    def _file(self, path: str) -> Response:
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        if content_type.startswith("text/"):
            content_type += "; charset=utf-8"
        return Response(status="200 OK", content_type=content_type, body=self._static[path])

    def _html(self, files: Sequence[dict[str, Any]]) -> Response:
        page = self._page.replace("{{cards}}", "".join(map(_card, files)))
        return Response(status="200 OK", content_type="text/html; charset=utf-8", body=page.encode())

    def _filled(self, page: str, max_file_size: int) -> str:
        listed = "".join(
            f'<li><span class="label">{escape(server.label)}</span> <code>{_address(server.url)}</code></li>'
            for server in self._servers
        )
        count = len(self._servers)
        page = page.replace("{{servers}}", listed).replace("{{limit}}", human_size(max_file_size))
        return page.replace("{{everywhere}}", _NUMBERS.get(count, f"{count} media servers"))

    def _security_headers(self) -> list[tuple[str, str]]:
        hosts = " ".join(f"http://{urlsplit(server.url).netloc}" for server in self._servers)
        policy = (
            f"default-src 'self'; img-src 'self' blob: {hosts}; object-src 'none'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        )
        return [
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),  # with none, browsers send a form with "Origin: null"
        ]


def human_size(size: float) -> str:
    """Return ``size`` in bytes for a person, in binary units: ``64.0 MiB``."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    unit = 0
    while size >= 1024 and unit < len(units) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {units[unit]}" if unit and size < 100 else f"{size:.0f} {units[unit]}"


def _address(url: str) -> str:
    """Return ``host:port`` in markup from which a small screen can leave out the host."""
    parts = urlsplit(url)
    return f'<span class="host">{escape(parts.hostname or "")}</span>:{parts.port}'


def _json(status: str, value: object) -> Response:
    return Response(status=status, content_type="application/json", body=json.dumps(value).encode())


def _text(status: str, text: str, *headers: tuple[str, str]) -> Response:
    body = f"{text}\n".encode()
    return Response(status=status, content_type="text/plain; charset=utf-8", body=body, headers=headers)


def _icon_of(content_type: str) -> str:
    kind = content_type.partition("/")[0]
    if kind in ("image", "audio", "video", "text"):
        return kind
    if content_type == "application/pdf":
        return "pdf"
    return "archive" if _ARCHIVE.search(content_type) else "file"


def _card(file: dict[str, Any]) -> str:
    """Return the card of one saved file, in the markup of the page's own template."""
    content_type = file["content_type"] or ""
    thumb = f'<svg class="icon" aria-hidden="true"><use href="#i-{_icon_of(content_type)}"></use></svg>'
    if content_type.startswith("image/") and file["copies"]:
        thumb = f'<img src="{escape(file["copies"][0]["url"])}" alt="">'
    chips = "".join(
        f'<li><a class="chip" href="{escape(copy["url"])}" target="_blank" rel="noopener">{escape(copy["label"])}'
        '<svg aria-hidden="true"><use href="#i-out"></use></svg></a></li>'
        for copy in file["copies"]
    )
    return (
        f'<li class="card" data-state="done"><div class="thumb">{thumb}</div><div class="body">'
        f'<p class="name">{escape(file["filename"])}</p>'
        f'<p class="meta"><span class="size">{human_size(file["size"])}</span><span class="state">Saved</span></p>'
        f'<p class="hash wide"><span class="hash-label">SHA-256</span><code>{file["sha256"]}</code></p>'
        f'<ul class="chips">{chips}</ul></div></li>'
    )
