"""One request after another through the middleware, each interrupted at another line of what handles uploads.

A worker that is told to exit, or a Ctrl-C, may come at any of them. What is interrupted in the sending to hosts and in
the locks has sweeps of its own, in ``test_transport_flight`` and ``test_locks``.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
from interruption import interrupted_at
from webob import Request

from resto_wsgi import Replicator, UploadMiddleware, middleware
from resto_wsgi.master import files, folders, hashing, media_root, publication, staged, staging
from resto_wsgi.replication import batch, convergence, modes, publisher, sending
from resto_wsgi.upload import handoff, intake, uploads
from resto_wsgi.upload import held_answer as answer

SWEPT = [each.__file__ for each in (answer, handoff, intake, media_root, middleware, publisher, staging, uploads)]
SWEPT += [each.__file__ for each in (files, folders, hashing, publication, staged)]
SWEPT += [each.__file__ for each in (batch, convergence, modes, sending)]
STEP = 6  # lines from one interruption to the next; the two sweeps take different ones
BOUNDARY = "x-boundary"
SMALL, LARGE = b"small", os.urandom(100_000)  # the one waits in memory, the other goes to the disk as it comes


def body() -> bytes:
    """A form of a small and a large file, and a text."""
    parts = [('name="a"; filename="small.txt"', SMALL), ('name="text"', b"text"), ('name="b"; filename="large"', LARGE)]
    form = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return form + f"--{BOUNDARY}--\r\n".encode()


def application(environ: Any, start_response: Any) -> list[bytes]:
    """Reads all of the body, and looks at a file as users of WebOb do."""
    environ["wsgi.input"].read()
    Request(environ).POST["b"].file.read(1)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def under(root: str) -> dict[str, bytes]:
    """The public files below a folder."""
    found = {str(path.relative_to(root)): path for path in Path(root).rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".")}


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize("naming", ["original", "content"])
def test_an_upload_that_is_interrupted_at_any_line_leaves_nothing_but_what_is_owed(
    tmp_path: Path, nginx: Any, monkeypatch: pytest.MonkeyPatch, naming: str
) -> None:
    """No file aside, no descriptor, no lock, no thread, and no name that is neither owed nor the same everywhere.

    Between the settling of a save and its end, one that nobody was told of may stay as it is, whole everywhere.
    """
    monkeypatch.setattr(hashing, "START", 50_000)
    monkeypatch.setattr(sys, "unraisablehook", lambda told: None)  # what is interrupted in __del__ is only a warning
    form = body()
    root = str(tmp_path / "media")
    with Replicator(
        media_root=root, media_hosts=[nginx.url], media_url="/", fsync=False, background=False
    ) as replicator:
        app = UploadMiddleware(application, replicator, naming=naming)

        def send() -> None:
            request = Request.blank("/", method="POST", body=form)
            request.content_type = f"multipart/form-data; boundary={BOUNDARY}"
            answered = app(request.environ, lambda status, *_: None)
            try:
                assert b"".join(answered) == b"ok"
            finally:
                answered.close()  # type: ignore[attr-defined]

        def aside() -> list[Path]:
            return list(Path(root, ".resto", "staging").glob("*/*"))

        def now() -> tuple[list[Path], int, list[str]]:
            threads = [thread.name for thread in threading.enumerate() if thread.name == "resto hashing"]
            return aside(), descriptors(), threads

        send()
        replicator._transport.close()
        gc.collect()  # what other tests have left to it is not ours to count
        before = now()
        assert before[::2] == ([], [])
        for name in under(root):
            replicator.delete(name)
        replicator._transport.close()
        problems: list[object] = []
        count, left = (0 if naming == "original" else STEP // 2), [0]
        while left[0] <= 0:
            count += STEP
            where = ""
            with warnings.catch_warnings(), interrupted_at(count, SWEPT) as left:
                warnings.simplefilter("ignore", ResourceWarning)  # a file that nobody had yet been told of
                try:
                    send()
                except KeyboardInterrupt as error:
                    at = traceback.extract_tb(error.__traceback__)[-2]
                    where = f"{at.name}, {at.line}"
            replicator._transport.close()
            if now() != before:
                gc.collect()
            if now() != before:
                problems.append((count, where, now()))
            master, replica = under(root), under(nginx.root)
            for name in master | replica:
                if not replicator._outbox.deliveries(name) and master.get(name) != replica.get(name):
                    problems.append((count, where, name, name in master, name in replica))
                with replicator._media_root.lock(name, wait=False) as held:
                    assert held
                if naming == "original":  # else the next request replaces it
                    replicator.delete(name)
            replicator._transport.close()
        assert not problems
        assert count > 1000
        earlier = set() if naming == "content" else set(under(root))
        send()
        master, replica = under(root), under(nginx.root)
        assert len(master.keys() - earlier) == 2
        assert all(replica[name] == master[name] for name in master.keys() - earlier)
