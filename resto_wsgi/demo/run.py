"""``resto demo``: three media servers and a page behind `UploadMiddleware`, started and ended in order.

It owns the temporary folder that holds everything, the order of starting and stopping, and the signals: SIGINT,
SIGTERM and SIGHUP all end the demo with nothing left behind, neither a process nor a file. While something is being
started or stopped a signal is only noted, so that it cannot fall between a start and the note of it. The
command calls ``run``, and nothing else of this room.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .. import Replicator, UploadMiddleware
from ..errors import RestoError
from ..hosts import Host
from ..media_server import make_server
from .app import DemoApp
from .once import run_once
from .servers import LOOPBACK, OwnServer, Ports, port_taken
from .stock import StockServer, missing
from .visitors import refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["run"]

_SERVERS = 3
_MAX_FILE_SIZE = 256 * 1024 * 1024  # bytes; low enough that a person can see a file refused
_MAX_TOTAL_SIZE = 1024 * 1024 * 1024  # bytes of one request; a form without JavaScript sends all files in one
_BLOCK = 64 * 1024  # bytes
_ENDED_BY_SIGNAL = 130  # exit status of --once that was ended before it could tell


def run(*, once: bool, servers: str, port: int) -> int:
    """Run the demo until it is ended, or once; return the exit status.

    Raises `RestoError` if something that it needs does not start.
    """
    console = Console(highlight=False)
    with Interrupts() as interrupts:
        try:
            with ExitStack() as stack:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="resto-demo-"))
                page, media = _start(stack, folder, servers, Ports(port), interrupts.check)
                _announce(console, page, media, servers)
                with interrupts.raised():
                    if once:
                        return run_once(page, folder, console)
                    console.print("\nCtrl-C ends it.")
                    while True:
                        signal.pause()
        except KeyboardInterrupt:
            console.print("\nThe demo has ended; nothing of it is left.")
            return _ENDED_BY_SIGNAL if once else 0


class Interrupts:
    """SIGINT, SIGTERM, and SIGHUP, which comes when the terminal is closed.

    Raised as KeyboardInterrupt inside ``raised()`` and ``check()``, else only noted.
    """

    def __init__(self) -> None:
        self._noted = False
        self._raising = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal was noted."""
        if self._noted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt at once, also one that was noted before."""
        self._raising = True
        try:
            self.check()
            yield
        finally:
            self._raising = False

    def _note(self, *_: object) -> None:
        self._noted = True
        if self._raising:
            self._raising = False
            raise KeyboardInterrupt


def _start(
    stack: ExitStack, folder: str, servers: str, ports: Ports, check: Callable[[], None]
) -> tuple[str, list[Host]]:
    """Start everything, each end of it on ``stack``; return the page's address and the media servers."""
    page = ports.take(PageServer)
    stack.callback(page.stop)
    start_one = _own(stack, ports, check) if servers == "own" else _stock(stack, ports, servers)
    media = []
    for number in range(1, _SERVERS + 1):
        check()
        home = os.path.join(folder, f"server-{number}")
        os.makedirs(home)
        media.append(Host(f"Server {number}", start_one(home)))
    replicator = stack.enter_context(
        Replicator(
            media_root=os.path.join(folder, "media"),
            media_url=media[0].url,
            media_hosts=[server.url for server in media],
        )
    )
    app = DemoApp(media, max_file_size=_MAX_FILE_SIZE)
    page.serve(
        UploadMiddleware(
            app, replicator, paths=["/upload"], max_file_size=_MAX_FILE_SIZE, max_total_size=_MAX_TOTAL_SIZE
        )
    )
    stack.callback(page.stop)  # again, and so first: what is being uploaded ends before the servers do
    return page.url, media


def _own(stack: ExitStack, ports: Ports, check: Callable[[], None]) -> Callable[[str], str]:
    def start(home: str) -> str:
        server = ports.take(lambda port: OwnServer(home, port, check=check))
        stack.callback(server.stop)
        return server.url

    return start


def _stock(stack: ExitStack, ports: Ports, kind: str) -> Callable[[str], str]:
    if lacking := missing(kind):
        raise RestoError(f"--servers {kind} needs {lacking}")

    def start(home: str) -> str:
        return ports.take(lambda port: stack.enter_context(StockServer(kind, home, port))).url

    return start


class PageServer:
    """The server of the page: it holds its port from when it is built, and answers from ``serve`` on.

    Raises `port_taken` if somebody else listens on ``port``.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}/"
        self._app: WSGIApplication | None = None
        self._server = make_server(self._answer, LOOPBACK, port)
        try:
            self._server.prepare()
        except OSError as error:
            raise port_taken(port) from error
        self._thread = threading.Thread(target=self._server.serve, name="page", daemon=True)

    def serve(self, app: WSGIApplication) -> None:
        """Answer with ``app`` from now on."""
        self._app = app
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and give the port back."""
        self._server.stop()
        if self._app is not None:
            self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._app is None:
            raise RuntimeError("a request before serve()")
        body = environ["wsgi.input"]  # the middleware puts another in its place
        if reason := refusal(environ):
            start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
            _read_rest(body)
            return [f"{reason}\n".encode()]
        answer = self._app(environ, start_response)
        _read_rest(body)
        return answer


def _read_rest(body: Any) -> None:
    """Read what is left of a request that was refused half way: a browser reads no answer while it still sends."""
    with contextlib.suppress(Exception):  # a client that is gone needs no answer
        while body.read(_BLOCK):
            pass


def _announce(console: Console, page: str, media: list[Host], servers: str) -> None:
    console.print(f"page           {page}", style="bold")
    for server in media:
        console.print(f"media server   {server.url}/  ({servers})")
