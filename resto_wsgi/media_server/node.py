"""Our own media server: GET, HEAD, PUT and DELETE of the files below one folder, as a WSGI application.

    PUT     staged, durable, then published: a reader sees the old file or the new one
    DELETE  files only, never a folder
    GET     one range, strong validators; what a browser would run is sent as an attachment

It speaks HTTP: the files are the matter of ``store``, and who may write that of ``access``. Names are judged by
``names.check`` alone. It knows nothing of other media servers; any WSGI server with blocking input runs it.
"""

from __future__ import annotations

import contextlib
import errno
import mimetypes
import os
import re
import time
from collections.abc import Iterable, Iterator
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from webob import Request, Response

from .. import names
from ..errors import NameRejected, shown
from .access import Access
from .body import BLOCK, Body
from .refusal import Refused
from .store import Change, Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["MediaServer"]

NO_FILE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18}-[0-9]{0,18})|-([0-9]{1,18}))[ \t]*")
SCRIPTED = re.compile(r"html|[/+]xml|(?:java|ecma)script|/xsl")  # media types that a browser would run, on our origin


class MediaServer:
    """Serves ``root``, which is made where it is missing; ``access`` says who may write, by default this machine.

    Raises OSError where the root cannot be made.
    """

    def __init__(self, root: str | os.PathLike[str], *, access: Access | None = None) -> None:
        self._store = Store(root)
        self._access = access or Access()
        writing = {"PUT": self._put, "DELETE": self._delete}
        self._methods = {"GET": self._get, "HEAD": self._get, **writing, "OPTIONS": self._options}
        self._allow = ", ".join(self._methods)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = Body(environ)
        try:
            response = self._respond(environ, body)
        except Refused as refused:
            response = _plain(refused.status, refused.reason)
        except OSError as error:
            print(f"media server: {shown(error, 200)}", file=environ["wsgi.errors"])
            response = _plain("500 Internal Server Error", f"the disk refused: {os.strerror(error.errno or 0)}")
        if not body.discard():
            response.headers["Connection"] = "close"  # cheroot then reads no further; it would read all into memory
        if response.status_code == 405:
            response.headers["Allow"] = self._allow
        return response(environ, start_response)  # type: ignore[no-any-return]

    def _respond(self, environ: WSGIEnvironment, body: Body) -> Response:
        method = self._methods.get(environ["REQUEST_METHOD"])
        if method is None:
            raise Refused("405 Method Not Allowed", f"only {self._allow}")
        return method(environ, body)

    def _options(self, environ: WSGIEnvironment, body: Body) -> Response:
        return Response(status=204, headerlist=[("Allow", self._allow)])

    def _get(self, environ: WSGIEnvironment, body: Body) -> Response:
        name = _name(environ, "404 Not Found")
        found = self._store.open(name)
        if found is None:
            raise Refused("404 Not Found", "no such file")
        return _file_response(environ, *found, name.rpartition("/")[2])

    def _put(self, environ: WSGIEnvironment, body: Body) -> Response:
        self._access.admit(environ)
        name = _name(environ, "400 Bad Request")
        if "HTTP_CONTENT_RANGE" in environ:
            raise Refused("400 Bad Request", "a part of a file cannot be put (RFC 9110, section 14.5)")
        if body.length is None:
            raise Refused(*body.fault)
        with _disk_answers(), self._store.stage() as (path, fd):
            if not body.copy_to(fd):
                raise Refused("400 Bad Request", "the body is shorter than its Content-Length")
            _set_mtime(fd, environ.get("HTTP_DATE", ""))
            os.fsync(fd)
            with self._store.change(name, make=True) as change:
                _judge_conditions(environ, change)
                change.publish(path)
        return Response(status=204) if change.status else _plain("201 Created", "created")

    def _delete(self, environ: WSGIEnvironment, body: Body) -> Response:
        self._access.admit(environ)
        name = _name(environ, "400 Bad Request")
        try:
            with _disk_answers(), self._store.change(name) as change:
                _judge_conditions(environ, change)
                change.delete()
        except FileNotFoundError:
            raise Refused("404 Not Found", "no such file") from None
        return Response(status=204)


