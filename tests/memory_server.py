"""A media server that keeps its files in memory and has a fault, for the tests of ``resto check``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from resto_wsgi.media_server import make_server

MIB = 1024**2
TEARING: dict[str, Callable[[bytes, bytes], bytes]] = {  # what a reader sees meanwhile
    "torn": lambda new, old: new[: len(new) // 2],
    "mixed": lambda new, old: new[:100] + old[100:],
    "vanishing": lambda new, old: b"",
}


def tree(root: str | os.PathLike[str]) -> list[str]:
    """Everything below a root, but for what our own node keeps."""
    found = [os.path.join(where, each) for where, folders, names in os.walk(root) for each in (*folders, *names)]
    return sorted(each for each in found if "/.resto" not in each)


class Memory:
    """A media server that keeps its files in memory, and has the fault that it is told to have."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.files: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.cache: dict[str, bytes] = {}
        self.server = make_server(self, "127.0.0.1", 0)
        self.server.expiration_interval = 0.02
        self.server.prepare()
        self.url = f"http://127.0.0.1:{self.server.bind_addr[1]}"

    def __enter__(self) -> Memory:
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.thread.join()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        name = environ["PATH_INFO"].removeprefix("/")
        if self.fault == "case":
            name = name.lower()
        if self.fault == "decodes":
            name = name.replace("%41", "A")
        if self.fault == "no folders":  # a rewrite that drops the first part of a path
            name = name.partition("/")[2] or name
        method = environ["REQUEST_METHOD"].lower()
        status, body, headers = getattr(self, f"_{method}", self._other)(name, environ)
        more = 10 if self.fault == "lies" and status.startswith("200") else 0
        start_response(status, [*headers, ("Content-Length", str(len(body) + more))])
        return [body] if method != "head" else []

    def _get(self, name: str, environ: Any) -> Any:
        content = self.files.get(name)
        if self.fault == "stale":
            content = self.cache.setdefault(name, content) if content is not None else self.cache.get(name)
        if content is None:
            return "404 Not Found", b"", []
        if self.fault == "other":
            content = content[::-1] + b"!"
        if self.fault == "range" and "HTTP_RANGE" in environ:
            return "206 Partial Content", content[:6], []
        return "200 OK", content, []

    _head = _get

    def _put(self, name: str, environ: Any) -> Any:
        length = int(environ["CONTENT_LENGTH"])
        if self.fault == "odd" and "?" in name:
            return "400 Bad Request", b"", []
        if self.fault == "short names" and len(name.rpartition("/")[2]) > 100:
            return "500 Internal Server Error", b"", []
        body = environ["wsgi.input"].read(length)
        if len(body) < length and self.fault != "truncated":
            return "400 Bad Request", b"", []
        if self.fault == "once" and name in self.files:
            return "405 Method Not Allowed", b"", []
        if self.fault == "deep" and name.count("/") > 1:
            return "500 Internal Server Error", b"", []
        if self.fault == "late" and "dated" in name:
            time.sleep(0.5)
        if self.fault in TEARING and name in self.files:
            self.files[name] = TEARING[self.fault](body, self.files.pop(name))
            if self.fault == "vanishing":
                del self.files[name]
            time.sleep(0.01)
        if self.fault == "large" and length > MIB:
            return "507 Insufficient Storage", b"", []
        if self.fault != "secured" or environ.get("HTTP_AUTHORIZATION") or not self.files:
            self.files[name] = body
            return "201 Created", b"", []
        return "401 Unauthorized", b"", []

    def _delete(self, name: str, environ: Any) -> Any:
        if self.fault == "secured" and not environ.get("HTTP_AUTHORIZATION"):
            return "401 Unauthorized", b"", []
        self.deleted.append(name)
        if self.fault == "no absent" and name not in self.files:
            return "500 Internal Server Error", b"", []
        below = [each for each in self.files if each.startswith(name.rstrip("/") + "/")]
        if below and (self.fault == "tree" or environ.get("HTTP_DEPTH") != "0"):
            for each in below:
                del self.files[each]
            return "204 No Content", b"", []
        found = self.files.pop(name, None)
        return ("204 No Content" if found is not None else "404 Not Found"), b"", []

    def _other(self, name: str, environ: Any) -> Any:
        return "405 Method Not Allowed", b"", []
