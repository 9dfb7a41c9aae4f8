"""One process of the application: it does what the lines on its standard input say, and answers with lines of JSON.

    {"id": 3, "do": "overwrite", "name": "a.txt", "value": "m7-3", "size": 100}    an operation of a client
    {"id": 4, "do": "status", "names": ["a.txt"]}                                  a question or an order of an operator
    {"do": "close"}                                                                the end, in order

An answer has the ``id``, the ``effect`` that the product promises with what it returned or raised (see ``ledger``), the
``name`` that was given, or the ``value`` that was read, and what was raised as ``error``. What the product promises to
nobody is a ``defect``. The last line, after ``close``, has what is left open. ``processes`` starts this.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from resto_wsgi import MediaRootError, NameRejected, OutboxError, ReplicationError, Replicator, RestoError

from .. import bodies
from . import broken

__all__ = ["HANDS"]

HANDS = 3  # operations at the same time
FAILURES = (ReplicationError, MediaRootError, OutboxError)
CLOSED_WITHIN = 5.0  # seconds in which threads of a closed replicator are gone

Answer = dict[str, Any]
Ask = Mapping[str, Any]


class Application:
    """A replicator, and what is done with it."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator
        self._upload: Any = None  # the middleware, once there is an upload
        self._does: dict[str, Callable[[Ask], Answer]] = {
            "save": self._save,
            "overwrite": self._save,
            "delete": self._delete,
            "read": self._read,
            "upload": self._send,
            "upload, refused": self._send,
            "upload, withdrawn": self._send,
            "sync": self._sync,
            "drain": self._drain,
            "status": self._status,
        }

    def do(self, ask: Ask) -> Answer:
        """Do one thing; return the answer."""
        try:
            return self._does[ask["do"]](ask)
        except Exception:
            return {"effect": "perhaps", "defect": traceback.format_exc()}

    def _save(self, ask: Ask) -> Answer:
        """A refusal promises that nothing of it stays."""
        content = bodies.make(ask["value"], ask["size"])
        try:
            stored = self._replicator.save(ask["name"], content, overwrite=ask["do"] == "overwrite")
        except (*FAILURES, NameRejected) as error:
            return {"effect": "none", **_told(error)}
        return {"effect": "done", "name": stored.name}

    def _delete(self, ask: Ask) -> Answer:
        """Too few hosts is no refusal: the delete stays owed."""
        try:
            self._replicator.delete(ask["name"])
        except ReplicationError as error:
            return {"effect": "done", **_told(error)}
        except NameRejected as error:
            return {"effect": "none", **_told(error)}
        except (MediaRootError, OutboxError) as error:
            return {"effect": "perhaps", **_told(error)}
        return {"effect": "done"}

    def _read(self, ask: Ask) -> Answer:
        try:
            with self._replicator.open(ask["name"]) as file:
                content = file.read()
        except FileNotFoundError:
            return {"effect": "read", "value": None}
        except (*FAILURES, NameRejected) as error:
            return {"effect": "unread", **_told(error)}
        return {"effect": "read", "value": bodies.identify(content)}

    def _send(self, ask: Ask) -> Answer:
        """Upload a form: it is published, refused by the application, or published and then withdrawn."""
        from webob import Request

        if self._upload is None:
            from resto_wsgi import UploadMiddleware

            self._upload = UploadMiddleware(_view, self._replicator, upload_to="uploads")
        content = bodies.make(ask["value"], ask["size"])
        request = Request.blank("/", POST={"file": ("upload.bin", content)}, environ={"model.do": ask["do"]})
        answer = request.get_response(self._upload)
        _ = answer.body  # read to its end, and closed, as a server does
        if answer.status_int == 200:
            return {"effect": "done", "name": answer.headers["X-Name"]}
        return {"effect": answer.headers.get("X-Effect", "none"), "error": answer.status}

    def _sync(self, ask: Ask) -> Answer:
        return self._order(lambda: self._replicator.sync(ask["host"]))

    def _drain(self, ask: Ask) -> Answer:
        return self._order(lambda: self._replicator.drain(ask["timeout"]))

    def _order(self, act: Callable[[], Any]) -> Answer:
        try:
            return {"effect": "ordered", "result": act()}
        except RestoError as error:
            return {"effect": "refused", **_told(error)}

    def _status(self, ask: Ask) -> Answer:
        """What is said of all hosts, and of some names: which hosts hold them."""
        try:
            whole = self._replicator.status()
            names = {name: self._replicator.status(name) for name in ask["names"]}
        except RestoError as error:
            return {"effect": "refused", **_told(error)}
        return {
            "effect": "told",
            "hosts": {host.url: [host.state, host.owed, host.parked, host.error] for host in whole.hosts},
            "labels": {host.host: host.url for host in whole.hosts},
            "names": {name: [found.present, list(found.hosts), list(found.owing)] for name, found in names.items()},
        }


def _view(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What becomes of an upload: the middleware publishes it with a 200, and takes it back with a 500."""
    uploads = environ["resto.uploads"]
    name = uploads[0].name
    if environ["model.do"] == "upload, withdrawn":
        try:
            uploads.publish()
        except FAILURES as error:
            start_response(f"503 {type(error).__name__}", [("X-Effect", "none")])
            return []
    if environ["model.do"] == "upload":
        start_response("200 OK", [("X-Name", name)])
    else:
        start_response("500 Refused", [("X-Effect", "none")])
    return []


def _told(error: Exception) -> Answer:
    return {"error": f"{type(error).__name__}: {error}", "full": bool(getattr(error, "full", False))}


def main() -> None:
    """Make the replicator that the order describes, and answer until the end of the input."""
    order = json.loads(sys.argv[1])
    broken.install(order["broken"], order["settings"]["media_root"])
    before, lock = _descriptors(), threading.Lock()

    def answer(values: Answer) -> None:
        with lock:
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()

    with Replicator(**order["settings"]) as replicator, ThreadPoolExecutor(HANDS) as hands:
        broken.spoil(order["broken"], order["settings"]["media_root"])
        application = Application(replicator)
        replicator.start()
        answer({"id": 0, "effect": "started"})
        for line in sys.stdin:
            ask = json.loads(line)
            if ask["do"] == "close":
                break
            hands.submit(lambda ask: answer({"id": ask["id"], **application.do(ask)}), ask)
    answer({"closed": _left(before)})


def _left(before: set[str]) -> list[str]:
    """Return what a closed replicator has left: descriptors and threads."""
    deadline = time.monotonic() + CLOSED_WITHIN
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()  # a failed commit's traceback is a cycle, and holds a cursor
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return sorted(_descriptors() - before) + threads


def _descriptors() -> set[str]:
    """Return what is open, each with its number."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found


if __name__ == "__main__":
    main()
