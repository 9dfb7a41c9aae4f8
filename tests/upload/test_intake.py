"""A multipart body is received whole, counted on bytes really read, or leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resto_wsgi.config import Limits
from resto_wsgi.errors import MediaRootError, UploadRejected
from resto_wsgi.master.hashing import START
from resto_wsgi.master.media_root import MediaRoot, Staged
from resto_wsgi.upload import intake, request_body
from resto_wsgi.upload.form import EmptyPart, FilePart, Form, TextPart
from resto_wsgi.upload.intake import receive
from resto_wsgi.upload.request_head import media_type

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
END = f"--{BOUNDARY}--\r\n".encode()
MANY = 1024**2  # bytes that follow what is refused, to see that they are not read


class Input:
    """A ``wsgi.input`` that gives at most ``sizes`` bytes, in turn, and counts; ``error`` is raised at its end."""

    def __init__(self, data: bytes, sizes: list[int] | None = None, error: BaseException | None = None) -> None:
        self._data = data
        self._sizes = itertools.cycle(sizes or [len(data) + 1])
        self._error = error
        self.taken = 0

    def read(self, size: int) -> bytes:
        data = self._data[self.taken : self.taken + min(size, next(self._sizes))]
        if not data and self._error is not None:
            raise self._error
        self.taken += len(data)
        return data


def part(head: str | bytes, content: bytes = b"") -> bytes:
    head = head if isinstance(head, bytes) else head.encode()
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def text(name: str, content: bytes = b"text") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', content)


def file(name: str, content: bytes = b"content", filename: str = "a.bin") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"; filename="{filename}"', content)


def environ_of(body: bytes | Input, **changes: Any) -> dict[str, Any]:
    """Return the environ of a POST; a change to None removes a key, and in the names "__" stands for a dot."""
    source = Input(body) if isinstance(body, bytes) else body
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": f"multipart/form-data; boundary={BOUNDARY}",
        "CONTENT_LENGTH": str(len(source._data)),
        "wsgi.input": source,
    }
    environ.update({key.replace("__", "."): value for key, value in changes.items()})
    return {key: value for key, value in environ.items() if value is not None}


def chunked(body: bytes | Input) -> dict[str, Any]:
    return environ_of(body, CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked", wsgi__input_terminated=True)


def joined(form: Form) -> bytes:
    """Read the pieces of a form in order."""
    content = []
    for piece in form.pieces:
        if isinstance(piece, bytes):
            content.append(piece)
        else:
            with piece.open() as opened:
                content.append(opened.read())
    return b"".join(content)


class Room:
    """A media root, and what is open and staged in it."""

    def __init__(self, root: MediaRoot) -> None:
        self.root = root
        self.begun = 0
        root.stage().discard()  # opens the room itself

    def stage(self) -> Staged:
        self.begun += 1
        return self.root.stage()

    def staged(self) -> list[str]:
        walk = os.walk(self.root.path(".resto/staging"))
        return [name for _, _, names in walk for name in names if not name.endswith(".lock")]

    def opened(self) -> list[str]:
        """Return what this process has open of it, but for the lock of the room."""
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [path for path in found if path.startswith(self.root.root) and not path.endswith(".lock")]

    @contextlib.contextmanager
    def left_as_it_was(self) -> Iterator[None]:
        """Check that the block leaves no staged file, no descriptor and no thread."""
        before = threading.enumerate()
        yield
        assert set(threading.enumerate()) <= set(before)
        assert self.staged() == []
        assert self.opened() == []

    def refuses(self, environ: dict[str, Any], limits: Limits | None = None, **more: Any) -> UploadRejected:
        """Receive what must be refused, see that nothing is left, and return why."""
        with self.left_as_it_was(), pytest.raises(UploadRejected) as caught:
            self.receive(environ, limits, **more)
        assert "\n" not in str(caught.value)
        return caught.value

    def receive(self, environ: dict[str, Any], limits: Limits | None = None, **more: Any) -> Form:
        return receive(environ, limits or Limits(), **{"stage": self.stage, "admit": lambda *_: None, **more})


@pytest.fixture(scope="module")
def shared_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    root = MediaRoot(str(tmp_path_factory.mktemp("media")), fsync=False)
    yield Room(root)
    root.close()


@pytest.fixture
def room(shared_room: Room) -> Room:
    shared_room.begun = 0
    assert shared_room.staged() == []
    return shared_room


# Any form

DISPOSITION = 'Content-Disposition: form-data; name="a"'
BOUNDARY_LINE = b"--b"  # of the boundary "b", which contents come near to all the time
NASTY = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-", b"--", b"\r\n--", b"-b", b"b--\r\n", b"\n-b\n", b"\r\n-", b"b"]

contents = (
    st.lists(st.sampled_from(NASTY) | st.binary(max_size=12), max_size=10)
    .map(b"".join)
    .filter(lambda data: BOUNDARY_LINE not in data)
)
characters = st.characters(exclude_characters='"\\%&/', exclude_categories=("Cs", "Cc"))
words = (
    st.text(characters, min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda word: "".join(filter(str.isprintable, word)) not in ("", ".", ".."))
)
# What is sent, and what it means.
marks = [(b"%22%0D%0A-", '"\r\n-'), (b"a; name=x", "a; name=x"), (b"a\tb", "a\tb"), (b"a'b", "a'b")]
quoted = words.map(lambda word: (word.encode(), word)) | st.sampled_from(marks)
types = st.sampled_from([b"", b"text/plain", b"image/PNG", b"Text/Plain; charset=utf-8", b"message/rfc822"])


@dataclass(frozen=True)
class Sent:
    """A part as a client sends it, and the part that must come of it (a FilePart as field, filename, type, content)."""

    wire: bytes
    meant: Any


@st.composite
def sent_parts(draw: st.DrawFn) -> Sent:
    kind = draw(st.sampled_from(["text", "file", "file*", "empty"]))
    name_sent, name = draw(quoted)
    type_sent = draw(types)
    content = b"" if kind == "empty" else draw(contents)
    head = b'Content-Disposition: form-data; name="' + name_sent + b'"'
    filename = ""
    if kind == "file":
        sent, filename = draw(quoted)
        head += b'; filename="' + sent + b'"'
    elif kind == "file*":
        filename = draw(words)
        head += (
            f"; filename=x; filename*={draw(st.sampled_from(['utf-8', 'UTF-8']))}''{quote(filename, safe='')}".encode()
        )
    elif kind != "text":
        head += b'; filename=""'
    lines = [head] + ([b"Content-Type: " + type_sent] if type_sent else [])
    if draw(st.booleans()):
        lines.reverse()
    wire = b"--b\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + content + b"\r\n"
    media_type = type_sent.split(b";")[0].decode().lower() or "application/octet-stream"
    if kind == "text":
        return Sent(wire, TextPart(name, content, type_sent.decode()))
    if kind == "empty":
        return Sent(wire, EmptyPart(name))
    return Sent(wire, (name, filename, media_type, type_sent.decode(), content))


preambles = st.sampled_from([b"", b"\r\n"])
epilogues = st.sampled_from([b"", b"\r\n", b"\r", b"\r\n\r\n"])


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(sent_parts(), max_size=6),
    preamble=preambles,
    epilogue=epilogues,
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    block=st.integers(1, 40) | st.integers(41, 400) | st.just(request_body.BLOCK_SIZE),
    known=st.booleans(),
    hold=st.sampled_from([0, 3, intake.FILE_IN_MEMORY]),
    held=st.sampled_from([0, 10, intake.FILES_IN_MEMORY]),
)
def test_any_form_in_reads_of_any_size_gives_its_bytes_and_its_parts(
    shared_room: Room,
    parts: list[Sent],
    preamble: bytes,
    epilogue: bytes,
    sizes: list[int],
    block: int,
    known: bool,
    hold: int,
    held: int,
) -> None:
    """The pieces joined are the body, each part is what was sent, each staged file has its bytes, size and SHA-256."""
    body = preamble + b"".join(part.wire for part in parts) + b"--b--" + epilogue
    environ = (environ_of if known else chunked)(Input(body, sizes))
    environ["CONTENT_TYPE"] = "multipart/form-data; boundary=b"
    admitted: list[tuple[str, str, str]] = []
    with mock.patch.object(request_body, "BLOCK_SIZE", block), mock.patch.object(intake, "FILES_IN_MEMORY", held):
        form = shared_room.receive(
            environ, admit=lambda *told: admitted.append(told), stage=lambda: shared_room.root.stage(hold)
        )
    try:
        in_memory = [part.staged.size for part in form.files if part.staged.held is not None]
        assert sum(in_memory) <= held and max(in_memory, default=0) <= hold
        assert len(shared_room.staged()) == len(form.files) - len(in_memory)
        assert joined(form) == body
        assert environ["wsgi.input"].taken == len(body)
        assert [as_sent(part) for part in form.parts] == [part.meant for part in parts]
        for each in form.files:
            content = as_sent(each)[-1]
            assert (each.staged.size, each.staged.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert admitted == [
            (each.field, name, each.content_type)
            for each in form.files
            for name in (each.filename, *each.other_filenames)
        ]
        assert len(shared_room.staged()) == len(form.files)
    finally:
        form.discard()
    assert shared_room.staged() == []


def as_sent(part: Any) -> Any:
    if not isinstance(part, FilePart):
        return part
    with part.staged.open() as opened:
        return part.field, part.filename, part.content_type, part.type_header, opened.read()


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(sent_parts(), max_size=4),
    block=st.integers(1, 200),
    cut=st.integers(0, 10**6),
    known=st.booleans(),
)
def test_a_body_cut_anywhere_is_refused_and_leaves_nothing(
    shared_room: Room, parts: list[Sent], block: int, cut: int, known: bool
) -> None:
    """A body that ends before its final boundary is answered with 400, whether its length was announced or not."""
    whole = b"".join(part.wire for part in parts) + b"--b--"
    body = whole[: cut % len(whole)]
    environ = environ_of(body, CONTENT_LENGTH=str(len(whole))) if known else chunked(body)
    environ["CONTENT_TYPE"] = "multipart/form-data; boundary=b"
    with mock.patch.object(request_body, "BLOCK_SIZE", block):
        assert shared_room.refuses(environ).http_status == 400


@settings(max_examples=200, deadline=None)
@given(junk=st.lists(st.sampled_from([*NASTY, b"--b\r\n", DISPOSITION.encode(), b":"]), max_size=12))
def test_junk_is_a_form_or_refused(shared_room: Room, junk: list[bytes]) -> None:
    """Whatever the body holds, the outcome is a form with these very bytes, or UploadRejected with nothing left."""
    body = b"--b\r\n" + b"".join(junk)
    environ = environ_of(body, CONTENT_TYPE="multipart/form-data; boundary=b")
    try:
        form = shared_room.receive(environ)
    except UploadRejected as error:
        assert error.http_status == 400
    else:
        assert joined(form) == body
        form.discard()
    assert shared_room.staged() == []


def test_an_empty_form_is_a_form(room: Room) -> None:
    """A body of the final boundary alone has no parts."""
    form = room.receive(environ_of(END))
    assert (form.parts, form.pieces, form.files) == ([], [END], [])


def test_text_that_is_no_utf_8_is_readable(room: Room) -> None:
    """The value of a text part is its UTF-8, with U+FFFD for the rest; ``raw`` keeps the bytes."""
    (part,) = room.receive(environ_of(text("a", b"caf\xc3\xa9 \xff") + END)).parts
    assert isinstance(part, TextPart)
    assert (part.value, part.raw) == ("caf\xe9 \ufffd", b"caf\xc3\xa9 \xff")


def test_a_field_name_that_speaks_of_a_filename_is_text(room: Room) -> None:
    """What stands inside a quoted name makes no file."""
    form = room.receive(environ_of(text("a; filename*=utf-8''x") + END))
    assert form.parts == [TextPart("a; filename*=utf-8''x", b"text")]


def test_discarding_a_form_twice_is_harmless(room: Room) -> None:
    """Form.discard removes every staged file, and can be repeated."""
    with room.left_as_it_was():
        form = room.receive(environ_of(file("a") + file("b") + END))
        assert len(room.staged()) == 2
        form.discard()
        form.discard()


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        ("multipart/form-data", True),
        ("multipart/form-data; boundary=x", True),
        ("Multipart/Form-Data;boundary=x", True),
        ("multipart/form-data\t; boundary=x", True),
        ("multipart/form-data2", False),
        ("multipart/mixed; boundary=x", False),
        ("application/x-www-form-urlencoded", False),
        ("", False),
    ],
)
def test_only_multipart_form_data_is_ours(content_type: str, answer: bool) -> None:
    """The media type alone decides, in any case, whatever its parameters."""
    assert (media_type({"CONTENT_TYPE": content_type}) == "multipart/form-data") is answer


@pytest.mark.parametrize("content_type", ["multipart/form-data\x0b; boundary=b", "multipart/form-data\xa0; boundary=b"])
def test_a_content_type_that_only_some_take_for_a_form_is_refused(room: Room, content_type: str) -> None:
    """Django strips what others do not, so it must not pass as no form."""
    assert media_type({"CONTENT_TYPE": content_type}) == "multipart/form-data"
    assert room.refuses(environ_of(file("a") + END, CONTENT_TYPE=content_type)).http_status == 400


# Where blocks end

PLACES = {
    "delimiter": file("a", b"x" * 20),
    "text": text("t", b"\r\n--\r\n"),
    "line ends": file("a", b"\r\n\r\n\r\n"),
    "hyphens": file("a", b"-------"),
    "almost a boundary": file("a", f"\r\n--{BOUNDARY[:-1]}\r\n".encode()),
    "empty": file("a", b""),
    "end": END,
    "a boundary inside": file("a", b"y" + END),
    "a false boundary": file("a", f"\r\n--{BOUNDARY} \r\n".encode()),
    "a boundary in a head": text(f"--{BOUNDARY}"),
    "a bare line feed": part(f"{DISPOSITION}\nX: y"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_handed_on_is_what_was_sent_wherever_a_block_ends(room: Room, place: str) -> None:
    """Each place is moved over the end of a block, byte by byte: the same form and bytes, or the same refusal."""
    piece = PLACES[place]
    answers = set()
    for before in range(-1, len(piece) + 2):
        filler = request_body.BLOCK_SIZE - before - len(file("f")) + len(b"content")
        body = file("f", b"x" * filler) + piece + (b"" if piece is END else text("last") + END)
        assert body[request_body.BLOCK_SIZE - before :].startswith(piece)
        try:
            form = room.receive(environ_of(body))
        except UploadRejected as error:
            answers.add(str(error))
        else:
            assert joined(form) == body
            answers.add(str([as_sent(part)[-1] if isinstance(part, FilePart) else part for part in form.parts[1:]]))
            form.discard()
    assert len(answers) == 1


# Malformed bodies


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"no boundary at all", id="no-boundary"),
        pytest.param(text("a"), id="no-final-boundary"),
        pytest.param(file("a") + f"--{BOUNDARY}-".encode(), id="half-a-final-boundary"),
        pytest.param(text("a").replace(b"\r\n", b"\n") + END, id="line-feeds-only"),
        pytest.param(file("a") + text("b").replace(b"\r\n", b"\n") + END, id="line-feeds-in-headers"),
        pytest.param(file("a") + part("Content-Type: text/plain") + END, id="no-disposition"),
        pytest.param(file("a") + f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + END, id="no-headers"),
        pytest.param(part('Content-Disposition: attachment; name="a"') + END, id="not-form-data"),
        pytest.param(part(f"{DISPOSITION}\r\nno colon here") + END, id="no-colon"),
        pytest.param(part(f"{DISPOSITION}\r\nX Y: z") + END, id="no-token-header"),
        pytest.param(part(f" folded\r\n{DISPOSITION}") + END, id="continuation-first"),
        pytest.param(part(f"{DISPOSITION}\r\nContent-Length: 2", b"xyz") + END, id="part-longer"),
        pytest.param(part(f"{DISPOSITION}; filename=a\r\nContent-Length: 9", b"xyz") + END, id="part-shorter"),
        pytest.param(file("a") + f"--{BOUNDARY}x\r\n".encode() + END, id="boundary-goes-on"),
        pytest.param(b"junk" + text("a") + END, id="boundary-not-at-line-start"),
        pytest.param(text("a").replace(b"WebKit", b"Webkit") + END.replace(b"WebKit", b"Webkit"), id="other-boundary"),
        pytest.param(file("a") + part(f"{DISPOSITION}\r\n{DISPOSITION}") + END, id="disposition-twice"),
        pytest.param(part(f"{DISPOSITION}\r\nx-y: 1\r\nX-Y: 2") + END, id="header-twice"),
    ],
)
def test_a_malformed_body_is_refused(room: Room, body: bytes) -> None:
    """Each kind of malformed body is answered with 400 and a line that says what."""
    error = room.refuses(environ_of(body))
    assert error.http_status == 400
    assert str(error)


@pytest.mark.parametrize(
    "encoding",
    ["base64", "BASE64", "quoted-printable", "x-uuencode", '"7bit"', "7bit\r\nContent-Transfer-Encoding: base64"],
)
def test_a_transfer_encoding_of_a_part_is_refused(room: Room, encoding: str) -> None:
    """A part that some parsers would decode and others not is answered with 400, before it is staged."""
    head = f"{DISPOSITION}; filename=x\r\nContent-Transfer-Encoding: {encoding}"
    assert room.refuses(environ_of(part(head, b"eA==") + END)).http_status == 400
    assert room.begun == 0


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "Binary", "binary ", "UTF-8"])
def test_a_transfer_encoding_that_changes_nothing_is_accepted(room: Room, encoding: str) -> None:
    """The encodings that leave the bytes as they are do no harm."""
    head = f"{DISPOSITION}\r\nContent-Transfer-Encoding: {encoding}"
    assert room.receive(environ_of(part(head, b"x") + END)).parts == [TextPart("a", b"x")]


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param("", id="missing"),
        pytest.param("; charset=utf-8", id="another-parameter"),
        pytest.param("; boundary=", id="empty"),
        pytest.param('; boundary=""', id="empty-quoted"),
        pytest.param(f"; boundary={BOUNDARY}; boundary={BOUNDARY}", id="twice"),
        pytest.param(f"; BOUNDARY={BOUNDARY}; boundary=x", id="twice-other-case"),
        pytest.param(f"; boundary={BOUNDARY}; boundary*=utf-8''x", id="and-extended"),
        pytest.param(f"; boundary*=utf-8''{BOUNDARY}", id="extended"),
        pytest.param(f'; boundary*0="{BOUNDARY[:5]}"; boundary*1="{BOUNDARY[5:]}"', id="continued"),
        pytest.param(f'; x="; boundary=y"; boundary={BOUNDARY}', id="inside-another"),
        pytest.param(f"; boundary={'x' * 71}", id="71-characters"),
        pytest.param('; boundary="a\\"b"', id="quote"),
        pytest.param('; boundary="a;b"', id="semicolon"),
        pytest.param('; boundary="a\xe9"', id="non-ascii"),
        pytest.param('; boundary="a\x00b"', id="nul"),
        pytest.param('; boundary="a "', id="space-at-the-end"),
    ],
)
def test_a_boundary_that_parsers_could_read_differently_is_refused(room: Room, parameters: str) -> None:
    """A missing, repeated, extended, overlong or odd boundary is answered with 400, and no byte is read."""
    source = Input(text("a") + END)
    error = room.refuses(environ_of(source, CONTENT_TYPE=f"multipart/form-data{parameters}"))
    assert (error.http_status, source.taken) == (400, 0)


CLIENTS = [
    "----WebKitFormBoundaryrGKCBY7qhFd3TrwA",  # Chrome, Safari
    "----geckoformboundary3b5c1f9a7d",  # Firefox
    "---------------------------735323031399963166993862150",  # older Firefox
    "------------------------d74496d66958873e",  # curl
    "0123456789abcdef0123456789abcdef",  # urllib3, requests
    "BoUnDaRyStRiNg",  # Django's test client
    "boundary",
    "x" * 70,
    "a b'()+_,-./:=?c",
]
FORMS = ["{}; boundary={}", '{};boundary="{}"', "{}; charset=UTF-8; Boundary={}", "{}; boundary={}; a=b"]


@pytest.mark.parametrize(
    ("form", "boundary"), [(form, each) for form in FORMS for each in CLIENTS if " " not in each or '"' in form]
)
def test_the_boundaries_that_clients_send_are_accepted(room: Room, form: str, boundary: str) -> None:
    """Whatever RFC 2046 allows is taken, also where the word boundary is in the boundary."""
    body = (text("a") + END).replace(BOUNDARY.encode(), boundary.encode())
    environ = environ_of(body, CONTENT_TYPE=form.format("multipart/form-data", boundary))
    assert room.receive(environ).parts == [TextPart("a", b"text")]


# Lengths


@pytest.mark.parametrize(
    "length", ["abc", "+5", "-1", "5, 6", "5,5", " 5", "5 ", "0x10", "1_0", "5.0", "\u0665", str(10**20)]
)
@pytest.mark.parametrize("terminated", [None, True])
def test_a_content_length_that_is_no_number_is_refused(room: Room, length: str, terminated: bool | None) -> None:
    """Anything but digits, and a number that no disk holds, is answered with 400, and no byte is read."""
    source = Input(text("a") + END)
    error = room.refuses(environ_of(source, CONTENT_LENGTH=length, wsgi__input_terminated=terminated))
    assert (error.http_status, source.taken) == (400, 0)


@pytest.mark.parametrize("length", ["", None])
def test_a_missing_content_length_is_asked_for(room: Room, length: str | None) -> None:
    """Where neither the client nor the server says where the body ends, 411 asks for a length."""
    source = Input(text("a") + END)
    assert room.refuses(environ_of(source, CONTENT_LENGTH=length)).http_status == 411
    assert source.taken == 0


def test_a_content_length_beside_chunked_is_refused(room: Room) -> None:
    """A request that is chunked and has a length is answered with 400 (RFC 9112, section 6.1)."""
    source = Input(text("a") + END)
    error = room.refuses(environ_of(source, HTTP_TRANSFER_ENCODING="Chunked", wsgi__input_terminated=True))
    assert (error.http_status, source.taken) == (400, 0)


def test_no_more_is_read_than_was_announced(room: Room) -> None:
    """The next request on the connection stays unread."""
    body = file("a") + END
    source = Input(body + b"POST / HTTP/1.1", [7])
    room.receive(environ_of(source, CONTENT_LENGTH=str(len(body)))).discard()
    assert source.taken == len(body)


def test_a_length_of_zero_is_a_form_without_parts(room: Room) -> None:
    """A client that first asks whether it has to log in sends the type of a form and nothing else; nothing is read."""
    source = Input(b"x")
    form = room.receive(environ_of(source, CONTENT_LENGTH="0"))
    assert (form.parts, form.pieces, source.taken) == ([], [], 0)


@pytest.mark.parametrize("missing", [1, 5, 100, 150])
def test_a_body_shorter_than_announced_is_refused(room: Room, missing: int) -> None:
    """A silent short read is answered with 400, also where the form in it is complete."""
    body = file("a", b"x" * 200) + END
    short = Input(body[:-missing], [50])
    error = room.refuses(environ_of(short, CONTENT_LENGTH=str(len(body))))
    assert error.http_status == 400 and f"{len(body) - missing} of {len(body)}" in str(error)
    complete = environ_of(body, CONTENT_LENGTH=str(len(body) + missing))
    assert room.refuses(complete).http_status == 400


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("chunk"), EOFError()])
@pytest.mark.parametrize("make", [environ_of, chunked])
def test_an_input_that_raises_is_a_body_that_ended_early(room: Room, error: Exception, make: Any) -> None:
    """Whatever a server raises for a client that is gone becomes 400, and its cause is kept."""
    environ = make(Input(file("a", b"x" * 200), [50], error))
    if "CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = "1000"
    refusal = room.refuses(environ)
    assert refusal.http_status == 400 and refusal.__cause__ is error


def test_an_interrupt_while_reading_goes_on_with_nothing_left(room: Room) -> None:
    """What is no Exception is not translated, and the staged files are discarded all the same."""
    source = Input(file("a", b"x" * 200) + file("b", b"x" * 200), [50], KeyboardInterrupt())
    with room.left_as_it_was(), mock.patch.object(request_body, "BLOCK_SIZE", 50), pytest.raises(KeyboardInterrupt):
        room.receive(environ_of(source, CONTENT_LENGTH="1000"))
    assert room.begun == 2


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_a_large_file_that_is_cut_leaves_nothing(room: Room, error: BaseException) -> None:
    """Where its hashing has a thread of its own, that ends with the request."""
    large = b"x" * (START + 8 * request_body.BLOCK_SIZE)
    source = Input(file("a", large)[:-9], error=error)
    environ = environ_of(source, CONTENT_LENGTH=str(2 * len(large)))
    with room.left_as_it_was(), pytest.raises((UploadRejected, KeyboardInterrupt)):
        room.receive(environ)
    assert room.begun == 1


@pytest.mark.parametrize("content", [b"\r\n", b"\r\n--", b"\r\n------WebKitFormBoundary7MA4YWxkTrZu0g"])
def test_a_large_file_like_boundaries_is_staged_byte_for_byte(room: Room, content: bytes) -> None:
    """Each of its blocks ends as a boundary begins, and its hashing has a thread of its own."""
    large = content * (1 + (START + 8 * request_body.BLOCK_SIZE) // len(content))
    body = text("before") + file("a", large) + text("after") + END
    with room.left_as_it_was():
        form = room.receive(environ_of(body))
        assert joined(form) == body
        assert form.files[0].staged.sha256 == hashlib.sha256(large).hexdigest()
        form.discard()


# Limits


def head_of(length: int) -> bytes:
    """A part with one header line of exactly ``length`` bytes beside its disposition."""
    return part(f"{DISPOSITION}\r\nX: {'y' * (length - 3)}")


LIMITED = [
    pytest.param("max_file_size", lambda n: file("a", b"x" * n), 1000, id="max_file_size"),
    pytest.param("max_files", lambda n: file("a") * n, 3, id="max_files"),
    pytest.param("max_fields", lambda n: text("a") * n, 3, id="max_fields"),
    pytest.param("max_fields", lambda n: file("a", b"", filename="") * n, 3, id="max_fields-empty-pickers"),
    pytest.param("max_field_size", lambda n: text("a", b"x" * n), 1000, id="max_field_size"),
    pytest.param("max_header_size", head_of, 1000, id="max_header_size"),
    pytest.param(
        "max_header_count",
        lambda n: part("\r\n".join([DISPOSITION, *(f"X-{i}: y" for i in range(n - 1))])),
        4,
        id="max_header_count",
    ),
]


@pytest.mark.parametrize(("name", "parts", "limit"), LIMITED)
@pytest.mark.parametrize("make", [environ_of, chunked])
def test_a_limit_is_accepted_and_one_over_is_refused_without_reading_the_rest(
    room: Room, name: str, parts: Callable[[int], bytes], limit: int, make: Callable[..., Any]
) -> None:
    """Exactly the limit passes; one over is answered with 413 by what was read, and the rest is left unread."""
    limits = Limits(**{name: limit})
    with room.left_as_it_was():
        form = room.receive(make(parts(limit) + END), limits)
        assert joined(form) == parts(limit) + END
        form.discard()
    source = Input(parts(limit + 1) + text("rest", b"r" * MANY) + END)
    assert room.refuses(make(source), limits).http_status == 413
    assert source.taken <= request_body.BLOCK_SIZE


def test_a_file_that_is_too_large_is_cut_off_early(room: Room) -> None:
    """Of a file over the limit, one block more than the limit is read at most."""
    source = Input(file("a", b"x" * MANY) + END, [1000])
    with mock.patch.object(request_body, "BLOCK_SIZE", 4096):
        assert room.refuses(environ_of(source), Limits(max_file_size=10_000)).http_status == 413
    assert 10_000 < source.taken < 10_000 + 2 * 4096


@pytest.mark.parametrize("block", [7, 100, 4096, request_body.BLOCK_SIZE])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(text("a", b"x" * 300) + file("f", b"\r\n--" * 500) + text("b", b"") + END, id="text"),
        pytest.param(b"\r\n" + file("f", b"y" * 500) + END, id="before"),
        pytest.param(file("f", b"\r\n----WebKitFormBoundary" * 50) + END + b"\r\n" * 150, id="after"),
        pytest.param(file("f", b"\r") * 3 + END, id="headers"),
    ],
)
def test_the_form_beside_its_files_is_counted_to_the_byte(room: Room, body: bytes, block: int) -> None:
    """All that is no file's content counts towards ``max_form_size``, however the body is cut."""
    with mock.patch.object(request_body, "BLOCK_SIZE", block):
        form = room.receive(environ_of(body))
        size = len(body) - sum(each.staged.size for each in form.files)
        form.discard()
        room.receive(environ_of(body), Limits(max_form_size=size)).discard()
        assert room.refuses(environ_of(body), Limits(max_form_size=size - 1)).http_status == 413


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(b"--" + BOUNDARY.encode() + b"\r\nX: ", b"\r\n" + END, id="head"),
        pytest.param(text("a")[:-2], b"\r\n" + END, id="text"),
    ],
)
def test_memory_is_bounded_before_the_rest_is_read(room: Room, begin: bytes, end: bytes) -> None:
    """A head or a text that goes on and on is refused soon after the limit."""
    source = Input(begin + b"x" * MANY + end)
    with mock.patch.object(request_body, "BLOCK_SIZE", 4096):
        error = room.refuses(environ_of(source), Limits(max_form_size=10_000, max_field_size=10**9))
    assert error.http_status == 413
    assert source.taken < 10_000 + 2 * 4096


