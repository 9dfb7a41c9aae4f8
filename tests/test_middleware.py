"""The middleware's policies, called as a WSGI server calls it, with three real media servers behind it."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import urllib3
from servers import eventually, files, held, on_every_kind
from webob import Request

from resto_wsgi import (
    ConfigError,
    MediaRootError,
    ReplicationError,
    Replicator,
    RestoError,
    UploadMiddleware,
    UploadRejected,
    uploads_of,
)

BOUNDARY = "x-boundary"
CAT = b"\xff\xd8 a cat \r\n" * 500


def multipart(*parts: tuple[Any, ...]) -> bytes:
    """Return a body of ``(field, text)`` and ``(field, filename, content[, content_type])`` parts."""
    body = b""
    for field, *rest in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"'.encode()
        if len(rest) == 1:
            body += b"\r\n\r\n" + rest[0].encode() + b"\r\n"
            continue
        filename, content, *content_type = rest
        body += f'; filename="{filename}"\r\nContent-Type: {(content_type or ["image/jpeg"])[0]}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def post(app: Any, *parts: tuple[Any, ...], path: str = "/upload", method: str = "POST", **environ: Any) -> Any:
    """Send a form to a WSGI application and return WebOb's response."""
    request = Request.blank(path, method=method, body=multipart(*parts))
    request.content_type = f"multipart/form-data; boundary={BOUNDARY}"
    request.environ.update(environ)
    response = request.get_response(app)
    assert response.body is not None  # reads the answer to its end and closes it, as a server does
    return response


class Application:
    """An application that answers with what it was given; ``before`` runs inside each request."""

    def __init__(self, status: str = "200 OK", before: Any = None) -> None:
        self.status = status
        self.before = before
        self.uploads: Any = None
        self.body = b""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.uploads = environ.get("resto.uploads")
        self.environ = environ
        self.body = environ["wsgi.input"].read(10**9)
        if self.before is not None:
            self.before(environ)
        start_response(self.status, [("Content-Type", "text/plain")])
        return [b"done"]


@pytest.fixture
def replicator(tmp_path: Path, hosts: Any) -> Any:
    """A replicator with three hosts."""
    with Replicator(media_root=tmp_path / "media", media_hosts=[host.url for host in hosts], timeout=2) as replicator:
        yield replicator


def nothing_left(replicator: Replicator, hosts: Any) -> bool:
    return not files(replicator.settings.media_root) and not any(held(host) for host in hosts)


@on_every_kind
def test_an_upload_is_on_the_master_and_every_host_when_the_answer_leaves(replicator: Any, hosts: Any) -> None:
    """The main job: one file, N servers, before the first byte of the answer."""
    application = Application()
    response = post(UploadMiddleware(application, replicator), ("title", "Tom"), ("photo", "Tom é.jpg", CAT))
    assert (response.status_code, response.body) == (200, b"done")
    (upload,) = application.uploads
    assert (upload.field, upload.filename, upload.size) == ("photo", "Tom é.jpg", len(CAT))
    assert (upload.content_type, upload.sha256) == ("image/jpeg", hashlib.sha256(CAT).hexdigest())
    assert upload.name.startswith("uploads/2") and upload.name.endswith(".jpg") and "/Tom é-" in upload.name
    assert upload.url == replicator.url(upload.name)
    assert Path(upload.path).read_bytes() == CAT
    assert files(replicator.settings.media_root) == {upload.name: CAT}
    for host in hosts:
        assert held(host) == {upload.name: CAT}
        reply = urllib3.request("GET", host.url.rstrip("/") + "/" + upload.url.removeprefix("/media/"))
        assert reply.data == CAT


def test_the_application_reads_exactly_the_bytes_that_were_sent(replicator: Any) -> None:
    """handoff="original" changes nothing in the body."""
    application = Application()
    parts = (("a", "1"), ("f", "x.bin", b"\r\n--" * 999), ("g", "", b""), ("b", "2"))
    post(UploadMiddleware(application, replicator), *parts)
    assert application.body == multipart(*parts)
    assert application.environ["CONTENT_LENGTH"] == str(len(application.body))


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_put_and_patch_are_caught_too(replicator: Any, method: str) -> None:
    """The three methods that carry forms."""
    application = Application()
    post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT), method=method)
    assert len(application.uploads) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"REQUEST_METHOD": "GET"},
        {"REQUEST_METHOD": "DELETE"},
        {"CONTENT_TYPE": "application/json"},
        {"CONTENT_TYPE": "multipart/form-dataX; boundary=x"},
        {"CONTENT_TYPE": "multipart/mixed; boundary=x"},
        {"CONTENT_TYPE": ""},
        {"PATH_INFO": "/elsewhere"},
        {"HTTP_X_SKIP": "1"},
    ],
)
def test_what_is_not_ours_reaches_the_application_untouched(replicator: Any, change: dict[str, str]) -> None:
    """The very environ, the very start_response, the very iterable."""
    seen = []
    answer: list[bytes] = [b""]

    def application(environ: Any, start_response: Any) -> Any:
        seen.append((environ, dict(environ), start_response))
        return answer

    def catch(environ: Any) -> bool:
        return "HTTP_X_SKIP" not in environ

    app = UploadMiddleware(application, replicator, paths=["/upload"], catch=catch)
    environ = Request.blank("/upload", method="POST", body=multipart(("a", "b"))).environ
    environ["CONTENT_TYPE"] = f"multipart/form-data; boundary={BOUNDARY}"
    environ.update(change)
    before = dict(environ)

    def start_response(*args: Any) -> None:
        pass

    assert app(environ, start_response) is answer
    assert seen == [(environ, before, start_response)]
    assert seen[0][0] is environ
    assert environ["wsgi.input"].tell() == 0


