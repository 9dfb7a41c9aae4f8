"""Forms as real clients send them: none of these may be refused, and each parser has to read the same in them.

Those that are installed write theirs anew in each run. The others are written down here from the sources of the
clients, with the boundary that each has.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import requests
from django.test.client import BOUNDARY as DJANGO_BOUNDARY
from django.test.client import encode_multipart
from urllib3.filepost import encode_multipart_formdata
from webtest import TestApp
from werkzeug.test import EnvironBuilder

__all__ = ["CLIENTS", "CONTENT", "FILENAMES", "TITLE"]

TITLE = "Tom"
CONTENT = b"\xff\xd8 bytes\r\n"
NAME = "ä.jpg"
FILENAMES = {NAME, "a.jpg", 'a"b.jpg'}  # what a client here may call the file


class Written(NamedTuple):
    """A Content-Type, and the headers of a text "title" and of a file "photo", with what is around both."""

    content_type: str
    title: list[str]
    photo: list[str]
    before: str = ""
    after: str = "\r\n"

    def form(self) -> tuple[str, bytes]:
        boundary = self.content_type.partition("boundary=")[2].partition(";")[0].strip('"')
        title, photo = ("\r\n".join(head) for head in (self.title, self.photo))
        begin = f"{self.before}--{boundary}\r\n{title}\r\n\r\n{TITLE}\r\n--{boundary}\r\n{photo}\r\n\r\n"
        return self.content_type, begin.encode() + CONTENT + f"\r\n--{boundary}--{self.after}".encode()


WRITTEN = {
    "Chrome": Written(
        "multipart/form-data; boundary=----WebKitFormBoundaryrGKCBY7qhFd3TrwA",
        ['Content-Disposition: form-data; name="title"'],
        ['Content-Disposition: form-data; name="photo"; filename="a%22b.jpg"', "Content-Type: image/jpeg"],
    ),
    "Firefox": Written(
        "multipart/form-data; boundary=----geckoformboundary3b5c1f9a7d",
        ['Content-Disposition: form-data; name="title"'],
        ['Content-Disposition: form-data; name="photo"; filename="ä.jpg"', "Content-Type: image/jpeg"],
    ),
    "Firefox before 90, curl before 7.81, Go": Written(
        "multipart/form-data; boundary=---------------------------735323031399963166993862150",
        ['Content-Disposition: form-data; name="title"'],
        ['Content-Disposition: form-data; name="photo"; filename="a\\"b.jpg"', "Content-Type: image/jpeg"],
    ),
    "Internet Explorer": Written(
        "multipart/form-data; boundary=---------------------------7d41b838504d8",
        ['Content-Disposition: form-data; name="title"'],
        [
            'Content-Disposition: form-data; name="photo"; filename="C:\\Documents and Settings\\Tom\\a.jpg"',
            "Content-Type: image/pjpeg",
        ],
    ),
    "curl": Written(
        "multipart/form-data; boundary=------------------------d74496d66958873e",
        ['Content-Disposition: form-data; name="title"'],
        ['Content-Disposition: form-data; name="photo"; filename="a.jpg"', "Content-Type: image/jpeg"],
    ),
    "okhttp": Written(
        "multipart/form-data; boundary=7b3c9d0e-7f3c-4e07-9c57-6d5fd4c6f4b1",
        ['Content-Disposition: form-data; name="title"', "Content-Length: 3"],
        [
            'Content-Disposition: form-data; name="photo"; filename="a%22b.jpg"',
            "Content-Type: image/jpeg",
            "Content-Length: 10",
        ],
    ),
    "Retrofit": Written(
        "multipart/form-data; boundary=7b3c9d0e-7f3c-4e07-9c57-6d5fd4c6f4b1",
        [
            'Content-Disposition: form-data; name="title"',
            "Content-Transfer-Encoding: binary",
            "Content-Type: text/plain; charset=UTF-8",
            "Content-Length: 3",
        ],
        [
            'Content-Disposition: form-data; name="photo"; filename="ä.jpg"',
            "Content-Transfer-Encoding: binary",
            "Content-Type: image/jpeg",
            "Content-Length: 10",
        ],
    ),
    ".NET": Written(
        'multipart/form-data; boundary="0f8fad5b-d9cb-469f-a165-70867728950e"',
        ["Content-Type: text/plain; charset=utf-8", "Content-Disposition: form-data; name=title"],
        ["Content-Disposition: form-data; name=photo; filename=\"=?utf-8?B?w6QuanBn?=\"; filename*=utf-8''%C3%A4.jpg"],
    ),
    ".NET, by hand": Written(
        "multipart/form-data; boundary=---------------------------8d1b2c3d4e5f6a7",
        ['Content-Disposition: form-data; name="title";'],
        ['Content-Disposition: form-data; name="photo"; filename="a.jpg"', "Content-Type: image/jpeg"],
        before="\r\n",
    ),
    "axios, form-data": Written(
        "multipart/form-data; boundary=--------------------------118913055823473892301912",
        ['Content-Disposition: form-data; name="title"'],
        ['Content-Disposition: form-data; name="photo"; filename="a.jpg"', "Content-Type: image/jpeg"],
    ),
    "LibreOffice": Written(
        'multipart/form-data; boundary="------------_4D480000-0000-0000-0000-000000000001"',
        [
            'Content-Type: text/plain; charset="utf-8"',
            "Content-Transfer-Encoding: 8bit",
            'Content-Disposition: form-data; name="title"',
        ],
        [
            "Content-Type: image/jpeg",
            "Content-Transfer-Encoding: 8bit",
            'Content-Disposition: form-data; name="photo"; filename="a.jpg"',
        ],
        before="\r\n",
    ),
    "LibreOffice before 5": Written(
        'multipart/form-data; boundary="------------_4D480000-0000-0000-0000-000000000001"',
        [
            "Content-Type: text/plain",
            "Content-Transfer-Encoding: UTF-8",
            'Content-Disposition: form-data; name="title"',
        ],
        ["Content-Type: image/jpeg", 'Content-Disposition: form-data; name="photo"; filename="a.jpg"'],
        before="\r\n",
    ),
    "Android, by hand": Written(
        "multipart/form-data;boundary=*****",
        ['Content-Disposition: form-data; name="title"'],
        ['Content-Disposition: form-data; name="photo";filename="a.jpg"'],
    ),
    "Apache HttpClient 5": Written(
        "multipart/form-data; charset=ISO-8859-1; boundary=6jf2VVQVqEg7h0W6wwvwA8A58_j0TMsYKB8z",
        ['Content-Disposition: form-data; name="title"', "Content-Type: text/plain; charset=ISO-8859-1"],
        [
            'Content-Disposition: form-data; name="photo"; filename="%C3%A4.jpg"; filename*="UTF-8\'\'%C3%A4.jpg"',
            "Content-Type: application/octet-stream",
        ],
    ),
    "Apache HttpClient 4": Written(
        "multipart/form-data; boundary=6jf2VVQVqEg7h0W6wwvwA8A58_j0TMsYKB8z; charset=UTF-8",
        [
            'Content-Disposition: form-data; name="title"',
            "Content-Type: text/plain; charset=ISO-8859-1",
            "Content-Transfer-Encoding: 8bit",
        ],
        [
            'Content-Disposition: form-data; name="photo"; filename="a.jpg"',
            "Content-Type: application/octet-stream",
            "Content-Transfer-Encoding: binary",
        ],
    ),
    "Symfony": Written(
        "multipart/form-data; boundary=RGWgOk4l",
        [
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
            'Content-Disposition: form-data; name="title"',
        ],
        [
            "Content-Type: image/jpeg",
            "Content-Transfer-Encoding: 8bit",
            'Content-Disposition: form-data; name="photo"; filename="ä.jpg"',
        ],
    ),
    "Rack": Written(
        "multipart/form-data; boundary=AaB03x",
        ['Content-Disposition: form-data; name="title"'],
        [
            'Content-Disposition: form-data; name="photo"; filename="a.jpg"',
            "Content-Type: image/jpeg",
            "Content-Length: 10",
        ],
        after="\r",
    ),
    "rack-test": Written(
        "multipart/form-data; boundary=----------XnJLe9ZIbbGUYtzPQJ16u1",
        ['content-disposition: form-data; name="title"'],
        [
            'content-disposition: form-data; name="photo"; filename="a.jpg"',
            "content-type: image/jpeg",
            "content-length: 10",
        ],
    ),
    "aiohttp": Written(
        "multipart/form-data; boundary=4b3e1ac6c3ec4a5f8f0bd10ab8c6d0ee",
        ["Content-Type: text/plain; charset=utf-8", 'Content-Disposition: form-data; name="title"'],
        [
            "Content-Type: image/jpeg",
            'Content-Disposition: form-data; name="photo"; filename="%C3%A4.jpg"; filename*=utf-8\'\'%C3%A4.jpg',
        ],
    ),
    "Dart": Written(
        "multipart/form-data; boundary=dart-http-boundary-+Xu.1_p0.cT8nKmV9wQ",
        ['content-disposition: form-data; name="title"'],
        ["content-type: image/jpeg", 'content-disposition: form-data; name="photo"; filename="a.jpg"'],
    ),
    "Taobao SDK": Written(
        "multipart/form-data;charset=UTF-8;boundary=1700000000000",
        ['Content-Disposition:form-data;name="title"', "Content-Type:text/plain"],
        ['Content-Disposition:form-data;name="photo";filename="a.jpg"', "Content-Type:image/jpeg"],
        before="\r\n",
    ),
}


def _requests() -> tuple[str, bytes]:
    made = requests.Request("POST", "http://x/", data={"title": TITLE}, files={"photo": (NAME, CONTENT)}).prepare()
    return made.headers["Content-Type"], made.body  # type: ignore[return-value]


def _urllib3() -> tuple[str, bytes]:
    body, content_type = encode_multipart_formdata({"title": TITLE, "photo": ('a"b.jpg', CONTENT, "image/jpeg")})
    return content_type, body


def _webtest() -> tuple[str, bytes]:
    sent: list[tuple[str, bytes]] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        sent.append((environ["CONTENT_TYPE"], environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    TestApp(application).post("/", {"title": TITLE}, upload_files=[("photo", NAME, CONTENT)])
    return sent[0]


def _django() -> tuple[str, bytes]:
    file = io.BytesIO(CONTENT)
    file.name = NAME
    return f"multipart/form-data; boundary={DJANGO_BOUNDARY}", encode_multipart(
        DJANGO_BOUNDARY, {"title": TITLE, "photo": file}
    )


def _werkzeug() -> tuple[str, bytes]:
    data = {"title": TITLE, "photo": (io.BytesIO(CONTENT), NAME)}
    environ = EnvironBuilder(method="POST", data=data).get_environ()
    return environ["CONTENT_TYPE"], environ["wsgi.input"].read()


CLIENTS: dict[str, Callable[[], tuple[str, bytes]]] = {
    **{name: written.form for name, written in WRITTEN.items()},
    "requests": _requests,
    "urllib3": _urllib3,
    "WebTest": _webtest,
    "Django's test client": _django,
    "Werkzeug's test client": _werkzeug,
}
