"""Requests to the media server's WSGI application without a server, and what is on the disk afterwards."""

from __future__ import annotations

import gc
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.headers import Headers
from wsgiref.validate import WSGIWarning, validator

from webob import Request


@dataclass
class Reply:
    status_code: int
    headers: Headers
    body: bytes


def ask(app: Any, method: str, path: str, body: bytes | None = None, **environ: Any) -> Reply:
    """Send a request to the application under the eyes of wsgiref's validator; ``path`` is as WSGI shows it.

    An environ variable that is None is left out.
    """
    warnings.filterwarnings("ignore", "Unknown REQUEST_METHOD", WSGIWarning)  # what WebDAV adds
    request = Request.blank(
        "/", method=method, environ={"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1"}, body=body
    )
    request.environ["PATH_INFO"] = path
    request.environ.update(environ)
    given = {name: value for name, value in request.environ.items() if value is not None}
    head: list[Any] = []
    answer = validator(app)(given, lambda status, headers, exc_info=None: head.extend((status, headers)))
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    return Reply(int(head[0][:3]), Headers(head[1]), content)


def files(root: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, hidden ones too, but for the locks."""
    found = (path for path in root.rglob("*") if path.is_file() and path.name != "names.lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def open_descriptors() -> int:
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))
