"""Requests that are signed, and requests from far away, for the tests of our own node."""

from __future__ import annotations

import io
import time
from typing import Any

from node_requests import ask, digest_of

from resto_wsgi.trust.signatures import Key, sign

KEY = Key("app-1", b"correct-horse-battery-staple-1234")


NEXT = Key("app-2", b"another-horse-battery-staple-9876")


FAR = "198.51.100.7"


def signed(method: str, url: str, content: bytes = b"", key: Key = KEY, **options: Any) -> dict[str, str]:
    """Return all headers of a request with a good signature."""
    headers = {"Content-Length": str(len(content)), "Repr-Digest": digest_of(content)} if method == "PUT" else {}
    headers |= options.pop("headers", {})
    arguments = {"key": key, "created": int(time.time()), "nonce": "n", **options}
    return {**headers, **sign(method, url, headers, **arguments)}


def send(app: Any, method: str, path: str, content: bytes, headers: dict[str, str], **environ: Any) -> Any:
    """Hand a request from far away to the application."""
    given = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    given |= {"CONTENT_LENGTH": given.pop("HTTP_CONTENT_LENGTH", None), "REMOTE_ADDR": FAR, "HTTP_HOST": "media-01"}
    given["wsgi.input"] = io.BytesIO(content)
    return ask(app, method, path, **{**given, **environ})


def put_signed(app: Any, content: bytes = b"x", path: str = "/x", **options: Any) -> int:
    """Put a file with a signature, with the options of ``signed``; return the status."""
    headers = signed("PUT", f"http://media-01{path}", content, **options)
    return int(send(app, "PUT", path, content, headers).status_code)


class Clock:
    """A clock that the test sets, in seconds since 1970."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now
