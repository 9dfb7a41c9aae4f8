"""Holds an application's answer back until it is decided what becomes of its uploads.

    running ── first byte of the body, or its end, or enough bytes written ──> decide(status) ──> passed on
       │                                                                          └──> replaced by another answer
       └── the application raises ──> failed

``decide`` is called at most once, with the status that would have left; ``finish`` exactly once on every path, after
the application's own ``close()``. Nothing is known here of uploads. The middleware calls this (PEP 3333).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["HeldAnswer"]

UNSENDABLE = re.compile(r"[\x00\r\n]|[^\x00-\xff]")
WRITTEN_IN_MEMORY = 64 * 1024  # bytes of write() that wait for the answer's end before it must be decided

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class HeldAnswer:
    """The iterable that the server gets. ``decide(code)`` returns None to pass the answer on, or another application.

    ``finish(failed)`` is told whether the application raised, or the server refused, before the answer was passed on.
    """

    _closed = True  # until __init__ has run, which may be interrupted: then there is no answer yet to be closed

    def __init__(
        self,
        environ: dict[str, Any],
        start_response: Any,
        decide: Callable[[int], Application | None],
        finish: Callable[[bool], None],
    ) -> None:
        self._environ = environ
        self._server_start = start_response
        self._decide = decide
        self._finish = finish
        self._head: tuple[str, list[tuple[str, str]], Any] | None = None
        self._write: Callable[[bytes], Any] | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._decided = False
        self._replaced = False
        self._source: Iterable[bytes] = ()
        self._body: Iterator[bytes] = iter(())
        self._closed = False

    def run(self, application: Application) -> HeldAnswer:
        """Call the application and return when its answer is decided. Its exceptions go on."""
        try:
            self._source = application(self._environ, self._start)
            if not self._replaced:  # else write() had the answer decided, and _body is the other answer's
                self._body = iter(self._source)
            first = b""
            while not first and not self._decided:
                chunk = next(self._body, None)
                if chunk is None:
                    break
                first = chunk
            self._let_decide()
            if not self._replaced:
                self._held.append(first)
        except BaseException:
            self.close()
            raise
        return self

    def __iter__(self) -> HeldAnswer:
        return self

    def __next__(self) -> bytes:
        if self._held:
            held, self._held = b"".join(self._held), []
            if held:
                return held
        return next(self._body)

    def close(self) -> None:
        """Close the application's iterable and finish, once."""
        if self._closed:
            return
        self._closed = True
        try:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        finally:
            self._finish(not self._decided)

    def __del__(self) -> None:
        self.close()  # a server that fails while it sends may never call it

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """The application's start_response."""
        if self._replaced:
            return self._take
        if self._decided:
            try:
                self._write = self._server_start(status, headers, exc_info)
            finally:
                exc_info = None  # as PEP 3333 asks, no cycle through the traceback
            return self._take
        if self._head is not None and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info (PEP 3333)")
        self._head = status, headers, exc_info
        return self._take

    def _take(self, data: bytes) -> None:
        """The application's write()."""
        if self._replaced:
            return
        if self._write is not None:
            self._write(data)
            return
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > WRITTEN_IN_MEMORY:
            self._let_decide()
            if self._write is not None:
                held, self._held = self._held, []
                for part in held:
                    self._write(part)

    def _let_decide(self) -> None:
        """Decide, and tell the server what the answer is."""
        if self._decided:
            return
        if self._head is None:
            raise AssertionError("the application answered without calling start_response (PEP 3333)")
        status, headers, exc_info = self._head
        self._head = None
        _check_head(status, headers)
        replacement = self._decide(int(status[:3]))
        del exc_info  # an error that the application reported before a byte left is an answer like any other here
        if replacement is None:
            self._write = self._server_start(status, headers)
        else:
            self._replaced = True
            self._held = []
            self._body = iter(replacement(self._environ, self._server_start))
        self._decided = True  # not before the server took it: what it refuses has failed, and leaves no uploads


def _check_head(status: str, headers: list[tuple[str, str]]) -> None:
    """Raise ValueError for what some server refuses only while it sends, when the uploads are published already."""
    for text in (status, *(part for header in headers for part in header)):
        if UNSENDABLE.search(text):
            raise ValueError(f"a header must be Latin-1 in one line (PEP 3333), not {text!r}")