def test_wrapping_twice_catches_once(replicator: Any, hosts: Any) -> None:
    """The inner middleware sees that the request was received."""
    application = Application()
    post(UploadMiddleware(UploadMiddleware(application, replicator), replicator), ("f", "a.jpg", CAT))
    assert len(held(hosts[0])) == 1


class Unreadable(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("status", [401, 403])
def test_authorize_refuses_before_a_byte_is_read(replicator: Any, status: int) -> None:
    """False is 403; a refusal has a status and headers of its own."""

    def authorize(environ: Any) -> bool:
        if status == 401:
            raise UploadRejected("Log in first.", 401, [("WWW-Authenticate", 'Basic realm="uploads"')])
        return False

    application = Application()
    app = UploadMiddleware(application, replicator, authorize=authorize)
    response = post(app, ("f", "a.jpg", CAT), **{"wsgi.input": Unreadable(), "webob.is_body_seekable": False})
    assert response.status_code == status
    assert application.uploads is None
    assert ("WWW-Authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Oops", "199 Odd"])
def test_an_application_that_does_not_succeed_keeps_nothing(replicator: Any, hosts: Any, status: str) -> None:
    """Its answer leaves as it is, and no host hears of the files."""
    response = post(UploadMiddleware(Application(status), replicator), ("f", "a.jpg", CAT))
    assert (response.status, response.body) == (status, b"done")
    assert nothing_left(replicator, hosts)


def test_a_redirect_publishes(replicator: Any, hosts: Any) -> None:
    """POST, redirect, GET is a success."""
    post(UploadMiddleware(Application("303 See Other"), replicator), ("f", "a.jpg", CAT))
    assert len(held(hosts[2])) == 1


def test_publish_always_publishes_whatever_the_answer(replicator: Any, hosts: Any) -> None:
    """For applications that keep evidence of what they refuse."""
    response = post(UploadMiddleware(Application("422 No"), replicator, publish="always"), ("f", "a.jpg", CAT))
    assert response.status_code == 422
    assert len(held(hosts[0])) == 1


@pytest.mark.parametrize("publish", ["on_success", "always", "manual"])
def test_an_exception_goes_on_and_nothing_staged_stays(replicator: Any, hosts: Any, publish: str) -> None:
    """The server sees the application's own exception."""

    def fail(environ: Any) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        post(UploadMiddleware(Application(before=fail), replicator, publish=publish), ("f", "a.jpg", CAT))
    assert nothing_left(replicator, hosts)


def test_publish_manual_publishes_only_on_request(replicator: Any, hosts: Any) -> None:
    """What the application does not publish is removed at the end."""
    app = UploadMiddleware(Application(), replicator, publish="manual")
    assert post(app, ("f", "a.jpg", CAT)).status_code == 200
    assert nothing_left(replicator, hosts)
    application = Application("500 Oops", before=lambda environ: environ["resto.uploads"].publish())
    post(UploadMiddleware(application, replicator, publish="manual"), ("f", "a.jpg", CAT))
    assert [len(held(host)) for host in hosts] == [1, 1, 1]


@on_every_kind
def test_publishing_inside_the_request_replicates_at_once(replicator: Any, hosts: Any) -> None:
    """An application can know before it commits its own database."""
    seen: list[int] = []

    def publish(environ: Any) -> None:
        environ["resto.uploads"].publish()
        environ["resto.uploads"].publish()  # twice is once
        seen.extend(len(held(host)) for host in hosts)
        assert environ["resto.uploads"][0].stored.outcome == dict.fromkeys([host.url for host in hosts])

    post(UploadMiddleware(Application(before=publish), replicator), ("f", "a.jpg", CAT))
    assert seen == [1, 1, 1] == [len(held(host)) for host in hosts]


@on_every_kind
@pytest.mark.parametrize("how", ["status", "exception"])
def test_what_was_published_early_is_withdrawn_after_a_failure(replicator: Any, hosts: Any, how: str) -> None:
    """Its database rolled back, so it does not believe in the file."""

    def publish(environ: Any) -> None:
        environ["resto.uploads"].publish()
        assert held(hosts[0])
        if how == "exception":
            raise LookupError

    application = Application("500 Oops", before=publish)
    if how == "exception":
        with pytest.raises(LookupError):
            post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT))
    else:
        post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT))
    assert nothing_left(replicator, hosts)


@on_every_kind
@pytest.mark.parametrize("published", [False, True])
def test_a_discarded_upload_is_nowhere(replicator: Any, hosts: Any, published: bool) -> None:
    """Before or after it was published; the others stay, and the body stays readable."""
    later = []

    def discard(environ: Any) -> None:
        if published:
            environ["resto.uploads"].publish()
        environ["resto.uploads"][0].discard()
        environ["wsgi.input"].seek(0)
        later.append(environ["wsgi.input"].read(10**9))

    application = Application(before=discard)
    post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT), ("f", "b.jpg", b"b"))
    assert later == [application.body]
    for found in [files(replicator.settings.media_root), *map(held, hosts)]:
        assert list(found.values()) == [b"b"]


