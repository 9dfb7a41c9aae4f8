"""The answer that takes the place of the application's: what went wrong with the files, in words for the client.

It says what is true of the files alone: the application may have done other things before. Text, HTML or JSON by
Accept, as WebOb's errors are. No path, host or errno is shown; those go to the log. The middleware calls this.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Callable, Iterable
from typing import Any

from webob.exc import WSGIHTTPException, status_map

from ..errors import MediaRootError, NameRejected, OutboxError, ReplicationError, RestoError, UploadRejected

__all__ = ["error_page"]

KEPT = "None of the files of this request was kept."
UNCERTAIN = "Some of the files of this request may have been kept."

log = logging.getLogger("resto_wsgi")


def error_page(
    error: RestoError, *, withdrawn: bool = True, show_traceback: bool = False
) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return an application that says why. ``withdrawn`` is False if files may stand that were published before.

    What is not the client's fault is logged, with a traceback if ``show_traceback``.
    """
    files = KEPT if withdrawn else UNCERTAIN
    headers: list[tuple[str, str]] = []
    if isinstance(error, UploadRejected):
        code, text, headers = error.http_status, error.reason, list(error.headers)
    elif isinstance(error, NameRejected):
        code, text = 400, f"The file cannot be stored under its name: {error.reason}."
    else:
        log.error("%s", error, exc_info=error if show_traceback else None)
        if isinstance(error, ReplicationError):
            code, text = 503, f"Too few media servers took the files. {files}"
            headers = [("Retry-After", str(error.retry_after))]
        elif isinstance(error, (MediaRootError, OutboxError)) and error.full:
            code, text = 507, f"There is no space left for the files. {files}"
        else:
            code, text = 500, f"The files could not be stored. {files}"
    page: Callable[[dict[str, Any], Any], Iterable[bytes]] = _kind(code)(
        detail=text, headers=headers, body_template="${detail}"
    )
    return page


def _kind(code: int) -> type[WSGIHTTPException]:
    """Return WebOb's class for a status, or one like it: for 418, 499 and others there is none."""
    known: type[WSGIHTTPException] | None = status_map.get(code)
    if known is not None:
        return known
    try:
        title = http.HTTPStatus(code).phrase
    except ValueError:
        title = "Refused" if code < 500 else "Failed"
    return type(f"HTTP{code}", (WSGIHTTPException,), {"code": code, "title": title})
