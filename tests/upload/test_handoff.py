"""What the application reads: the client's own bytes, or a form in which every parser sees names where files were."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import django.conf
import multipart
import pytest
import webob.request
from django.conf import UserSettingsHolder, global_settings
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from webob import Request
from webob.compat import cgi_FieldStorage
from werkzeug.formparser import parse_form_data

from resto_wsgi.config import Limits
from resto_wsgi.errors import UploadRejected
from resto_wsgi.master.media_root import MediaRoot, Staged
from resto_wsgi.upload import handoff
from resto_wsgi.upload.form import FilePart, Form, TextPart
from resto_wsgi.upload.handoff import hand_over, referenced
from resto_wsgi.upload.intake import receive

SAFE = "uploads/safe.jpg"
DECLARED = frozenset({"avatar"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaRoot]:
    root = MediaRoot(str(tmp_path_factory.mktemp("media")), fsync=False)
    yield root
    root.close()


@pytest.fixture(scope="module", autouse=True)
def django_settings() -> Iterator[None]:
    """Give Django's parser the default settings, without configuring Django for the tests of other modules."""
    before = django.conf.settings._wrapped
    django.conf.settings._wrapped = UserSettingsHolder(global_settings)
    yield
    django.conf.settings._wrapped = before


def opened(root: MediaRoot) -> int:
    """Count what this process has open of the media root, but for the lock of its room."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(path.startswith(root.root) and not path.endswith(".lock") for path in found)


def environ_of(body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": "multipart/form-data; boundary=b",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }


def received(root: MediaRoot, environ: dict[str, Any]) -> Form:
    return receive(environ, Limits(), root.stage, lambda *_: None)


def part(head: bytes, content: bytes = b"") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def disposition(name: str, filename: str | None = None) -> bytes:
    tail = "" if filename is None else f'; filename="{filename}"'
    return f'Content-Disposition: form-data; name="{name}"{tail}'.encode()


# A body of pieces, against io.BytesIO as the model

# An operation is the name of a method and its arguments; "next" is one step of iteration.
offsets = st.integers(0, 250)
operations = st.lists(
    st.tuples(st.just("read"), st.integers(-1, 120))
    | st.tuples(st.just("readline"), st.integers(-1, 40))
    | st.tuples(st.just("readlines"), st.integers(-1, 60))
    | st.tuples(st.just("seek"), offsets)
    | st.tuples(st.just("seek"), offsets.map(lambda offset: -offset), st.just(io.SEEK_END))
    | st.tuples(st.just("seek"), st.integers(-80, 80), st.just(io.SEEK_CUR))
    | st.tuples(st.sampled_from(["next", "tell", "read", "readline"])),
    max_size=20,
)
chunks = st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"--"]) | st.binary(max_size=30), max_size=5).map(b"".join)


def outcome(file: Any, operation: tuple[Any, ...]) -> Any:
    """Apply an operation, and return what came and where the file is then."""
    name, *arguments = operation
    try:
        answer = next(file, b"") if name == "next" else getattr(file, name)(*arguments)
    except (OSError, ValueError) as error:
        return type(error) if name != "seek" else "refused"
    return answer if name == "seek" else (answer, file.tell())


def model_outcome(model: io.BytesIO, operation: tuple[Any, ...]) -> Any:
    """The same, but that a seek before the beginning is refused, where BytesIO goes to the beginning."""
    name, *arguments = operation
    if name == "seek":
        base = {io.SEEK_SET: 0, io.SEEK_CUR: model.tell(), io.SEEK_END: len(model.getvalue())}[(*arguments, 0)[1]]
        if base + arguments[0] < 0:
            return "refused"
    if name == "readlines":  # BytesIO's own counts the hint otherwise than every other file
        return io.IOBase.readlines(model, *arguments), model.tell()
    return outcome(model, operation)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.sampled_from(["literal", "on disk", "held"]), chunks), max_size=6),
    todo=operations,
    buffer=st.integers(1, 50) | st.just(handoff.BUFFER),
)
def test_a_body_of_pieces_behaves_as_one_file(
    root: MediaRoot, pieces: list[tuple[str, bytes]], todo: list[tuple[Any, ...]], buffer: int
) -> None:
    """Reads, lines, iteration and seeks, in any order and at any offset, give what io.BytesIO gives."""
    model = io.BytesIO(b"".join(content for _, content in pieces))
    holds = {"on disk": 0, "held": 200}
    form = Form(pieces=[content if at not in holds else staged(root, content, holds[at]) for at, content in pieces])
    environ: dict[str, Any] = {}
    with mock.patch.object(handoff, "BUFFER", buffer):
        body = hand_over(environ, [], form.pieces)
    for operation in todo:
        assert outcome(body, operation) == model_outcome(model, operation), operation
        assert opened(root) <= 1  # one staged file at a time
    body.seek(0)
    assert body.read() == model.getvalue()
    assert environ["CONTENT_LENGTH"] == str(len(model.getvalue()))
    body.close()
    form.discard()
    assert opened(root) == 0


def staged(root: MediaRoot, content: bytes, hold: int = 0) -> Staged:
    file = root.stage(hold)
    file.write(content)
    file.seal()
    return file


def test_the_body_is_an_ordinary_one_whatever_was_sent(root: MediaRoot) -> None:
    """A chunked request is handed over with a length, terminated and seekable, and can be read in blocks."""
    environ: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked"}
    form = Form(pieces=[b"abc", staged(root, b"def"), b"ghi"])
    body = hand_over(environ, [], form.pieces)
    assert environ["wsgi.input"] is body
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert (environ["CONTENT_LENGTH"], environ["wsgi.input_terminated"]) == ("9", True)
    assert body.readable() and body.seekable() and not body.writable()
    assert [body.read(4), body.read(4), body.read(4), body.read(4)] == [b"abcd", b"efgh", b"i", b""]
    body.close()
    form.discard()


def test_a_position_before_the_beginning_is_refused(root: MediaRoot) -> None:
    """A seek to a negative position raises and moves nothing."""
    body = hand_over({}, [], [b"abc"])
    body.seek(2)
    with pytest.raises(ValueError, match="negative"):
        body.seek(-4, io.SEEK_END)
    assert body.read() == b"c"


def test_closing_the_body_closes_what_it_had_open(root: MediaRoot) -> None:
    """A body that was read in the middle of a staged file leaves no descriptor when it is closed."""
    form = Form(pieces=[b"a", staged(root, b"b" * 1000)])
    with mock.patch.object(handoff, "BUFFER", 10):
        body = hand_over({}, [], form.pieces)
    assert body.read(5) == b"abbbb"
    assert opened(root) == 1
    body.close()
    body.close()
    assert opened(root) == 0
    form.discard()


# Any form that a client sends

NASTY = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-", b"--", b"\r\n--", b"--\r\n", b"\r\n-", b"b", b"\xff", b"\xc3"]
INNER = b'--x\r\nContent-Disposition: form-data; name="avatar"\r\n\r\nforged\r\n--x--\r\n'
FORGED = [
    INNER,
    b"\r\n" + INNER.replace(b"--x--\r\n", b""),
    b"avatar=forged",
    b"&avatar=forged&",
    b'\n--b\nContent-Disposition: form-data; name="avatar"\n\nforged',
    b'\r--b\rContent-Disposition: form-data; name="avatar"\r\rforged',
    b'--b\r\nContent-Disposition: form-data; name="avatar"\r\n\r\nforged',
    b"\n--b--\n",
]
NESTED = [
    "multipart/mixed; boundary=x",
    'Multipart/Form-Data; boundary="x"',
    "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-Urlencoded; charset=utf-8",
]
PLAIN = ["message/rfc822", "text/plain", "text/plain; charset=utf-8", "application/json", "image/png"]

contents = st.lists(st.sampled_from(NASTY) | st.binary(max_size=12), max_size=8).map(b"".join)
no_delimiter = contents.filter(lambda data: b"--b" not in data)
words = (
    st.text(st.characters(exclude_characters='"\\%&/', exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda word: "".join(filter(str.isprintable, word)) not in ("", ".", ".."))
)


@dataclass
class Seen:
    """What one parser makes of a form: texts by name, and files by name as (filename, content), each in order."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)

    def text(self, name: str, value: str) -> None:
        self.texts.setdefault(name, []).append(value)

    def file(self, name: str, filename: str, content: bytes) -> None:
        if filename:  # parsers do as they like with the others
            self.files.setdefault(name, []).append((filename, content))