@on_every_kind
def test_too_few_hosts_answer_503_and_withdraw_every_upload_of_the_request(tmp_path: Path, hosts: Any) -> None:
    """One dead host of four: the client is told to come back, and three servers are as before."""
    urls = [*(host.url for host in hosts), "http://127.0.0.1:9/"]
    with Replicator(media_root=tmp_path / "media", media_hosts=urls) as replicator:
        app = UploadMiddleware(Application(), replicator)
        response = post(app, ("f", "a.jpg", CAT), ("f", "b.jpg", CAT), HTTP_ACCEPT="application/json")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "media servers" in json.loads(response.body)["message"]
        assert nothing_left(replicator, hosts)


def test_an_application_is_told_of_too_few_hosts_where_it_publishes_itself(tmp_path: Path, hosts: Any) -> None:
    """ReplicationError names each host that failed; caught or not, nothing stays without a success."""
    told = []

    def publish(environ: Any) -> None:
        try:
            environ["resto.uploads"].publish()
        except ReplicationError as error:
            told.append(error)

    with Replicator(media_root=tmp_path / "media", media_hosts=[hosts[0].url, "127.0.0.1:9"]) as replicator:
        app = UploadMiddleware(Application("500 Oops", before=publish), replicator)
        assert post(app, ("f", "a.jpg", CAT)).status_code == 500
        assert list(told[0].failures) == ["127.0.0.1:9"]
        assert nothing_left(replicator, hosts)


