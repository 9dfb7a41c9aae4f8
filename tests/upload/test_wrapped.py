"""What is no WSGI application is told at once."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from resto_wsgi.upload.wrapped import check_application


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []

    def method(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


async def coroutine(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.mark.parametrize(
    "application",
    [
        lambda environ, start_response: [],
        lambda *arguments: [],
        lambda environ, start_response, extra=None: [],
        Wsgi(),
        Wsgi().method,
        functools.partial(lambda extra, environ, start_response: [], 1),
        zip,  # a callable without a signature
    ],
)
def test_whatever_can_be_called_with_two_arguments_is_taken(application: Any) -> None:
    """Functions, methods, objects, partials."""
    check_application(application)


@pytest.mark.parametrize("application", [coroutine, Asgi(), functools.partial(coroutine, {})])
def test_an_asgi_application_is_told_what_to_do(application: Any) -> None:
    """The usual mistake: FastAPI, or Django's asgi.py."""
    with pytest.raises(TypeError, match=r"ASGI.*wsgi\.py.*a2wsgi"):
        check_application(application)


@pytest.mark.parametrize("application", [None, "module:application", 7])
def test_what_cannot_be_called_is_named(application: Any) -> None:
    """By its type."""
    with pytest.raises(TypeError, match=type(application).__name__):
        check_application(application)


@pytest.mark.parametrize("application", [lambda: None, lambda environ: None, lambda scope, receive, send: None, Wsgi])
def test_what_takes_other_arguments_is_told(application: Any) -> None:
    """One, or three; or a class that was not called."""
    with pytest.raises(TypeError, match="takes environ and start_response"):
        check_application(application)
