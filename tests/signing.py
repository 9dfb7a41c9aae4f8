"""Requests that are signed, and requests from far away, for the tests of our own node."""

from __future__ import annotations

import base64
import hashlib
import io
import time
from typing import Any

from node_requests import ask

from resto_wsgi.trust.signatures import Key, sign

KEY = Key("app-1", b"correct-horse-battery-staple-1234")


NEXT = Key("app-2", b"another-horse-battery-staple-9876")


FAR = "198.51.100.7"


def digest_of(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


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