@pytest.mark.parametrize(("required", "fatal"), [("majority", True), (2, True), ("all", False)])
def test_enough_hosts_are_enough(
    tmp_path: Path, hosts: Any, required: Any, fatal: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged at ERROR, and the others hold the file."""
    urls = [hosts[0].url, hosts[1].url, "127.0.0.1:9"]
    settings = {"required": required, "fatal_exceptions": fatal}
    with Replicator(media_root=tmp_path / "media", media_hosts=urls, **settings) as replicator:
        response = post(UploadMiddleware(Application(), replicator, publish="on_success"), ("f", "a.jpg", CAT))
        assert response.status_code == 200
        assert [len(held(host)) for host in hosts[:2]] == [1, 1]
    assert [record.levelno for record in caplog.records if record.name == "resto_wsgi"] == [logging.ERROR]


def test_references_replace_the_files_of_declared_fields(replicator: Any, hosts: Any) -> None:
    """The application reads names where the client sent files, and files where it did not declare the field."""
    seen = []

    def look(environ: Any) -> None:
        form = Request(environ).POST
        seen.append((form["title"], form.getall("photo"), form["other"].file.read()))

    application = Application(before=look)
    app = UploadMiddleware(application, replicator, handoff="reference", fields=["photo"])
    post(app, ("title", "Tom"), ("photo", "a.jpg", CAT), ("other", "b.jpg", b"bytes"), ("photo", "", b""))
    assert seen == [("Tom", [application.uploads[0].name, ""], b"bytes")]
    assert CAT not in application.body and b"bytes" in application.body
    assert len(held(hosts[0])) == 2


def test_a_name_cannot_be_forged(replicator: Any, hosts: Any) -> None:
    """Text under a declared field is refused."""
    application = Application()
    app = UploadMiddleware(application, replicator, handoff="reference", fields=["photo"])
    response = post(app, ("f", "a.jpg", CAT), ("photo", "uploads/other.jpg"))
    assert response.status_code == 400 and b"photo" in response.body
    assert application.uploads is None and nothing_left(replicator, hosts)


@pytest.mark.parametrize(
    "change",
    [
        {"REQUEST_METHOD": "post"},
        {"REQUEST_METHOD": "DELETE"},
        {"CONTENT_TYPE": f"multipart/form-data\x0b; boundary={BOUNDARY}"},
        {"CONTENT_TYPE": "application/x-www-form-urlencoded"},
        {"CONTENT_TYPE": "Application/X-WWW-Form-Urlencoded; charset=utf-8"},
    ],
)
def test_a_name_cannot_be_forged_by_another_kind_of_request(replicator: Any, change: dict[str, str]) -> None:
    """Frameworks read forms under any method, and more media types than one."""
    application = Application()
    app = UploadMiddleware(application, replicator, handoff="reference", fields=["photo"])
    body = b"title=x&%70hoto=uploads/other.jpg" if "urlencoded" in str(change).lower() else multipart(("photo", "x"))
    request = Request.blank("/", method="POST", body=body)
    request.content_type = f"multipart/form-data; boundary={BOUNDARY}"
    request.environ.update(change)
    assert request.get_response(app).status_code == 400
    assert application.body == b""


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b"photo=uploads/other.jpg"),
        ("application/x-www-form-urlencoded; charset=utf-7", b"+AHA-hoto=uploads/other.jpg"),
        ("application/x-www-form-urlencoded", b"title=x;photo=uploads/other.jpg"),
        ("application/x-www-form-urlencoded", "größe=uploads/other.jpg".encode()),
    ],
)
@pytest.mark.parametrize("path", ["/photos", "/./photos", "/elsewhere"])
def test_a_name_cannot_be_forged_in_another_kind_of_form(
    replicator: Any, content_type: str, body: bytes, path: str
) -> None:
    """Without a type, in another charset, behind a semicolon, in raw bytes; whatever path a framework takes it for."""
    application = Application()
    keywords = {"handoff": "reference", "fields": ["photo", "größe"], "paths": ["/photos"]}
    request = Request.blank(path, method="POST", body=body)
    request.environ["CONTENT_TYPE"] = content_type
    assert request.get_response(UploadMiddleware(application, replicator, **keywords)).status_code == 400
    assert application.body == b""


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json", "application/octet-stream", "multipart/mixed; boundary=x"]
)
def test_what_is_no_form_passes_and_its_names_lead_nowhere(replicator: Any, content_type: str) -> None:
    """Webhooks and beacons; what Bottle would read as a form there names no upload of this request."""
    seen: list[Any] = []

    def look(environ: Any) -> None:
        seen.append(len(uploads_of(environ)))
        with pytest.raises(KeyError):
            uploads_of(environ)["uploads/other.jpg"]

    application = Application(before=look)
    app = UploadMiddleware(application, replicator, handoff="reference", fields=["photo"])
    request = Request.blank("/", method="POST", body=b"photo=uploads/other.jpg")
    request.content_type = content_type
    assert request.get_response(app).status_code == 200
    assert (seen, application.body) == ([0], b"photo=uploads/other.jpg")


def test_a_name_leads_to_the_upload_of_this_very_request(replicator: Any) -> None:
    """Whatever the parser; a name of an earlier upload, or none, is a KeyError."""
    earlier = Application()
    app = UploadMiddleware(earlier, replicator, handoff="reference", fields=["photo"])
    post(app, ("photo", "a.jpg", CAT))
    seen: list[Any] = []

    def look(environ: Any) -> None:
        value = Request(environ).POST["photo"]
        seen.append((environ["resto.uploads"][value].filename, uploads_of(environ)[value].sha256))
        for forged in (earlier.uploads[0].name, "../x", ""):
            with pytest.raises(KeyError):
                environ["resto.uploads"][forged]

    post(
        UploadMiddleware(Application(before=look), replicator, handoff="reference", fields=["photo"]),
        ("photo", "b.jpg", CAT),
    )
    assert seen == [("b.jpg", hashlib.sha256(CAT).hexdigest())]


def test_a_urlencoded_form_without_declared_fields_passes(replicator: Any) -> None:
    """A site has other forms; their bodies are as they were."""
    application = Application()
    app = UploadMiddleware(application, replicator, handoff="reference", fields=["photo"], max_form_size=100)
    for body, status in ((b"name=tom&photograph=1", 200), (b"", 200), (b"x" * 101, 413)):
        request = Request.blank("/", method="POST", body=body, content_type="application/x-www-form-urlencoded")
        assert request.get_response(app).status_code == status
        assert application.body == (body if status == 200 else b"")


def test_equal_files_that_are_all_refused_leave_nothing(replicator: Any, hosts: Any) -> None:
    """By content they share one name; the second must not put the first back."""
    failing = Application("500 Oops", before=lambda environ: environ["resto.uploads"].publish())
    app = UploadMiddleware(failing, replicator, naming="content")
    post(app, ("f", "a.jpg", CAT), ("g", "b.jpg", CAT))
    assert nothing_left(replicator, hosts)


def test_a_withdrawal_that_fails_is_repeated_and_keeps_none_of_the_others(
    replicator: Any, hosts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors run out once while two published uploads are taken back."""
    whole = type(replicator).withdraw
    failures = [MediaRootError("lock", "x", OSError(24, "Too many open files"))]

    def withdraw(self: Any, publication: Any) -> None:
        if failures:
            raise failures.pop()
        whole(self, publication)

    monkeypatch.setattr(type(replicator), "withdraw", withdraw)
    failing = Application("500 Oops", before=lambda environ: environ["resto.uploads"].publish())
    answer = post(UploadMiddleware(failing, replicator), ("f", "a.jpg", CAT), ("g", "b.jpg", CAT))
    assert answer.status_code == 500 and "Oops" not in answer.text
    assert nothing_left(replicator, hosts)


def test_an_answer_that_no_server_can_send_publishes_nothing(replicator: Any, hosts: Any) -> None:
    """A filename in a header, for instance."""

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("X-Name", "中.jpg")])
        return [b""]

    with pytest.raises(ValueError, match="PEP 3333"):
        post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT))
    assert nothing_left(replicator, hosts)


