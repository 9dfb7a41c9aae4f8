"""Our own media server: GET, HEAD, PUT and DELETE of the files below one folder, as a WSGI application.

    PUT     staged in ``.resto/staging``, fsync, then renamed: a reader sees the old file or the new one
    DELETE  files only, never a folder
    GET     one range, strong validators; what a browser would run is sent as an attachment

Every path is walked from the root's descriptor, segment by segment, and no symbolic link is followed, so no
request leaves the root. Names are judged by ``names.check`` alone. Whoever asks from another network than
``writers`` can only read. It knows nothing of other media servers; any WSGI server with blocking input runs it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mimetypes
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from datetime import timezone
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, BinaryIO

from webob import Request, Response

from .. import names
from ..errors import ConfigError, NameRejected, shown

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["WRITERS", "MediaServer"]

WRITERS = ("127.0.0.0/8", "::1/128")
BLOCK = 256 * 1024  # bytes moved at a time
DISCARD = 4 * 1024 * 1024  # bytes of a refused body that are read; who sends more has to see the connection end
LENGTH_DIGITS = 18  # of a Content-Length: an exabyte
STAGED = "put-"  # how a staged file's name begins

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would block the open
STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})  # ENXIO: a socket
NO_FILE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18}-[0-9]{0,18})|-([0-9]{1,18}))[ \t]*")
SCRIPTED = re.compile(r"html|[/+]xml|(?:java|ecma)script|/xsl")  # media types that a browser would run, on our origin


class MediaServer:
    """Serves ``root``, which is made where it is missing. ``writers`` are the networks whose addresses may write.

    The address is the server's REMOTE_ADDR: behind a proxy that is the proxy's, unless the proxy keeps writers out
    itself. Raises ConfigError where a network is none, OSError where the root cannot be made.
    """

    def __init__(self, root: str | os.PathLike[str], *, writers: Iterable[str] = WRITERS) -> None:
        self.root = os.path.abspath(root)
        self._staging = os.path.join(self.root, ".resto", "staging")
        self._writers = [_network(each) for each in writers]
        writing = {"PUT": self._put, "DELETE": self._delete}
        self._methods = {"GET": self._get, "HEAD": self._get, **writing, "OPTIONS": self._options}
        self._allow = ", ".join(self._methods)
        self._make_staging()
        self._sweep()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = _Body(environ)
        try:
            response = self._respond(environ, body)
        except _Refused as refused:
            response = _plain(refused.status, refused.reason)
        except OSError as error:
            print(f"media server: {shown(error, 200)}", file=environ["wsgi.errors"])
            response = _plain("500 Internal Server Error", f"the disk refused: {os.strerror(error.errno or 0)}")
        if not body.discard():
            response.headers["Connection"] = "close"  # cheroot then reads no further; it would read all into memory
        if response.status_code == 405:
            response.headers["Allow"] = self._allow
        return response(environ, start_response)  # type: ignore[no-any-return]

    def _respond(self, environ: WSGIEnvironment, body: _Body) -> Response:
        method = self._methods.get(environ["REQUEST_METHOD"])
        if method is None:
            raise _Refused("405 Method Not Allowed", f"only {self._allow}")
        return method(environ, body)

    def _options(self, environ: WSGIEnvironment, body: _Body) -> Response:
        return Response(status=204, headerlist=[("Allow", self._allow)])

    # Reading

    def _get(self, environ: WSGIEnvironment, body: _Body) -> Response:
        folders, last = _segments(environ, "404 Not Found")
        try:
            with self._folder(folders) as folder:
                fd = os.open(last, READ, dir_fd=folder)
        except OSError as error:
            if error.errno in ABSENT:
                raise _Refused("404 Not Found", "no such file") from None
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise _Refused("404 Not Found", "no such file")
        return _file_response(environ, os.fdopen(fd, "rb", buffering=0), status, last)

    # Writing

    def _put(self, environ: WSGIEnvironment, body: _Body) -> Response:
        self._admit_writer(environ)
        folders, last = _segments(environ, "400 Bad Request")
        if "HTTP_CONTENT_RANGE" in environ:
            raise _Refused("400 Bad Request", "a part of a file cannot be put (RFC 9110, section 14.5)")
        if body.length is None:
            raise _Refused(*body.fault)
        with _disk_answers(), self._staged() as (path, fd):
            if not body.copy_to(fd):
                raise _Refused("400 Bad Request", "the body is shorter than its Content-Length")
            _set_mtime(fd, environ.get("HTTP_DATE", ""))
            os.fsync(fd)
            with self._folder(folders, make=True) as folder:
                there = _judge_conditions(environ, folder, last)
                os.replace(path, last, dst_dir_fd=folder)
                os.fsync(folder)
        return Response(status=204) if there else _plain("201 Created", "created")

    def _delete(self, environ: WSGIEnvironment, body: _Body) -> Response:
        self._admit_writer(environ)
        folders, last = _segments(environ, "400 Bad Request")
        try:
            with _disk_answers(), self._folder(folders) as folder:
                _judge_conditions(environ, folder, last)
                os.unlink(last, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            raise _Refused("404 Not Found", "no such file") from None
        return Response(status=204)

    def _admit_writer(self, environ: WSGIEnvironment) -> None:
        try:
            address = ip_address(environ.get("REMOTE_ADDR", ""))
        except ValueError:
            raise _Refused("403 Forbidden", "writing needs an IP address") from None
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in self._writers):
            raise _Refused("403 Forbidden", "this address may only read")

    # The disk

    @contextlib.contextmanager
    def _folder(self, folders: list[str], *, make: bool = False) -> Iterator[int]:
        """Open the folder below the root that ``folders`` lead to, following no symbolic link."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for each in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(each, 0o755, dir_fd=fd)
                        os.fsync(fd)
                inner = os.open(each, FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def _make_staging(self) -> None:
        os.makedirs(self.root, 0o755, exist_ok=True)
        for folder in (os.path.dirname(self._staging), self._staging):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)

    @contextlib.contextmanager
    def _staged(self) -> Iterator[tuple[str, int]]:
        """Open a file that nobody sees; it is gone afterwards, unless it was renamed."""
        self._make_staging()  # somebody may have emptied the root meanwhile
        path = os.path.join(self._staging, f"{STAGED}{secrets.token_hex(8)}")
        fd = os.open(path, STAGE, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # held while it is written, so that a sweep knows who lives
            yield path, fd
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _sweep(self) -> None:
        """Remove what processes that died had staged: the files that nobody holds."""
        for entry in os.listdir(self._staging):
            if entry.startswith(STAGED):
                path = os.path.join(self._staging, entry)
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)


