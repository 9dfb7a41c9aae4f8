"""Conditional requests: the version of a file that a client asks for or writes over (RFC 9110, section 13).

The condition of a write is judged under the lock of the name, so that of two writers with one condition only one gets
through. ``node`` calls this for writes, ``reading`` for reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webob import Request

from ..fields.dates import parse_date
from .answers import Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["http_seconds", "judge_write", "range_applies", "unchanged"]

_CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_MODIFIED_SINCE")


def judge_write(environ: WSGIEnvironment, etag: str | None, mtime: int) -> None:
    """Refuse with 412 what must not be written over the version ``etag``, None if there is no file.

    RFC 9110, section 13.2.2. ``mtime`` is in seconds since 1970.
    """
    if not any(each in environ for each in _CONDITIONS):  # most have none, and webob's Request costs
        return
    # In the order of section 13.2.2: If-Match, else If-Unmodified-Since, and then If-None-Match.
    _judge_match(environ, etag, mtime)
    if etag is not None and etag in Request(environ).if_none_match:
        raise _other_version()


def unchanged(environ: WSGIEnvironment, etag: str, mtime: int) -> bool:
    """Say whether the reader has the version ``etag`` already: 304. Refuses with 412 if it wants another one."""
    if not any(each in environ for each in _CONDITIONS):
        return False
    _judge_match(environ, etag, mtime)
    if "HTTP_IF_NONE_MATCH" in environ:  # If-Modified-Since does not count then (section 13.1.3)
        return etag in Request(environ).if_none_match
    since = http_seconds(environ.get("HTTP_IF_MODIFIED_SINCE", ""))
    return since is not None and mtime <= since


def range_applies(environ: WSGIEnvironment, etag: str, mtime: int) -> bool:
    """Say whether If-Range, if there is one, names this very version (RFC 9110, section 13.1.5)."""
    wanted = environ.get("HTTP_IF_RANGE", "").strip()
    if not wanted or wanted.startswith('"'):
        return wanted in ("", f'"{etag}"')
    return http_seconds(wanted) == mtime  # a weak ETag is no date, and does not apply


def http_seconds(date: str) -> int | None:
    """Return an HTTP date in whole seconds since 1970, None if it is none."""
    seconds = parse_date(date)
    return None if seconds is None else int(seconds)


def _judge_match(environ: WSGIEnvironment, etag: str | None, mtime: int) -> None:
    if "HTTP_IF_MATCH" in environ:
        if etag is None or etag not in Request(environ).if_match:
            raise _other_version()
    elif etag is not None and "HTTP_IF_UNMODIFIED_SINCE" in environ:
        since = http_seconds(environ["HTTP_IF_UNMODIFIED_SINCE"])
        if since is not None and mtime > since:
            raise _other_version()


def _other_version() -> Refused:
    return Refused("412 Precondition Failed", "the file is another version")