def test_an_upload_ends_with_its_request(replicator: Any, hosts: Any) -> None:
    """Afterwards it can be neither published nor discarded, and says so."""
    application = Application()
    post(UploadMiddleware(application, replicator, publish="manual"), ("f", "a.jpg", CAT))
    with pytest.raises(RestoError, match="has ended"):
        application.uploads.publish()
    with pytest.raises(RestoError, match="has ended"):
        application.uploads[0].discard()
    assert nothing_left(replicator, hosts)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *(
            (303, [("Location", "/login?next=/photos")]),
            (307, [("Location", "/x")]),
            (401, [("WWW-Authenticate", "Basic")]),
        ),
        *(
            (418, []),
            (422, []),
            (426, [("Upgrade", "TLS/1.3")]),
            (429, [("Retry-After", "9")]),
            (451, []),
            (499, []),
            (599, []),
        ),
    ],
)
@pytest.mark.parametrize("who", ["catch", "authorize", "validate"])
def test_a_refusal_of_the_application_has_its_own_status(
    replicator: Any, who: str, status: int, headers: list[tuple[str, str]]
) -> None:
    """Any from 400 to 599, and those that send the client elsewhere; with its headers, in the form that was asked."""

    def refuse(_: Any) -> bool:
        raise UploadRejected("Not now.", status, headers)

    app = UploadMiddleware(Application(), replicator, **{who: refuse})
    response = post(app, ("f", "a.jpg", CAT), HTTP_ACCEPT="application/json")
    assert response.status_code == status
    assert all(value in response.headers[name] for name, value in headers)
    assert status < 400 or "Not now." in response.json["message"]


@pytest.mark.parametrize(
    ("path", "caught"),
    [
        *(
            ("/photos", True),
            ("/photos/", True),
            ("/photos/1", True),
            ("/photoshop", False),
            ("/photo", False),
            ("/", False),
        ),
        *(("/./photos", True), ("/x/../photos", True), ("//photos", True), ("/%FFphotos", True), ("/a/photos", False)),
    ],
)
def test_paths_are_whole_segments_as_frameworks_read_them(replicator: Any, path: str, caught: bool) -> None:
    """What a framework takes for the path is caught, and no other that only begins alike."""
    application = Application()
    post(UploadMiddleware(application, replicator, paths=["/photos"]), ("f", "a.jpg", CAT), path=path)
    assert (application.uploads is not None) is caught


def test_paths_are_text(replicator: Any) -> None:
    """As a person writes them, not as WSGI carries them."""
    application = Application()
    path = "/größe"
    post(UploadMiddleware(application, replicator, paths=[path]), ("f", "a.jpg", CAT), path="/gr%C3%B6%C3%9Fe/x")
    assert len(application.uploads) == 1


@pytest.mark.parametrize(
    ("naming", "folder", "pattern"),
    [
        ("original", "in/%Y", r"in/20\d\d/a-[a-z0-9]{10}\.jpg"),
        ("random", "", r"[a-z0-9]{20}\.jpg"),
        ("content", "c", "c/" + hashlib.sha256(CAT).hexdigest() + r"\.jpg"),
        ("original", lambda field, _, environ: f"{field}/{environ['REMOTE_USER']}", r"f/tom/a-[a-z0-9]{10}\.jpg"),
    ],
)
def test_naming(replicator: Any, naming: str, folder: Any, pattern: str) -> None:
    """Three ways, under a folder by date or by a callable."""
    import re

    application = Application()
    app = UploadMiddleware(application, replicator, naming=naming, upload_to=folder)
    post(app, ("f", "a.jpg", CAT), REMOTE_USER="tom")
    assert re.fullmatch(pattern, application.uploads[0].name)


@on_every_kind
def test_equal_content_shares_a_name_and_a_failure_leaves_the_first(replicator: Any, hosts: Any) -> None:
    """The second upload of the same bytes fails; the first one was acknowledged and stays."""
    failing = Application("500 Oops", before=lambda environ: environ["resto.uploads"].publish())
    for application in (Application(), failing, Application()):
        post(UploadMiddleware(application, replicator, naming="content"), ("f", "a.jpg", CAT))
    assert [list(found.values()) for found in (files(replicator.settings.media_root), held(hosts[1]))] == [[CAT], [CAT]]


def test_a_callable_folder_cannot_leave_the_root(replicator: Any, hosts: Any) -> None:
    """Whatever an application lets a client choose."""
    app = UploadMiddleware(Application(), replicator, upload_to=lambda field, filename, environ: "../../etc")
    assert post(app, ("f", "a.jpg", CAT)).status_code == 400
    assert nothing_left(replicator, hosts)


@pytest.mark.parametrize(
    "filename",
    ["../../x", "C:\\x", "a\x00b", "...", "", "n" * 300, "CON", "‮gpj.exe", "//evil/x", ".htaccess", "a%0D%0Ab"],
)
def test_hostile_filenames_stay_in_the_root(replicator: Any, hosts: Any, filename: str) -> None:
    """A cleaned name, or 400; always inside the root, on every host."""
    application = Application()
    response = post(UploadMiddleware(application, replicator), ("f", filename, CAT))
    if response.status_code != 200:
        assert response.status_code == 400 and nothing_left(replicator, hosts)
        return
    (upload,) = application.uploads
    inside = files(replicator.settings.media_root)
    assert inside == {upload.name: CAT} == held(hosts[0])
    last = upload.name.rsplit("/", 1)[-1]
    assert upload.name.startswith("uploads/") and upload.name.count("/") == 3
    assert not last.startswith(".") and last.isprintable()


