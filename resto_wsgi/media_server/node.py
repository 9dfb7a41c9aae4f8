"""Our own media server, as a WSGI application: GET, HEAD, PUT, DELETE, MKCOL and OPTIONS of what is below one folder.

It only decides. ``access`` knows who may write, ``name_and_version`` and ``body`` what came, ``reading`` what a reader
gets, ``store`` has the files, and a role of ``tree`` is what a node does that is alone or has children. Any WSGI server
with blocking input runs it.

A sender may number the versions of a name with ``Resto-Generation``, on PUT and on DELETE. Then an older version
never replaces a newer one, whatever arrives first, and a file that was deleted does not come back. The same number
once more is the same change, and is carried out again. Without it the last to finish wins, and the name has no
generation any more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import names
from ..errors import MediaRootError, NameRejected, OutboxError, shown
from .access import Access
from .answers import Answer, Refused, text_answer
from .body import FileBody
from .conditions import judge_write
from .files.own_names import MISSING, OWN, README
from .files.store import PATH_BYTES_MAX, Change, Store
from .name_and_version import Version, path_of, readable, writable
from .pages.index import index_page
from .pages.missing import missing_page
from .pages.readme import readme_page
from .paging import page_of, query_of
from .reading import file_answer, folder_answer
from .refusals import Refusals
from .replays import Replays
from .roots import Roots
from .tree.alone import Alone
from .tree.relay import TIMEOUT, Relay
from .tree.role import Role

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["MediaServer"]

NO_FILE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY})
CONFLICT = "the name is a folder, or a folder of it is none"


class MediaServer:
    """Serves the folder ``root``, which is made if it is missing; ``role`` is what it does for other nodes.

    access          who may write, list folders and read the own pages; by default nobody
    inline          whether HTML, SVG and XML are shown, not saved: for files of your own alone
    linked_folders  folders below the root that may be symbolic links, or on disks of their own
    children        URLs of the nodes that get what this one gets
    timeout         seconds without progress after which one of them is given up
    outbox          path of the file with what they are owed; by default in the root
    credentials     what they are shown, see ``Relay``
    heal            whether what is missing here, and was read through a child, is kept
    clock           returns seconds since 1970

    Raises NameRejected for a linked folder that is no name, MediaRootError if the root cannot be made, and with
    children ConfigError and OutboxError.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        access: Access | None = None,
        inline: bool = False,
        linked_folders: Sequence[str] = (),
        children: Sequence[str] = (),
        timeout: float = TIMEOUT,
        outbox: str | None = None,
        heal: bool = False,
        credentials: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = Store(root, [names.check(each.strip("/"), PATH_BYTES_MAX) for each in linked_folders])
        self._access = access or Access()
        self._replays = Replays(os.path.join(self.store.root, ".resto", "signatures"))
        self._refusals = Refusals()
        self._inline = inline
        self._clock = clock
        self.role: Role = Alone(self.store)
        if children:
            self.role = Relay(
                self.store,
                children,
                timeout=timeout,
                outbox=outbox,
                credentials=credentials,
                heal=heal,
                inline=inline,
                clock=clock,
            )
        heeding = Roots().heeding
        writing = {"PUT": heeding(self._put), "DELETE": heeding(self._delete), "MKCOL": self._make_folder}
        self._methods = {"GET": self._get, "HEAD": self._get, **writing, "OPTIONS": self._options}
        self._allow = ("Allow", ", ".join(self._methods))

    def start(self) -> None:
        """Begin to deliver what children are owed; each request does so too. Not to be called before a fork."""
        self.role.start()

    def close(self) -> None:
        """Wait for what is under way with children. What they are owed stays owed."""
        self.role.close()
        self.store.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = FileBody(environ)
        self.start()  # here too: a server that forks after it has loaded us has left the threads behind
        try:
            answer = self._answer(environ, body)
        except Refused as refused:
            self._refusals.tell(environ, refused)
            answer = refused.answer()
        except MediaRootError as error:
            print(f"media server: {error}", file=environ["wsgi.errors"])
            answer = _refused_by_the_disk(error)
        except OSError as error:
            print(f"media server: {shown(error, 200)}", file=environ["wsgi.errors"])
            answer = text_answer("500 Internal Server Error", f"the disk refused: {os.strerror(error.errno or 0)}")
        except OutboxError as error:  # of a read: what is deleted is not known, so no child may be asked
            print(f"media server: {error}", file=environ["wsgi.errors"])
            answer = text_answer("503 Service Unavailable", "the outbox of this node cannot be read")
        # The server must not take the rest of a body for the next request.
        end = [] if body.discard() else [("Connection", "close")]
        start_response(answer.status, [*answer.headers, *end])
        return () if environ["REQUEST_METHOD"] == "HEAD" else answer.body

    def _answer(self, environ: WSGIEnvironment, body: FileBody) -> Answer:
        method = self._methods.get(environ["REQUEST_METHOD"])
        if method is None:
            raise Refused("405 Method Not Allowed", f"only {self._allow[1]}", [self._allow])
        return method(environ, body)

    def _options(self, environ: WSGIEnvironment, body: FileBody) -> Answer:
        return Answer("204 No Content", [self._allow])

    def _admit(self, environ: WSGIEnvironment) -> None:
        self._access.admit(environ, self._replays, self._clock())

    # Reading

    def _get(self, environ: WSGIEnvironment, body: FileBody) -> Answer:
        path = path_of(environ, "404 Not Found")
        if not path or path.endswith("/"):
            return self._list(environ, path)
        if path in OWN:
            return self._own_page(environ, path)
        name = readable(path)
        master = self.store.open(name)
        if master is None:
            return self.role.absent(environ, name)
        generation = self.store.generation(name, master.file.fileno())
        return file_answer(environ, master, name, generation, inline=self._inline)

    def _own_page(self, environ: WSGIEnvironment, path: str) -> Answer:
        self._admit(environ)
        if path == README:
            return readme_page(environ)
        if path == MISSING:
            return missing_page(environ, self.role)
        return index_page(environ, self.role)

    def _list(self, environ: WSGIEnvironment, path: str) -> Answer:
        """List a folder for those who may write: the public shall not learn names that nobody told it."""
        self._admit(environ)
        page = page_of(query_of(environ, "surrogateescape"))
        entries = self.store.entries(readable(path[:-1]) if path else "", *page)
        if entries is None:
            raise Refused("404 Not Found", "no such folder")
        return folder_answer(entries, page)

    # Writing

    def _put(self, environ: WSGIEnvironment, body: FileBody) -> Answer:
        self._admit(environ)
        name = writable(path_of(environ, "400 Bad Request"))
        version = Version.of(environ)
        # All that a head can be refused for comes before the body, so that nobody uploads in vain.
        body.judge()
        size = body.length or 0
        passing = self.role.passing(environ, size)
        with (
            _disk_answers(),
            self.store.stage(name) as staged,
            self.role.arriving(name, version, size, staged, passing) as arrival,
        ):
            sha256 = body.copy_to(staged.write, arrival.took)
            staged.seal(arrival.mtime_ns, sha256=sha256, generation=version.generation, exact=version.exact)
            # Sealed before the name is held: its fsync would make everybody wait who wants the name.
            with self.role.changing(name, arrival.passing) as change:
                _judge(environ, change, version.generation)
                lines = self.role.publish(name, change, staged, arrival.passing)
        return self.role.answer(environ, name, lines, created=not change.taken)

    def _delete(self, environ: WSGIEnvironment, body: FileBody) -> Answer:
        """Delete a file; with a slash at its end and ``Depth: infinity``, an empty folder; never a tree.

        RFC 4918, section 9.6.1. It has to be said, so that no slash by mistake removes what somebody is about to fill.
        A folder is this node's alone: children have folders where they have files.
        """
        self._admit(environ)
        path = path_of(environ, "400 Bad Request")
        is_folder = path.endswith("/") and environ.get("HTTP_DEPTH", "").lower() == "infinity"
        name = writable(path.removesuffix("/") if is_folder else path)
        generation = Version.of(environ).generation
        with _disk_answers():
            answer = self._delete_folder(name) if is_folder else self._delete_file(environ, name, generation)
        self.store.sweep()
        return answer

    def _delete_folder(self, name: str) -> Answer:
        try:
            self.store.media_root.remove_folder(name)
        except FileNotFoundError:
            raise Refused("404 Not Found", "no such file") from None
        return Answer("204 No Content")

    def _delete_file(self, environ: WSGIEnvironment, name: str, generation: int | None) -> Answer:
        passing = self.role.passing(environ)
        with self.role.changing(name, passing) as change:
            _judge(environ, change, generation)
            lines = self.role.delete(name, change, generation, passing)
        return self.role.answer(environ, name, lines, created=False)

    def _make_folder(self, environ: WSGIEnvironment, body: FileBody) -> Answer:
        """MKCOL (RFC 4918, section 9.3), which a PUT does not need: it makes the folders of its name."""
        self._admit(environ)
        name = writable(path_of(environ, "400 Bad Request").removesuffix("/"))
        if body.length != 0 and (body.length or "HTTP_TRANSFER_ENCODING" in environ):  # RFC 4918, section 9.3.1
            raise Refused("415 Unsupported Media Type", "MKCOL takes no body")
        try:
            with _disk_answers():
                self.store.media_root.make_folder(name)
        except FileExistsError:
            raise Refused("405 Method Not Allowed", "there is something of that name", [self._allow]) from None
        except (FileNotFoundError, NotADirectoryError):
            raise Refused("409 Conflict", "the folder above is missing, or is none") from None
        return text_answer("201 Created", "created")