class _Refused(Exception):
    """A request that is answered with ``status`` and one line that says why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class _Body:
    """A request's body, read no further than its Content-Length; ``length`` is None where that is no number."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        announced = environ.get("CONTENT_LENGTH", "")
        self._input = environ["wsgi.input"]
        self.length: int | None = None
        self.fault = ("411 Length Required", "a PUT needs a Content-Length")
        if announced.isascii() and announced.isdigit() and len(announced) <= LENGTH_DIGITS:
            self.length = int(announced)
        elif announced:
            self.fault = ("400 Bad Request", "the Content-Length is not a number of bytes")
        self._left = self.length or 0

    def __iter__(self) -> Iterator[bytes]:
        while self._left and (block := self._read()):
            self._left -= len(block)
            yield block

    def copy_to(self, fd: int) -> bool:
        """Write the body to ``fd``; return whether all of it came."""
        for block in self:
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
        return not self._left

    def discard(self) -> bool:
        """Read what nobody wanted, so that the client reads the answer; return whether that was all of it."""
        until = self._left - DISCARD
        for _ in self:
            if self._left < until:
                break
        return not self._left

    def _read(self) -> bytes:
        # Servers tell of a client that went away in many ways; each is a body that ends here.
        with contextlib.suppress(Exception):
            block: bytes = self._input.read(min(BLOCK, self._left))
            return block
        return b""


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


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError("writers", f"wanted networks such as 10.0.0.0/8, found: {error}") from error


def _plain(status: str, text: str) -> Response:
    return Response(status=status, text=f"{text}\n", content_type="text/plain")


def _segments(environ: WSGIEnvironment, fault: str) -> tuple[list[str], str]:
    """Return the folders and the last part of the name that is asked for; refuse with ``fault`` what is no name."""
    path = environ.get("PATH_INFO", "").removeprefix("/")
    try:
        name = names.check(path.encode("latin-1").decode("utf-8"))  # PEP 3333: the URL's octets, as characters
    except UnicodeError:
        raise _Refused(fault, "the name is not UTF-8") from None
    except NameRejected as error:
        raise _Refused(fault, f"the name {error.reason}") from None
    *folders, last = name.split("/")
    return folders, last


@contextlib.contextmanager
def _disk_answers() -> Iterator[None]:
    """Answer what the disk says to a write with the status that fits (RFC 4918, sections 9.7.1 and 11.5)."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _Refused("507 Insufficient Storage", "the disk is full") from None
        if error.errno in NO_FILE:
            raise _Refused("409 Conflict", "the name is a folder, or a folder of it is none") from None
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


def _judge_conditions(environ: WSGIEnvironment, folder: int, last: str) -> bool:
    """Return whether the file is there; refuse where If-Match or If-None-Match says so (RFC 9110, section 13.2.2)."""
    try:
        status = os.stat(last, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        status = None
    request = Request(environ)
    wanted = "HTTP_IF_MATCH" not in environ or (status is not None and _etag(status) in request.if_match)
    if not wanted or (status is not None and _etag(status) in request.if_none_match):
        raise _Refused("412 Precondition Failed", "the file is another version")
    return status is not None


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