def test_types_and_extensions_that_are_not_allowed_are_refused(replicator: Any, hosts: Any) -> None:
    """415, and what was staged before is gone."""
    app = UploadMiddleware(Application(), replicator, allowed_types=["image/JPEG"], allowed_extensions=[".jpg", "JPEG"])
    assert post(app, ("f", "a.JPG", CAT)).status_code == 200
    assert post(app, ("f", "b.jpg", CAT), ("f", "a.gif", CAT)).status_code == 415
    assert post(app, ("f", "b.jpg", CAT), ("f", "a.jpg", CAT, "text/html")).status_code == 415
    assert len(files(replicator.settings.media_root)) == 1


def test_validate_sees_the_staged_file_and_may_refuse(replicator: Any, hosts: Any) -> None:
    """False is 415; a refusal has its own status; an exception is the application's."""
    seen = []

    def validate(upload: Any) -> bool | None:
        with upload.open() as file:
            seen.append((file.read(), Path(upload.path).read_bytes(), upload.name[:8]))
        if upload.filename == "error.jpg":
            raise LookupError("scanner is away")
        if upload.filename == "virus.jpg":
            raise UploadRejected("Infected.", 422)
        return upload.filename == "fine.jpg"

    app = UploadMiddleware(Application(), replicator, validate=validate)
    assert post(app, ("f", "no.jpg", CAT)).status_code == 415
    response = post(app, ("f", "fine.jpg", CAT), ("f", "virus.jpg", CAT))
    assert response.status_code == 422 and b"Infected." in response.body
    with pytest.raises(LookupError):
        post(app, ("f", "error.jpg", CAT))
    assert nothing_left(replicator, hosts)
    assert post(app, ("f", "fine.jpg", CAT)).status_code == 200
    assert seen[0] == (CAT, CAT, "uploads/")


def test_limits_are_keywords(replicator: Any, hosts: Any) -> None:
    """413, in the form that the client asked for, with no string of the client in it."""
    app = UploadMiddleware(Application(), replicator, max_file_size=10)
    for kind in ("text/html", "application/json", "text/plain"):
        response = post(app, ("f", "<script>.jpg", CAT), HTTP_ACCEPT=kind)
        assert (response.status_code, response.content_type) == (413, kind)
        assert b"10 bytes" in response.body and b"<script>" not in response.body
    assert nothing_left(replicator, hosts)