def _refused_by_the_disk(error: MediaRootError) -> Answer:
    if error.away:
        return text_answer("503 Service Unavailable", "the root of this node is not there; is its disk mounted?")
    return text_answer("500 Internal Server Error", f"the disk refused: {os.strerror(error.errno or 0)}")


def _judge(environ: WSGIEnvironment, change: Change, generation: int | None) -> None:
    """Refuse what is older than what was here, and what is not to replace this version."""
    known = change.generation if generation is not None else None
    if generation is not None and known is not None and generation < known:
        headers = [("Resto-Generation", str(known))]
        raise Refused("412 Precondition Failed", f"generation {known} of this name was here already", headers)
    judge_write(environ, change.etag, change.state.seconds if change.state else 0)


@contextlib.contextmanager
def _disk_answers() -> Iterator[None]:
    """Answer what the disk says to a write with the status that fits (RFC 4918, sections 9.7.1 and 11.5)."""
    try:
        yield
    except NameRejected:
        raise Refused("409 Conflict", CONFLICT) from None
    except MediaRootError as error:
        if error.full:
            raise Refused("507 Insufficient Storage", "the disk is full") from None
        if error.errno in NO_FILE:  # ELOOP: a symbolic link, which is never followed
            raise Refused("409 Conflict", CONFLICT) from None
        raise