@pytest.mark.parametrize(
    ("limit", "words"),
    [(1000, "1,000 bytes"), (2048, "2 KiB"), (1024**2, "1 MiB"), (1024**2 + 1, "1,048,577 bytes"), (1024**3, "1 GiB")],
)
def test_a_limit_is_told_as_people_say_it(room: Room, limit: int, words: str) -> None:
    """The refusal names the limit in the largest unit that holds it exactly."""
    error = room.refuses(environ_of(Input(b""), CONTENT_LENGTH=str(limit + 1)), Limits(max_total_size=limit))
    assert words in str(error)


def test_a_body_of_exactly_the_total_size_is_accepted(room: Room) -> None:
    """The total size is accepted to the byte, announced or not; one byte over is answered with 413."""
    body = file("a", b"x" * 1000) + END
    for make in (environ_of, chunked):
        room.receive(make(body), Limits(max_total_size=len(body))).discard()
        assert room.refuses(make(body), Limits(max_total_size=len(body) - 1)).http_status == 413


def test_an_announced_size_over_the_limit_is_refused_unread(room: Room) -> None:
    """Where the announced length alone is too much, no byte is read."""
    source = Input(file("a", b"x" * 1000) + END)
    assert room.refuses(environ_of(source), Limits(max_total_size=1000)).http_status == 413
    assert source.taken == 0