def werkzeug_sees(environ: dict[str, Any]) -> Seen:
    seen = Seen()
    _, texts, files = parse_form_data(environ, silent=False)
    for name, value in texts.items(multi=True):
        seen.text(name, value)
    for name, storage in files.items(multi=True):
        seen.file(name, storage.filename or "", storage.stream.read())
        storage.close()
    return seen


class Collector(FileUploadHandler):
    """Keeps each file of Django's parser in memory, under the filename that was sent."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.content = b""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.content += raw_data

    def file_complete(self, file_size: int) -> Any:
        return _Kept(self.file_name, self.content)


@dataclass
class _Kept:
    name: str
    content: bytes

    def close(self) -> None:
        pass


def django_sees(environ: dict[str, Any]) -> Seen:
    seen = Seen()
    texts, files = MultiPartParser(environ, environ["wsgi.input"], [Collector()], "utf-8").parse()
    for name, values in texts.lists():
        for value in values:
            seen.text(name, value)
    for name, kept in files.lists():
        for each in kept:
            seen.file(name, each.name, each.content)
    return seen


def multipart_sees(environ: dict[str, Any]) -> Seen:
    seen = Seen()
    boundary = multipart.parse_options_header(environ["CONTENT_TYPE"])[1]["boundary"]
    for each in multipart.MultipartParser(environ["wsgi.input"], boundary, int(environ["CONTENT_LENGTH"]), strict=True):
        if each.filename is None:
            seen.text(each.name, each.raw.decode("utf-8", "replace"))
        else:
            seen.file(each.name, each.filename, each.raw)
        each.close()
    return seen


def cgi_sees(environ: dict[str, Any]) -> Seen:
    seen = Seen()

    def look(storage: Any) -> None:
        for each in storage.list:
            if each.list is not None:  # parts that it finds inside of a part
                look(each)
            elif each.filename is None:
                seen.text(each.name, each.value)
            else:
                seen.file(each.name, each.filename, each.value)

    look(cgi_FieldStorage(environ["wsgi.input"], environ=environ, keep_blank_values=True, encoding="utf8"))
    return seen


PARSERS = [werkzeug_sees, django_sees, multipart_sees, cgi_sees]


def by_reference(root: MediaRoot, body: bytes, look: Callable[[dict[str, Any], Form], None]) -> None:
    """Receive a body, hand it over in reference mode, and look at the environ; raises UploadRejected."""
    environ = environ_of(body)
    form = received(root, environ)
    try:
        content_type, parts, pieces = referenced(form, DECLARED, lambda _: SAFE)
        environ["CONTENT_TYPE"] = content_type
        with hand_over(environ, parts, pieces):
            look(environ, form)
    finally:
        form.discard()


def seen_by(parser: Callable[[dict[str, Any]], Seen], environ: dict[str, Any]) -> Seen:
    environ["wsgi.input"].seek(0)
    return parser(dict(environ))


@st.composite
def any_part(draw: st.DrawFn, declared: bool = True) -> bytes:
    filename = draw(st.none() | st.just("") | words)
    name = draw(words.map(str.strip).filter(lambda word: word not in ("", "avatar")))
    if declared and filename is not None and draw(st.booleans()):
        name = "avatar"
    lines = [disposition(name, filename)]
    content_type = draw(st.none() | st.sampled_from(PLAIN))
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}".encode())
    content = (contents | st.sampled_from(FORGED)).filter(lambda data: b"--b" not in data)
    return part(b"\r\n".join(lines), b"" if filename == "" else draw(content))


@settings(max_examples=250, deadline=None)
@given(body=st.lists(any_part(), max_size=5).map(b"".join))
def test_every_parser_reads_a_referenced_form_alike(root: MediaRoot, body: bytes) -> None:
    """werkzeug, Django, multipart and cgi find the same fields and files, and our names under the declared field."""

    def look(environ: dict[str, Any], form: Form) -> None:
        ours, django = Seen(), Seen()
        for each in form.parts:
            content = content_of(each)
            if each.field == "avatar":
                content = (SAFE if isinstance(each, FilePart) else "").encode()
            if each.field != "avatar" and isinstance(each, FilePart) and each.filename:
                ours.file(each.field, each.filename, content)
                django.file(each.field, MultiPartParser.sanitize_file_name(None, each.filename) or "", content)
            else:
                if each.field == "avatar" or isinstance(each, TextPart):
                    ours.text(each.field, content.decode("utf-8", "replace"))
                django.text(each.field, content.decode("utf-8", "replace"))  # also a file with an empty filename
        for parser in PARSERS:
            assert seen_by(parser, environ) == (django if parser is django_sees else ours), parser

    by_reference(root, body + b"--b--", look)


def content_of(part: Any) -> bytes:
    """Return the bytes of a part of any kind."""
    if isinstance(part, FilePart):
        with part.staged.open() as opened:
            return opened.read()
    return part.raw if isinstance(part, TextPart) else b""


# Clients that forge names

PARAMETERS = [
    '; name="avatar"',
    "; name=avatar",
    "; NAME='avatar'",
    '; name="x"',
    "; name=x",
    '; name="avatar "',
    '; name=" avatar"',
    '; name="\tavatar"',
    '; name="\xa0avatar"',
    '; name="avatar\u2003"',
    '; name="avatar\x85"',
    '; name="avatar\x00"',
    '; name="avatar\x0b"',
    '; name="<avatar>"',
    "; name=\"'avatar'\"",
    '; name="avatar\\"',
    '; name="ava\\tar"',
    '; name="\\avatar"',
    '; name="x\\"; name=\\"avatar"',
    '; name="x"; name="avatar"',
    '; name="avatar"; name="x"',
    '; name="%22; name=%22avatar"',
    '; name="x%22; name=%22avatar%22; x=%22"',
    '; name="%0D%0Aavatar"',
    '; name="avatar%0D%0A"',
    '; name="x%0d%0a%0d%0a"',
    '; name="%2522avatar"',
    '; name="x; name=avatar"',
    "; name*=utf-8''avatar",
    "; name=x; name*=utf-8''avatar",
    '; name*0="ava"; name*1="tar"',
    '; filename="a"',
    '; filename=""',
    '; filename="%22; name=%22avatar"',
    '; filename="a\\"; name=\\"avatar"',
    '; filename="a\\\\"; name="avatar"',
    '; filename="a\\',
    "; filename=a b; name=avatar",
    "; filename*=utf-8''a%22%3B%20name%3D%22avatar",
    "; filename*=utf-8''%2522%3B%20name%3Davatar%2522",
    "; filename*=utf-8''%0D%0A%0D%0A",
    '; filename*0="a"; filename*1="b"',
    '\r\n ; name="avatar"',
    '\r\n\t; name="ava\r\n tar"',
    '\n; name="avatar"',
    '\r; name="avatar"',
    ' ; name = "avatar"',
    ';name="avatar"',
    ',; name="avatar"',
]
LINES = [
    "X: y",
    "Content-Type: text/plain\nContent-Disposition: form-data; name=avatar",
    "Content-Type: text/plain\rContent-Disposition: form-data; name=avatar",
    'Content-Type: text/plain; name="avatar"',
    "Content-Type: ;multipart/mixed; boundary=x",
    "Content-Type:\t multipart/mixed; boundary=x",
    'Content-Disposition: form-data; name="avatar"',
    'Content-Disposition : form-data; name="avatar"',
    "Content-Transfer-Encoding: base64",
    "Content-Length: 6",
    *(f"Content-Type: {each}" for each in NESTED + PLAIN),
]


@st.composite
def hostile_part(draw: st.DrawFn) -> bytes:
    parameters = draw(st.lists(st.sampled_from(PARAMETERS), min_size=1, max_size=3))
    more = draw(st.lists(st.sampled_from(LINES), max_size=2))
    head = "\r\n".join(["Content-Disposition: form-data" + "".join(parameters), *more])
    encoded = head.encode(draw(st.sampled_from(["utf-8", "latin-1"])), "replace")
    return part(encoded, draw(st.sampled_from([*FORGED, b"forged", b""])))


@settings(max_examples=600, deadline=None)
@given(parts=st.lists(hostile_part(), min_size=1, max_size=2))
@example(parts=[part(disposition("avatar ", None), b"forged")])
@example(parts=[part(disposition("\xa0avatar", None), b"forged")])
@example(parts=[part(disposition("x") + b"\r\nContent-Type: multipart/mixed; boundary=x", INNER)])
@example(parts=[part(disposition("x", "a") + b"\r\nContent-Type: multipart/mixed; boundary=x", INNER)])
@example(parts=[part(disposition("x") + b"\r\nContent-Type: application/x-www-form-urlencoded", b"avatar=forged&")])
def test_no_parser_sees_a_name_that_the_client_chose(root: MediaRoot, parts: list[bytes]) -> None:
    """Whatever the headers and contents, the declared field holds nothing but our names and empty texts."""

    def look(environ: dict[str, Any], form: Form) -> None:
        ours = [SAFE if isinstance(each, FilePart) else "" for each in form.parts if each.field == "avatar"]
        for parser in PARSERS:
            seen = seen_by(parser, environ)
            assert seen.texts.get("avatar", []) == ours, parser
            assert "avatar" not in seen.files, parser
            assert "avatar" not in {name.strip() for name in seen.texts} - {"avatar"}, parser
        assert [each for each in Request(environ).POST.getall("avatar") if each] == [each for each in ours if each]

    # A file after the hostile parts, so that hiding its name is seen as well.
    body = b"".join(parts) + part(disposition("avatar", "last.jpg"), b"last") + b"--b--"
    try:
        by_reference(root, body, look)
    except UploadRejected as error:
        assert error.http_status == 400


@pytest.mark.parametrize(
    "head",
    [
        disposition("avatar"),
        disposition("avatar") + b"\r\nContent-Type: image/png",
        disposition("x") + b'; name="avatar"',
        disposition("avatar "),
        disposition("\xa0avatar"),
        disposition("x "),
        disposition("x%22"),
        disposition("x%0D"),
        disposition("x\\y"),
        disposition("x\x00"),
        disposition("x\x7f", "a.jpg"),
        disposition("x\\y", ""),
    ],
)
def test_a_text_under_a_declared_field_or_an_odd_name_is_refused(root: MediaRoot, head: bytes) -> None:
    """A text where a file belongs, and a field name that parsers read differently, are answered with 400."""
    with pytest.raises(UploadRejected) as caught:
        by_reference(root, part(head, b"forged") + b"--b--", lambda *_: pytest.fail("was handed over"))
    assert caught.value.http_status == 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content_type", [None, *PLAIN])
def test_a_file_under_a_declared_field_becomes_its_name(root: MediaRoot, content_type: str | None) -> None:
    """The file is a text that holds the name, a file under another field stays, an empty picker is an empty text."""
    extra = b"" if content_type is None else f"\r\nContent-Type: {content_type}".encode()
    body = part(disposition("avatar", "a.jpg") + extra, b"bytes") + part(disposition("avatar", ""))
    body += part(disposition("other", "b.jpg") + extra, b"bytes") + part(disposition("t") + extra, b"text") + b"--b--"

    def look(environ: dict[str, Any], form: Form) -> None:
        for parser in PARSERS:
            seen = seen_by(parser, environ)
            assert seen.texts == {"avatar": [SAFE, ""], "t": ["text"]}
            assert seen.files == {"other": [("b.jpg", b"bytes")]}
        assert Request(environ).POST.getall("avatar") == [SAFE, ""]

    by_reference(root, body, look)


@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        ("filename=x; filename*=utf-8''na%C3%AFve%20b.txt", "na\xefve b.txt"),
        ("filename=x; filename*=utf-8''a%22%5C%00%0D%0Ab", "a_____b"),
        ("filename=x; filename*=utf-8''a%2522%250D%250A%2541b", "a_22_0D_0A%41b"),
        ('filename="a%22b"', "a_b"),
        ('filename="a\\"b"', "a_b"),
        ('filename="C:\\dir\\a.txt"', "a.txt"),
    ],
)
def test_a_filename_that_parsers_would_read_differently_is_written_plain(
    root: MediaRoot, parameter: str, filename: str
) -> None:
    """What one parser decodes or unescapes and another does not becomes an underscore; all else is kept."""
    body = part(f'Content-Disposition: form-data; name="other"; {parameter}'.encode(), b"bytes") + b"--b--"

    def look(environ: dict[str, Any], form: Form) -> None:
        for parser in PARSERS:
            assert seen_by(parser, environ).files == {"other": [(filename, b"bytes")]}, parser

    by_reference(root, body, look)


def test_a_content_type_is_kept_for_the_application(root: MediaRoot) -> None:
    """A part's Content-Type is passed on with its parameters, unless parsers would look into the part for it."""
    head = disposition("doc") + b"\r\nContent-Type: "
    body = (
        part(head + b"application/json; v=2", b"{}")
        + part(disposition("mail", "a.mht") + b"\r\nContent-Type: multipart/related", b"mail")
        + b"--b--"
    )

    def look(environ: dict[str, Any], form: Form) -> None:
        content = environ["wsgi.input"].read()
        assert b"\r\nContent-Type: application/json; v=2\r\n\r\n{}\r\n" in content
        assert content.count(b"Content-Type") == 1

    by_reference(root, body, look)


