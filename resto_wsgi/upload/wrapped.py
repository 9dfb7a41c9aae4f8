"""Looks at an application before it is wrapped: what is no WSGI application is told at once, not by each request.

ASGI applications (FastAPI, Starlette, Quart, Django's asgi.py) are the usual mistake. The middleware calls this.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["check_application"]


def check_application(application: Any) -> None:
    """Raise TypeError if ``application`` cannot be called as WSGI demands (PEP 3333)."""
    if not callable(application):
        raise TypeError(f"UploadMiddleware wraps a WSGI application, not {type(application).__name__}")
    inner = application
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__):
        raise TypeError(
            "UploadMiddleware wraps a WSGI application, and this is an ASGI one; wrap what is served by a WSGI server "
            "(Django: wsgi.py), or adapt it with a2wsgi.ASGIMiddleware"
        )
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):  # some callables in C have none
        return
    try:
        signature.bind({}, None)
    except TypeError as error:
        raise TypeError(f"a WSGI application takes environ and start_response; this one: {error}") from None