class _Blocks:
    """A file from ``start`` on, in blocks; WebOb asks it for the range that a client wants."""

    def __init__(self, file: BinaryIO, size: int, start: int = 0) -> None:
        self._file = file
        self._left = size
        file.seek(start)

    def app_iter_range(self, start: int, stop: int) -> _Blocks:
        return _Blocks(self._file, stop - start, start)

    def __iter__(self) -> Iterator[bytes]:
        while self._left and (block := self._file.read(min(BLOCK, self._left))):
            self._left -= len(block)
            yield block

    def close(self) -> None:
        self._file.close()


def _plain(status: str, text: str) -> Response:
    return Response(status=status, text=f"{text}\n", content_type="text/plain")


def _name(environ: WSGIEnvironment, fault: str) -> str:
    """Return the name that is asked for; refuse with ``fault`` what is no name."""
    path = environ.get("PATH_INFO", "").removeprefix("/")
    try:
        return names.check(path.encode("latin-1").decode("utf-8"))  # PEP 3333: the URL's octets, as characters
    except UnicodeError:
        raise Refused(fault, "the name is not UTF-8") from None
    except NameRejected as error:
        raise Refused(fault, f"the name {error.reason}") from None


@contextlib.contextmanager
def _disk_answers() -> Iterator[None]:
    """Answer what the disk says to a write with the status that fits (RFC 4918, sections 9.7.1 and 11.5)."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Refused("507 Insufficient Storage", "the disk is full") from None
        if error.errno in NO_FILE:
            raise Refused("409 Conflict", "the name is a folder, or a folder of it is none") from None
        raise


def _set_mtime(fd: int, date: str) -> None:
    """Set the file's mtime to the request's Date, as nginx does, so that validators agree on every replica.

    Without one it is the time to the nanosecond: the kernel's own is 4 ms coarse, which two versions can share.
    """
    stamp = time.time_ns()
    with contextlib.suppress(ValueError, TypeError, IndexError):
        parsed = parsedate_to_datetime(date)
        stamp = int((parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp()) * 1_000_000_000
    with contextlib.suppress(OverflowError):
        os.utime(fd, ns=(stamp, stamp))


def _judge_conditions(environ: WSGIEnvironment, change: Change) -> None:
    """Refuse where If-Match or If-None-Match says so (RFC 9110, section 13.2.2)."""
    request, status = Request(environ), change.status
    wanted = "HTTP_IF_MATCH" not in environ or (status is not None and _etag(status) in request.if_match)
    if not wanted or (status is not None and _etag(status) in request.if_none_match):
        raise Refused("412 Precondition Failed", "the file is another version")


def _etag(status: os.stat_result) -> str:
    """The ETag that nginx gives; an mtime that did not come from a Date header adds a third part."""
    seconds, rest = divmod(status.st_mtime_ns, 1_000_000_000)
    return f"{seconds:x}-{status.st_size:x}" + (f"-{rest:x}" if rest else "")


def _tidy_range(environ: WSGIEnvironment, size: int) -> None:
    """Leave of a Range header what WebOb gets right: one range that begins at an offset (RFC 9110, section 14.2).

    Of several it would send the first; a suffix longer than the file it would refuse.
    """
    match = ONE_RANGE.fullmatch(environ.pop("HTTP_RANGE", ""))
    if match and environ["REQUEST_METHOD"] == "GET":
        span, suffix = match.groups()
        environ["HTTP_RANGE"] = f"bytes={span or f'{max(0, size - int(suffix))}-'}"


def _file_response(environ: WSGIEnvironment, file: BinaryIO, status: os.stat_result, last: str) -> Response:
    _tidy_range(environ, status.st_size)
    kind, encoding = mimetypes.guess_type(last, strict=False)
    wrapper: Any = environ.get("wsgi.file_wrapper")
    whole = wrapper and "HTTP_RANGE" not in environ
    response = Response(
        app_iter=wrapper(file, BLOCK) if whole else _Blocks(file, status.st_size),
        content_type="application/octet-stream" if encoding or kind is None else kind,
        charset=None,
        conditional_response=True,
    )
    response.content_length = status.st_size
    response.etag = _etag(status)
    response.last_modified = int(status.st_mtime)
    response.accept_ranges = "bytes"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if SCRIPTED.search(response.content_type):
        response.content_disposition = "attachment"
    return response
