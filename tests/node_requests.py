"""Requests to the media server, to its WSGI application alone or on a server, and what is on the disk afterwards."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import http.client
import os
import socket
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.headers import Headers
from wsgiref.validate import WSGIWarning, validator

from servers import LOOPBACK
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


def put(app: Any, content: bytes, generation: Any = None, path: str = "/x", **environ: Any) -> int:
    """Put a file, with a generation if there is one; return the status."""
    if generation is not None:
        environ["HTTP_RESTO_GENERATION"] = str(generation)
    return ask(app, "PUT", path, content, **environ).status_code


def delete(app: Any, generation: Any = None, path: str = "/x") -> int:
    """Delete a file, with a generation if there is one; return the status."""
    environ = {} if generation is None else {"HTTP_RESTO_GENERATION": str(generation)}
    return ask(app, "DELETE", path, **environ).status_code


def digest_of(content: bytes, algorithm: str = "sha-256") -> str:
    """Return the value of Repr-Digest."""
    encoded = base64.b64encode(hashlib.new(algorithm.replace("-", ""), content).digest()).decode()
    return f"{algorithm}=:{encoded}:"


def ask_server(node: Any, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request to a server; return the status and the body of the answer."""
    connection = http.client.HTTPConnection(LOOPBACK, node.port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()


def ask_over_tls(node: Any, pki: Path, method: str, certificate: str | None = None, body: bytes | None = None) -> int:
    """Send a request for ``/x`` with a certificate of ``pki``, which says that it was verified; return the status."""
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    if certificate:
        context.load_cert_chain(pki / f"{certificate}.pem", pki / f"{certificate}.key")
    connection = http.client.HTTPSConnection(LOOPBACK, node.port, timeout=5, context=context)
    with contextlib.closing(connection):
        connection.request(method, "/x", body, {"SSL-Client-Verify": "SUCCESS"})
        reply = connection.getresponse()
        reply.read()
        return reply.status


def say(node: Any, data: bytes) -> bytes:
    """Send octets on a connection of their own, and return all that comes back."""
    with socket.create_connection((LOOPBACK, node.port), timeout=5) as client, contextlib.suppress(ConnectionError):
        client.sendall(data)
        with contextlib.suppress(OSError):  # it was closed already, which is no ConnectionError here
            client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as reader:
            return reader.read()
    return b""


def files(root: Path, but: str | None = None) -> dict[str, bytes]:
    """Return the content of every file below a folder, hidden ones too.

    But for the id of the root, the locks, and the folder ``but``.
    """
    found = (path for path in root.rglob("*") if path.is_file() and path.name != "id" and path.suffix != ".lock")
    named = {str(path.relative_to(root)): path.read_bytes() for path in found}
    return {name: content for name, content in named.items() if but is None or not name.startswith(f"{but}/")}


def open_descriptors() -> int:
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))
