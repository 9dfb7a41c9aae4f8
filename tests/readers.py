"""What six parsers of Python's frameworks read from one body: as an application behind the middleware would use each.

A reader takes an environ and a body and returns what it saw; ``REFUSED`` if the application's client would be told
that the request is bad. A parser that swallows its errors shows what is left, which is what an application sees.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import multipart
import python_multipart
import starlette.requests
import webob
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.wsgi import WSGIRequest
from django.http.multipartparser import MultiPartParserError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from werkzeug.exceptions import HTTPException as WerkzeugException
from werkzeug.wrappers import Request as WerkzeugRequest

__all__ = ["READERS", "Refused", "Seen"]


class Refused(Exception):
    """The parser does not read this body, and says so to its caller."""


@dataclass
class Seen:
    """What one parser makes of a form: (field, filename, content) of each file and (field, content) of each text.

    A content is bytes if the parser gives bytes, else str. Order is that of the form among files, and among texts.
    """

    files: list[tuple[str, str, bytes]] = field(default_factory=list)
    texts: list[tuple[str, bytes | str]] = field(default_factory=list)


def environ_of(body: bytes, content_type: str) -> dict[str, Any]:
    """Return the environ of a POST of this body."""
    return {
        "REQUEST_METHOD": "POST",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
    }


class _Collector(FileUploadHandler):
    """Keeps each file of Django's parser in memory, under the name that it gives it."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.content = b""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.content += raw_data

    def file_complete(self, file_size: int) -> Any:
        return _Kept(self.field_name or "", self.file_name or "", self.content)


@dataclass
class _Kept:
    field: str
    name: str
    content: bytes

    def close(self) -> None:
        pass


def django(body: bytes, content_type: str) -> Seen:
    """Django needs settings; a test that calls this has them configured."""
    request = WSGIRequest(environ_of(body, content_type))
    request.upload_handlers = [_Collector()]
    try:
        request._load_post_and_files()
    except (MultiPartParserError, RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent, TooManyFilesSent) as error:
        raise Refused(str(error)) from error
    files = [(name, kept.name, kept.content) for name, values in request._files.lists() for kept in values]
    return Seen(files, [(name, value) for name, values in request._post.lists() for value in values])


def werkzeug(body: bytes, content_type: str) -> Seen:
    """With Werkzeug, errors of a form are an empty form, but for its limits."""
    request = WerkzeugRequest(environ_of(body, content_type))
    request.max_form_memory_size = None
    try:
        texts = list(request.form.items(multi=True))
    except WerkzeugException as error:
        raise Refused(str(error)) from error
    seen = Seen([(name, file.filename, file.read()) for name, file in request.files.items(multi=True)], texts)
    for file in request.files.values():
        file.close()
    return seen


def cgi(body: bytes, content_type: str) -> Seen:
    """WebOb's own reading of the body, which is that of the standard library's cgi."""
    try:
        items = list(webob.Request(environ_of(body, content_type)).POST.items())
    except (ValueError, LookupError, AttributeError, DeprecationWarning) as error:
        raise Refused(str(error)) from error
    seen = Seen()
    for name, value in items:
        if isinstance(value, (str, bytes)):
            seen.texts.append((name, value))
        else:
            seen.files.append((name, value.filename, value.value))
            if value.file is not None:  # else it is a form in the form
                value.file.close()
    return seen


def multipart_(body: bytes, content_type: str) -> Seen:
    """Multipart's errors are swallowed, as by default: what was read before is left."""
    try:
        texts, files = multipart.parse_form_data(environ_of(body, content_type), part_limit=100_000)
    except (UnicodeDecodeError, LookupError) as error:
        raise Refused(str(error)) from error
    seen = Seen()
    for name, text in texts.iterallitems():
        seen.texts.append((name, text))
    for name, part in files.iterallitems():
        seen.files.append((name, part.filename, part.raw))
        part.close()
    return seen


def python_multipart_(body: bytes, content_type: str) -> Seen:
    seen = Seen()

    def on_field(each: Any) -> None:
        seen.texts.append((each.field_name.decode(errors="replace"), each.value or b""))

    def on_file(each: Any) -> None:
        each.file_object.seek(0)
        name, filename = (text.decode(errors="replace") for text in (each.field_name, each.file_name))
        seen.files.append((name, filename, each.file_object.read()))
        each.close()

    headers = {"Content-Type": content_type.encode("latin-1"), "Content-Length": str(len(body)).encode()}
    try:
        python_multipart.parse_form(headers, io.BytesIO(body), on_field, on_file)
    except FormParserError as error:
        raise Refused(str(error)) from error
    return seen


def starlette_(body: bytes, content_type: str) -> Seen:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode("latin-1"))]}
    try:
        form = _ran(starlette.requests.Request(scope, receive)._get_form())
    except (MultiPartException, HTTPException) as error:
        raise Refused(str(error)) from error
    seen = Seen()
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            value.file.seek(0)
            seen.files.append((name, value.filename or "", value.file.read()))
            value.file.close()
        else:
            seen.texts.append((name, value))
    return seen


def _ran(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing: everything is in memory."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


READERS: dict[str, Callable[[bytes, str], Seen]] = {
    "django": django,
    "werkzeug": werkzeug,
    "cgi": cgi,
    "multipart": multipart_,
    "python-multipart": python_multipart_,
    "starlette": starlette_,
}