def test_the_boundary_is_one_that_no_client_can_foresee(root: MediaRoot) -> None:
    """Two equal forms are written with two boundaries, each of 128 random bits."""
    types = [referenced(Form(), DECLARED, lambda _: SAFE)[0] for _ in range(2)]
    assert types[0] != types[1]
    assert all(len(each.partition("boundary=resto-")[2]) == 32 for each in types)


# WebOb


@st.composite
def webob_part(draw: st.DrawFn) -> bytes:
    filename = draw(st.none() | words)
    head = disposition(draw(words | st.sampled_from(["a", "b"])), filename)
    if filename is not None or draw(st.booleans()):
        head += b"\r\nContent-Type: " + draw(st.sampled_from([b"text/plain", b"image/png", b"application/json"]))
    elif draw(st.booleans()):
        return part(disposition("a", ""))
    return part(head, draw(no_delimiter))


def items_of(form: Any) -> list[Any]:
    """A WebOb form as plain values."""
    return [
        (name, value if isinstance(value, str | bytes) else (value.name, value.filename, value.type, value.value))
        for name, value in form.items()
    ]


def exploding(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("cgi was called to parse again")


@settings(max_examples=150, deadline=None)
@given(body=st.lists(webob_part(), max_size=5).map(b"".join), reference=st.booleans())
def test_webob_has_the_form_without_parsing_again(root: MediaRoot, body: bytes, reference: bool) -> None:
    """Request.POST equals what cgi would have given, in both modes, and cgi is not called for it."""
    body += b"--b--\r\n"
    environ = environ_of(body)
    form = received(root, environ)
    parts, pieces = form.parts, form.pieces
    if reference:
        if any(each.field != each.field.strip() for each in parts):
            form.discard()
            return
        environ["CONTENT_TYPE"], parts, pieces = referenced(form, frozenset({"no such field"}), lambda _: SAFE)
    with hand_over(environ, parts, pieces):
        plain = Request({key: value for key, value in environ.items() if not key.startswith("webob.")})
        parsed = plain.POST
        expected = items_of(parsed)
        for each in parsed.values():
            if not isinstance(each, str | bytes):
                each.file.close()
        environ["wsgi.input"].seek(0)
        with mock.patch.object(webob.request, "cgi_FieldStorage", exploding):
            assert items_of(Request(environ).POST) == expected
            if not reference:
                assert Request(environ).body == body
                assert items_of(Request(environ).POST) == expected  # also after the body was read
    form.discard()


def test_webob_would_have_called_cgi_without_us() -> None:
    """What the tests here replace is what WebOb calls."""
    request = Request(environ_of(part(disposition("a"), b"x") + b"--b--"))
    with mock.patch.object(webob.request, "cgi_FieldStorage", exploding), pytest.raises(AssertionError, match="again"):
        assert request.POST


def test_webobs_file_is_what_its_users_know(root: MediaRoot) -> None:
    """A file is a FieldStorage with file, filename, type and value, opened only when it is looked at."""
    head = disposition("photo", "na\xefve.png") + b"\r\nContent-Type: image/png; a=b"
    environ = environ_of(part(head, b"line 1\nline 2") + part(disposition("photo", "")) + b"--b--")
    form = received(root, environ)
    body = hand_over(environ, form.parts, form.pieces)
    value, empty = Request(environ).POST.getall("photo")
    assert opened(root) == 0
    assert isinstance(value, cgi_FieldStorage)
    assert (value.name, value.filename, value.type, value.length) == ("photo", "na\xefve.png", "image/png", 13)
    assert (value.headers["Content-Type"], value.headers["content-type"]) == ("image/png; a=b", "image/png; a=b")
    assert value.file.readline() == b"line 1\n"
    assert value.value == b"line 1\nline 2"
    assert list(value.file) == [b"line 1\n", b"line 2"]
    assert empty == b""
    body.close()
    environ.clear()
    del value, body
    assert opened(root) == 0
    form.discard()