def test_a_chunked_body_is_counted_by_the_bytes_that_came(room: Room) -> None:
    """A body without a length is refused at the first read over the limit."""
    source = Input(file("a", b"x" * MANY) + END, [1000])
    assert room.refuses(chunked(source), Limits(max_total_size=10_000)).http_status == 413
    assert 10_000 < source.taken <= 11_000


class Dripping(Input):
    """A client that sends ``rate`` bytes each second, behind a server that returns no fewer than it was asked for."""

    def __init__(self, data: bytes, rate: float) -> None:
        super().__init__(data)
        self.rate = rate

    def now(self) -> float:
        return self.taken / self.rate


def test_a_body_that_takes_too_long_is_refused(room: Room) -> None:
    """Just in time is accepted; the slowest client is found out soon after, and the rest is not read."""
    body = file("a", b"x" * MANY) + END
    quick = Dripping(body, rate=len(body) / 9.99)
    room.receive(environ_of(quick), Limits(max_seconds=10), clock=quick.now).discard()
    for rate in (len(body) / 11, 100.0, 1.0):
        slow = Dripping(body, rate)
        error = room.refuses(environ_of(slow), Limits(max_seconds=10), clock=slow.now)
        assert error.http_status == 408
        assert slow.now() < 10 + max(2, 256 / rate)