def test_a_full_disk_is_507(replicator: Any, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that was written is gone."""

    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resto_wsgi.master.media_root.os.write", full)
    response = post(UploadMiddleware(Application(), replicator), ("f", "a.jpg", CAT))
    assert response.status_code == 507
    monkeypatch.undo()
    assert nothing_left(replicator, hosts)


@pytest.mark.parametrize(("code", "status"), [(28, 507), (5, 500)])
def test_a_disk_that_fails_at_publication_withdraws(
    replicator: Any, hosts: Any, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    """The application said yes, the disk says no."""

    def broken(*args: Any, **where: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", broken)
    assert post(UploadMiddleware(Application(), replicator), ("f", "a.jpg", CAT)).status_code == status
    assert nothing_left(replicator, hosts)


def test_both_names_of_a_file_must_be_allowed(replicator: Any, hosts: Any) -> None:
    """Some frameworks take the filename, some the filename*."""
    app = UploadMiddleware(Application(), replicator, allowed_extensions=["jpg"])
    for names, status in (
        ("a.jpg; filename*=UTF-8''b.jpg", 200),
        ("a.jpg; filename*=UTF-8''b.html", 415),
        ("a.html; filename*=UTF-8''b.jpg", 415),
    ):
        body = f"--x\r\nContent-Disposition: form-data; name=f; filename={names}\r\n\r\nx\r\n--x--".encode()
        request = Request.blank("/", method="POST", body=body, content_type="multipart/form-data; boundary=x")
        assert request.get_response(app).status_code == status
    assert len(held(hosts[0])) == 1


def test_a_probe_without_a_body_is_answered_by_the_application(replicator: Any) -> None:
    """Of a client that wants to know whether it has to log in; ``authorize`` is asked as for any form."""
    application = Application("401 Unauthorized")
    probe = {"CONTENT_LENGTH": "0", "wsgi.input": io.BytesIO(b"")}
    assert post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT), **probe).status_code == 401
    assert (list(application.uploads), application.body) == ([], b"")
    app = UploadMiddleware(Application(), replicator, authorize=lambda environ: False)
    assert post(app, ("f", "a.jpg", CAT), **probe).status_code == 403


def test_a_client_is_told_what_is_true_of_the_files_alone(tmp_path: Path) -> None:
    """The application may have committed a row: nothing is said of that, and no one is told to send it again."""
    with Replicator(media_root=tmp_path / "media", media_hosts=["127.0.0.1:9"]) as replicator:
        page = post(UploadMiddleware(Application(), replicator), ("f", "a.jpg", CAT), HTTP_ACCEPT="text/plain").text
    assert "None of the files of this request was kept." in page
    assert "Nothing" not in page and "try again" not in page


@pytest.mark.parametrize("show", [True, False])
def test_a_failure_is_logged_with_a_traceback_if_that_is_wanted(
    tmp_path: Path, show: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In the default mode, in which the client gets a 503."""
    with Replicator(media_root=tmp_path / "media", media_hosts=["127.0.0.1:9"], show_traceback=show) as replicator:
        assert post(UploadMiddleware(Application(), replicator), ("f", "a.jpg", CAT)).status_code == 503
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bool(record.exc_info) is show


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"paths": ["/photos"]},
        {"catch": bool},
        {"authorize": bool},
        {"publish": "on_success"},
        {"publish": "manual"},
    ],
)
def test_a_middleware_that_publishes_for_anybody_warns_once_at_start(
    replicator: Any, keywords: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Unless one of the four says that somebody has thought of it."""
    app = UploadMiddleware(Application(), replicator, **keywords)
    post(app, ("f", "a.jpg", CAT))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (0 if keywords else 1)
    assert all("paths, catch, authorize or publish" in each for each in warnings)


def test_an_application_of_another_kind_is_an_error_at_once(replicator: Any) -> None:
    """Not a 500 for each request."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        pass

    for wrong in (asgi, lambda scope, receive, send: None, lambda environ: None, None, "app:application"):
        with pytest.raises(TypeError, match="WSGI"):
            UploadMiddleware(wrong, replicator)


@pytest.mark.parametrize(
    "code", ["import resto_wsgi", "import resto_wsgi.middleware", "from resto_wsgi import UploadMiddleware"]
)
def test_it_can_be_imported_where_warnings_are_errors(code: str) -> None:
    """WebOb imports a module of the standard library that warns."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@on_every_kind
@pytest.mark.parametrize("published", [False, True])
def test_an_application_that_wants_none_of_the_files_discards_all(replicator: Any, hosts: Any, published: bool) -> None:
    """A login page is answered with 200 too."""

    def discard(environ: Any) -> None:
        if published:
            environ["resto.uploads"].publish()
        environ["resto.uploads"].discard()

    response = post(
        UploadMiddleware(Application(before=discard), replicator), ("f", "a.jpg", CAT), ("g", "b.jpg", b"b")
    )
    assert response.status_code == 200
    assert nothing_left(replicator, hosts)


@pytest.mark.parametrize(
    "keywords",
    [
        {"handoff": "copy"},
        {"handoff": "reference"},
        {"fields": ["a"]},
        {"handoff": "reference", "fields": "photo"},
        {"publish": "never"},
        {"naming": "md5"},
        {"paths": "/upload"},
        {"allowed_types": "image/png"},
        {"upload_to": "../%Y"},
        {"upload_to": 7},
        {"max_files": 0},
        {"max_file_size": "1G"},
        {"media_root": "/srv/media"},
        {"unknown": 1},
    ],
)
def test_a_wrong_keyword_is_an_error_at_start(replicator: Any, keywords: dict[str, Any]) -> None:
    """ConfigError, or NameRejected for a folder, never a surprise while serving."""
    from resto_wsgi import NameRejected

    with pytest.raises((ConfigError, NameRejected)):
        UploadMiddleware(Application(), replicator, **keywords)


def test_settings_are_keywords_of_the_middleware(tmp_path: Path) -> None:
    """One line, no replicator of one's own."""
    app = UploadMiddleware(Application(), media_root=tmp_path / "media")
    assert post(app, ("f", "a.jpg", CAT)).status_code == 200
    assert len(files(tmp_path / "media")) == 1
    app.replicator.close()


def test_uploads_are_a_sequence(replicator: Any) -> None:
    """Length, index, slice, iteration, and a repr that tells the name."""
    application = Application()
    post(UploadMiddleware(application, replicator), ("f", "a.jpg", CAT), ("g", "b.jpg", CAT))
    uploads = application.uploads
    assert [upload.field for upload in uploads] == ["f", "g"]
    assert uploads[-1] is uploads[1:][0]
    assert len(uploads) == 2
    assert uploads[0].name in repr(uploads[0])


def test_a_thousand_uploads_cut_short_leave_nothing(replicator: Any, hosts: Any) -> None:
    """Descriptors, temporary files and threads are back where they began."""
    app = UploadMiddleware(Application(), replicator)
    whole = multipart(("title", "x"), ("f", "a.jpg", CAT * 20))
    post(app, ("f", "a.jpg", CAT))  # what is made once is made before the count
    gc.collect()  # what other tests have left to it is not ours to count
    before = len(os.listdir("/proc/self/fd")), threading.active_count(), files(replicator.settings.media_root)
    for at in range(1000):
        request = Request.blank("/", method="POST")
        request.environ["wsgi.input"] = io.BytesIO(whole[: 300 + at * 90])
        request.content_type = f"multipart/form-data; boundary={BOUNDARY}"
        request.environ["CONTENT_LENGTH"] = str(len(whole))
        assert request.get_response(app).status_code == 400
    assert (len(os.listdir("/proc/self/fd")), threading.active_count(), files(replicator.settings.media_root)) == before


@on_every_kind
def test_a_request_that_ends_waits_for_a_publication_in_a_thread_of_the_application(
    replicator: Any, hosts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the thread was told is published is whole; its staged file is not removed under it."""
    began, real, raised = threading.Event(), Replicator.publish, []

    def slow(*args: Any, **keywords: Any) -> Any:
        began.set()
        threading.Event().wait(0.2)  # the request ends meanwhile
        return real(*args, **keywords)

    def publish() -> None:
        try:
            application.uploads.publish()
        except RestoError as error:
            raised.append(error)

    def begin(environ: Any) -> None:
        thread.start()
        assert began.wait(10)

    monkeypatch.setattr(Replicator, "publish", slow)
    thread, application = threading.Thread(target=publish), Application(before=begin)
    post(UploadMiddleware(application, replicator, publish="manual"), ("photo", "cat.jpg", CAT))
    thread.join(10)
    assert raised == []
    assert files(replicator.settings.media_root) == {application.uploads[0].name: CAT} == held(hosts[0])


FORKED = """
    import io, json, os, sys
    from pathlib import Path
    from webob import Request
    from resto_wsgi import RestoError, UploadMiddleware
    root, how, early, size = sys.argv[1], sys.argv[2], sys.argv[3] == "early", int(sys.argv[4])

    def application(environ, start_response):
        uploads = environ["resto.uploads"]
        if early:
            uploads.publish()
        child = os.fork()
        if not child:
            for change in uploads[0].discard, uploads.publish:
                try:
                    change()
                    os._exit(1)
                except RestoError as error:
                    if "belongs to the process" not in str(error):
                        os._exit(2)
            if how == "exit":
                sys.exit()
            start_response(how, [])
            return [b""]
        assert os.waitpid(child, 0)[1] == 0
        start_response("200 OK", [])
        return [uploads[0].name.encode()]

    app = UploadMiddleware(application, media_root=root, background=False)
    head = b'--b\\r\\nContent-Disposition: form-data; name="f"; filename="f"\\r\\n\\r\\n'
    body = head + b"x" * size + b"\\r\\n--b--\\r\\n"
    request = Request.blank("/", method="POST", body=body, content_type="multipart/form-data; boundary=b")
    parent = os.getpid()
    try:
        response = request.get_response(app)
        name = response.text
    finally:
        if os.getpid() != parent:
            os._exit(0)
    path = Path(root, name)
    print(json.dumps([response.status_code, path.is_file() and path.stat().st_size]))
"""


@pytest.mark.parametrize("size", [100, 200_000], ids=["in memory", "staged"])
@pytest.mark.parametrize("early", ["early", "late"])
@pytest.mark.parametrize("how", ["exit", "400 Bad Request", "200 OK"])
def test_what_a_child_of_the_application_does_is_not_the_end_of_the_request(
    tmp_path: Path, how: str, early: str, size: int
) -> None:
    """It neither withdraws what its parent has published, nor removes or publishes what its parent has staged."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKED), tmp_path / "media", how, early, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [200, size]


ASCII = """
    import io, locale, os, sys
    from webob import Request
    from resto_wsgi import UploadMiddleware
    assert sys.getfilesystemencoding() != "utf-8", "the test needs a locale without UTF-8"

    def application(environ, start_response):
        (upload,) = environ["resto.uploads"]
        with upload.open() as file, open(upload.path, "rb") as same:
            assert file.read() == same.read()
        upload_names.append(upload.name)
        environ["resto.uploads"].publish()
        with open(upload.path, "rb") as published:
            assert len(published.read()) == size
        start_response("200 OK", [])
        return [b""]

    upload_names, root, size = [], sys.argv[1], int(sys.argv[2])
    app = UploadMiddleware(application, media_root=root, background=False, fsync=False, publish="on_success")
    head = b'--b\\r\\nContent-Disposition: form-data; name="f"; filename="na\\xc3\\xafve.txt"\\r\\n\\r\\n'
    body = head + b"x" * size + b"\\r\\n--b--\\r\\n"
    request = Request.blank("/", method="POST", body=body, content_type="multipart/form-data; boundary=b")
    assert request.get_response(app).status_code == 200
    sys.stdout.buffer.write(upload_names[0].encode())
"""


@pytest.mark.parametrize("size", [100, 200_000], ids=["in memory", "staged"])
def test_a_name_is_utf_8_on_the_disk_whatever_the_locale(tmp_path: Path, size: int) -> None:
    """As with uWSGI without LANG: the file has its name, and the application can open its path."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(ASCII), tmp_path / "media", str(size)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **locale}, timeout=60)
    assert done.returncode == 0, done.stderr
    name = done.stdout.decode()
    assert "/na\xefve-" in name
    assert files(tmp_path / "media") == {name: b"x" * size}


def test_the_first_request_begins_to_migrate_a_folder_that_has_files(media_servers: Any, tmp_path: Path) -> None:
    """Of whatever kind it is: a site that only reads fills its media servers too."""
    servers = media_servers("nginx", 2)
    (tmp_path / "media/a").mkdir(parents=True)
    (tmp_path / "media/a/cat").write_bytes(b"a cat")

    def application(environ: Any, start_response: Any) -> Any:
        start_response("204 No Content", [])
        return []

    app = UploadMiddleware(
        application, media_root=tmp_path / "media", media_hosts=[server.url for server in servers], paths=["/upload"]
    )
    try:
        assert [files(server.root) for server in servers] == [{}, {}], "the constructor starts nothing"
        assert Request.blank("/").get_response(app).status_code == 204
        eventually(lambda: [files(server.root) for server in servers] == [{"a/cat": b"a cat"}] * 2, 20)
    finally:
        app.replicator.close()
