"""Uploads read from a file: parsed, hashed and saved by the middleware; parsed by what frameworks parse with.

Each parser reads in the portions and writes to the kind of storage that it has by default: memory for what is small,
temporary files for the rest, on the file system of the media root. What a parser refuses by default because of the
number of files is allowed to all.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from .clock import Clock
from .payload import BLOCK, blocks, digest, digest_of_file, payload
from .rows import FASTEST, OURS, Figures, Line, Place, Reach, Row, seconds
from .scale import Scale

__all__ = ["IntakeRow", "rows"]

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
HALF = "ours, half of it"
FLOOR = "the file system alone"
PEERS = {"Werkzeug": "werkzeug", "Django": "django", "python-multipart": "python_multipart", "WebOb": "webob"}
SLOWEST = "WebOb"
LINEAR = 2.5  # twice as much takes twice as long, and 4 times where time grows with the square; the rest is noise
PART = 1024
MANY = 100_000  # files that each parser is made to allow

Files = Iterable[Iterable[bytes]]
"""The content of each file, in pieces."""


def _received(figures: Figures) -> float:
    """Return the seconds until the application is called, of a peer those until it has the files, which is the same."""
    return float(figures.get("received", figures["seconds"]))


class IntakeRow(Row):
    """``many`` is how many small files there are, where that is what the row is about."""

    def __init__(
        self, scale: Scale, key: str, title: str, says: str, whole: Files, half: Files | None, many: int = 0
    ) -> None:
        super().__init__(scale)
        self._many = many
        self.key, self.title, self.says = key, title, says
        self._forms = {"whole": whole} | ({} if half is None else {"half": half})
        self._facts: dict[str, dict[str, Any]] = {}
        peers = PEERS if scale.extras or half is None else {peer: PEERS[peer] for peer in PEERS if peer != SLOWEST}
        self.calls = {OURS: f"{__name__}:ours"} | {peer: f"{__name__}:{name}" for peer, name in peers.items()}
        every = {peer: Line(peer, seconds, "s") for peer in peers}
        if half is None:
            every["Werkzeug"] = Line("Werkzeug", seconds, "s", Reach("<=", 1.0))
            every["Django"] = Line("Django", seconds, "s", Reach("<=", 1.0, aim=True))
            self.lines = list(every.values())
        else:
            self.calls[HALF] = f"{__name__}:ours"
            fastest = Line(FASTEST, seconds, "s", Reach("<=", 1.2))
            self.lines = [fastest, Line(HALF, seconds, "s", Reach("<=", LINEAR)), *every.values()]
        if many:
            self.calls[FLOOR] = f"{__name__}:file_system"
            self.lines[1:1] = [Line(FASTEST, _received, "s until called"), Line(FLOOR, seconds, "s")]

    def prepare(self, place: Place, folder: str) -> None:
        for form, files in self._forms.items():
            path = os.path.join(folder, form)
            with open(path, "wb") as file:
                file.writelines(_body(files))
            facts = {"length": os.path.getsize(path), "digest": _digest(files), "count": sum(1 for _ in files)}
            self._facts[form] = {"path": path, **facts}

    def arguments(self, side: str, place: Place, folder: str) -> dict[str, Any]:
        facts = self._of(side)
        root = {"root": os.path.join(folder, "master")} if side in (OURS, HALF, FLOOR) else {}
        if side == FLOOR:
            return {"count": self._many, **root}
        return {"body": facts["path"], "length": facts["length"], **root}

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        wanted = self._of(side)
        if figures["units"] != wanted["count"]:
            return [f"{figures['units']} files of {wanted['count']} were parsed"]
        return [] if figures["digest"] == wanted["digest"] else ["wrong bytes were stored"]

    def _of(self, side: str) -> dict[str, Any]:
        return self._facts["half" if side == HALF else "whole"]


def rows(scale: Scale) -> list[Row]:
    def crlf(size: int) -> Files:
        return [_Repeated(b"\r\n" * (BLOCK // 2), size)]

    def parts(count: int) -> Files:
        return [[payload(number, PART)] for number in range(count)]

    saved = (
        "parsed, hashed, staged and published on a master in use, without hosts, fsync=False, by the middleware before "
    )
    saved += (
        "a trivial application; the peers parse and keep the files for a request, and neither hash nor publish them"
    )
    megabytes, lines = f"{scale.upload / BLOCK:g} MiB", f"{scale.crlf / BLOCK:g} MiB"
    return [
        IntakeRow(
            scale,
            "upload",
            f"{megabytes} upload through the middleware",
            f"One file of {megabytes} {saved}; no server or socket, the body is a file in the page cache.",
            [_Repeated(None, scale.upload)],
            None,
        ),
        IntakeRow(
            scale,
            "crlf",
            f"{lines} of CRLF",
            f"One file of nothing but CRLF, each like the start of a boundary, {saved}; an attack, no usual file.",
            crlf(scale.crlf),
            crlf(scale.crlf // 2),
        ),
        IntakeRow(
            scale,
            "parts",
            f"{scale.parts:,} parts of 1 KiB",
            f"{scale.parts:,} files in one form, {saved}; not what larger ones cost: these the peers keep in memory. "
            f"What {FLOOR} takes is for as many durable names, each made aside, linked and unlinked there, and nothing "
            'else; what is "until called" is without the publishing, which comes after the application.',
            parts(scale.parts),
            parts(scale.parts // 2),
            scale.parts,
        ),
    ]


class _Repeated:
    """A large file in blocks: one block over and over, or the random ones."""

    def __init__(self, block: bytes | None, size: int) -> None:
        self._block, self._size = block, size

    def __iter__(self) -> Iterator[bytes]:
        if self._block is None:
            yield from blocks(self._size)
            return
        for _ in range(self._size // len(self._block)):
            yield self._block
        yield self._block[: self._size % len(self._block)]


def _body(files: Files) -> Iterator[bytes]:
    for number, file in enumerate(files):
        yield (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="photo-{number}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode("ascii")
        yield from file
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode("ascii")


def _digest(files: Files) -> str:
    return digest(digest(file).encode("ascii") for file in files)


# The sides, each in a process of its own


def _environ(stream: BinaryIO, length: int) -> dict[str, Any]:
    server = {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http"}
    request = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": ""}
    body = {"CONTENT_TYPE": CONTENT_TYPE, "CONTENT_LENGTH": str(length), "wsgi.input": stream}
    return {**server, **request, **body, "HTTP_HOST": "127.0.0.1"}


def _read(
    body: str, length: int, parse: Callable[[dict[str, Any]], Any], files: Callable[[Any], list[BinaryIO]]
) -> dict[str, Any]:
    """Time ``parse``, which has parsed before, as in a process that serves; then look at the files that came of it."""
    small = b"".join(_body([[b"warm up"]]))
    parse(_environ(io.BytesIO(small), len(small)))
    with open(body, "rb") as stream:
        environ = _environ(stream, length)
        with Clock() as clock:
            parsed = parse(environ)
        digests = []
        for file in files(parsed):
            file.seek(0)
            digests.append(digest_of_file(file).encode("ascii"))
    return clock.figures(len(digests), digest=digest(digests))


def ours(body: str, length: int, root: str) -> dict[str, Any]:
    from resto_wsgi import UploadMiddleware

    os.makedirs(root)
    uploads: list[Any] = []
    times: list[float] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        times.append(time.perf_counter())
        uploads.extend(environ["resto.uploads"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    middleware = UploadMiddleware(application, media_root=root, fsync=False, max_files=MANY, publish="on_success")

    def parse(environ: dict[str, Any]) -> list[str]:
        uploads.clear()
        times[:] = [time.perf_counter()]
        answers: list[str] = []
        answer = middleware(environ, lambda status, headers, exc_info=None: answers.append(status))
        try:
            text = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()
        if answers != ["200 OK"]:
            raise ValueError(f"answered {answers}: {text[:200]!r}")
        return [upload.name for upload in uploads]

    try:
        figures = _read(body, length, parse, lambda names: [middleware.replicator.open(name) for name in names])
    finally:
        middleware.replicator.close()
    return {**figures, "received": times[1] - times[0]}


def file_system(root: str, count: int) -> dict[str, Any]:
    """Hash, write, link and unlink, with nothing around it: no form, no lock, no check."""
    contents = [payload(number, PART) for number in range(count)]
    aside, public = os.path.join(root, "aside"), os.path.join(root, "public")
    for folder in (aside, public):
        os.makedirs(folder)
    with Clock() as clock:
        for number, content in enumerate(contents):
            hashlib.sha256(content).hexdigest()
            path = f"{aside}/{number}"
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
            os.write(descriptor, content)
            os.close(descriptor)
            os.link(path, f"{public}/{number}")
            os.unlink(path)
    digests = []
    for number in range(count):
        with open(f"{public}/{number}", "rb") as file:
            digests.append(digest_of_file(file).encode("ascii"))
    return clock.figures(count, digest=digest(digests))


def werkzeug(body: str, length: int) -> dict[str, Any]:
    from werkzeug import Request

    class ManyFiles(Request):
        max_form_parts = MANY

    return _read(
        body, length, lambda environ: ManyFiles(environ).files, lambda f: [each.stream for each in f.getlist("files")]
    )


def django(body: str, length: int) -> dict[str, Any]:
    from django.conf import settings

    settings.configure(DATA_UPLOAD_MAX_NUMBER_FILES=MANY, USE_TZ=True)
    from django.core.handlers.wsgi import WSGIRequest

    return _read(body, length, lambda environ: WSGIRequest(environ).FILES, lambda f: list(f.getlist("files")))


def python_multipart(body: str, length: int) -> dict[str, Any]:
    from python_multipart import parse_form

    def parse(environ: dict[str, Any]) -> list[Any]:
        files: list[Any] = []
        headers = {"Content-Type": CONTENT_TYPE.encode("ascii"), "Content-Length": str(length).encode("ascii")}
        parse_form(headers, environ["wsgi.input"], None, files.append)
        return files

    return _read(body, length, parse, lambda files: [file.file_object for file in files])


def webob(body: str, length: int) -> dict[str, Any]:
    from webob import Request

    return _read(
        body, length, lambda environ: Request(environ).POST, lambda form: [each.file for each in form.getall("files")]
    )