# Files that must not be staged, and disks that refuse


def test_admit_is_asked_before_a_file_is_staged(room: Room) -> None:
    """A file that is not admitted is refused as ``admit`` says, and not a byte of it reaches the disk."""
    asked = []

    def admit(field: str, filename: str, content_type: str) -> None:
        asked.append((field, filename, content_type))
        raise UploadRejected("No such files here.", 415)

    head = 'Content-Disposition: form-data; name="caf\xe9"; filename="na\xefve.exe"\r\nContent-Type: Text/X-Odd; a=b'
    source = Input(part(head, b"x" * MANY) + END)
    error = room.refuses(environ_of(source), admit=admit)
    assert (error.http_status, str(error)) == (415, "No such files here.")
    assert asked == [("caf\xe9", "na\xefve.exe", "text/x-odd")]
    assert room.begun == 0 and source.taken <= request_body.BLOCK_SIZE


def test_admit_refuses_the_second_file_and_the_first_is_gone(room: Room) -> None:
    """What was staged before a refusal is discarded."""

    def admit(field: str, filename: str, content_type: str) -> None:
        if filename == "b":
            raise UploadRejected("Not that one.", 415)

    environ = environ_of(file("x", filename="a") + file("x", filename="b") + END)
    assert room.refuses(environ, admit=admit).http_status == 415
    assert room.begun == 1


def test_admit_is_not_asked_of_an_empty_picker_and_of_both_names_of_a_file(room: Room) -> None:
    """What is not allowed may stand in neither filename; content under an empty one is refused."""
    asked: list[tuple[str, str, str]] = []
    both = part("Content-Disposition: form-data; name=b; filename=x.jpg; filename*=UTF-8''%C3%A4.jpg", b"x")
    form = room.receive(environ_of(file("a", b"", filename="") + both + END), admit=lambda *told: asked.append(told))
    assert asked == [("b", "\xe4.jpg", "application/octet-stream"), ("b", "x.jpg", "application/octet-stream")]
    assert [type(each) for each in form.parts] == [EmptyPart, FilePart]
    form.discard()
    assert room.refuses(environ_of(file("a", b"x", filename="") + END)).http_status == 400


class BrokenDisk(Staged):
    """A staged file whose disk refuses at the ``fails``th action: a write, or the seal."""

    def __init__(self, staged: Staged, fails: str) -> None:
        vars(self).update(vars(staged))
        self._fails = fails
        self._same = staged  # else it would be forgotten, and discarded

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._fails == "write" and self.size:
            super().write(data[: len(data) // 2])
            raise MediaRootError("stage", "an upload", OSError(errno.ENOSPC, "No space left on device"))
        super().write(data)

    def seal(self) -> None:
        if self._fails == "seal":
            raise MediaRootError("stage", "an upload", OSError(errno.EIO, "Input/output error"))
        super().seal()


@pytest.mark.parametrize("fails", ["stage", "write", "seal"])
def test_a_disk_that_refuses_is_told_and_leaves_nothing(room: Room, fails: str) -> None:
    """MediaRootError goes on as it is; the file being staged and the ones before it are gone."""

    def stage() -> Staged:
        staged = room.stage()
        if room.begun < 2:
            return staged
        if fails == "stage":
            staged.discard()
            raise MediaRootError("stage", "an upload", OSError(errno.ENOSPC, "No space left on device"))
        return BrokenDisk(staged, fails)

    body = file("a") + file("b", b"x" * 5000) + file("c") + END
    with room.left_as_it_was(), mock.patch.object(request_body, "BLOCK_SIZE", 1000), pytest.raises(MediaRootError):
        room.receive(environ_of(body), stage=stage)
    assert room.begun == 2
