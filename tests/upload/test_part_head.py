"""The headers of a part are lines that every parser reads alike."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload import part_head
from resto_wsgi.upload.part_head import read_head

TEXT = b"Content-Disposition: form-data; name=f"
FILE = TEXT + b"; filename=a"


def read(head: bytes, **limits: Any) -> Any:
    return read_head(head, **{"max_size": 4096, "max_count": 8, "ascii_only": False, **limits})


def status(head: bytes, **limits: Any) -> int:
    with pytest.raises(UploadRejected) as caught:
        read(head, **limits)
    assert str(caught.value).isprintable()
    return caught.value.http_status


PIECES = st.sampled_from(
    [
        '"',
        "a",
        "b.txt",
        " ",
        "; ",
        "=",
        "\0",
        "\r",
        "\n",
        "\t",
        "\x7f",
        "%22",
        "\\",
        "ä",
        "\udcff",
        ".",
        "text/plain",
        "/",
    ]
)
VALUES = st.lists(PIECES, max_size=4).map("".join)
USUAL = 'Content-Disposition: form-data; name="{}"; filename="{}"\r\nContent-Type: {}'


@given(st.builds(USUAL.format, VALUES, VALUES, VALUES), st.integers(1, 3), st.integers(40, 200), st.booleans())
@example(USUAL.format("a\0", "b", "text/plain"), 8, 4096, False)
@example(USUAL.format("a", "b", "text/plain; charset=utf-7"), 8, 4096, False)
@example(USUAL.format("a", "b", "multipart/mixed; boundary=b"), 8, 4096, False)
@example(USUAL.format("a", "ä", "text/plain"), 8, 4096, True)
@example(USUAL.format("a", "", "text/plain"), 8, 4096, False)
@example(USUAL.format("a", "b", "text/plain"), 1, 4096, False)
def test_what_is_usual_at_a_glance_is_read_as_all_else(head: str, count: int, size: int, ascii_only: bool) -> None:
    """The quick look at a file as browsers send it changes no answer."""

    def answer() -> object:
        try:
            return read_head(
                head.encode("utf-8", "surrogateescape"), max_size=size, max_count=count, ascii_only=ascii_only
            )
        except UploadRejected as error:
            return str(error)

    quick = answer()
    with mock.patch.object(part_head, "USUAL_FILE", re.compile("(?!)")):
        assert answer() == quick


def test_what_the_headers_say() -> None:
    """In any order and case, with or without a blank behind the colon; what nobody acts upon is passed over."""
    head = read(
        b"content-type:Image/PNG; a=b \r\nX_Y: z\r\nContent-Length: 7\r\nCONTENT-DISPOSITION: form-data; name=f"
    )
    assert (head.field, head.filenames, head.type_header) == ("f", (), "Image/PNG; a=b")
    assert (head.content_type, head.length) == ("image/png", 7)
    assert (read(FILE).content_type, read(FILE).length) == ("application/octet-stream", None)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Content-Type: text/plain",
        TEXT + b"\r\n",
        b"\r\n" + TEXT,
        TEXT + b"\r\nno colon",
        TEXT + b"\r\nX Y: z",
        TEXT + b"\r\nX : z",
        TEXT + b"\r\nX\t: z",
        TEXT + b"\r\n: z",
        TEXT + b"\r\n\x0bX: z",
        TEXT + b"\r\nX!Y: z",
        TEXT + "\r\nX-\u212a: z".encode(),  # whose lower case is a k
        TEXT + b"\r\nFrom x@y",
        TEXT + b"\r\n folded",
        TEXT + b"\r\n\tfolded",
        TEXT + b"\r\nX: y\nContent-Type: text/plain",
        TEXT + b"\r\nX: y\rContent-Type: text/plain",
        TEXT + b"\r\nX: \0",
        TEXT + b"\r\nX: \xff",
        TEXT + b"; filename=\xe4",
        TEXT + b"\r\n" + TEXT,
        TEXT + b"\r\nx-y: 1\r\nX-Y: 2",
        TEXT + b"\r\nContent-Length: 07",
        TEXT + b"\r\nContent-Length: +7",
        TEXT + b"\r\nContent-Length: -1",
        TEXT + b"\r\nContent-Length: 1_0",
        TEXT + b"\r\nContent-Length:",
        TEXT + b"\r\nContent-Transfer-Encoding: base64",
        TEXT + b"\r\nContent-Transfer-Encoding: Quoted-Printable",
        TEXT + b"\r\nContent-Transfer-Encoding: x-uuencode",
        TEXT + b'\r\nContent-Transfer-Encoding: "7bit"',
        TEXT + b"\r\nContent-Type: multipart/mixed; boundary=C",
        TEXT + b"\r\nContent-Type: multipart/related",
        TEXT + b"\r\nContent-Type: application/x-www-form-urlencoded",
        FILE + b"\r\nContent-Type: Multipart/Mixed; boundary=C",
        FILE + b"\r\nContent-Type: application/x-www-form-urlencoded",
        FILE + b"\r\nContent-Type: text/plain; charset=utf-7",
        FILE + b"\r\nContent-Type: text/plain; charset=utf-8; CHARSET = utf-16",
        FILE + b'\r\nContent-Type: text/plain; charset="cp037"',
    ],
)
def test_a_head_that_parsers_read_differently_is_refused(head: bytes) -> None:
    """What is a line of it for one is none for another."""
    assert status(head) == 400


@pytest.mark.parametrize(
    "head",
    [
        TEXT + b"\r\nContent-Transfer-Encoding: binary",
        TEXT + b"\r\nContent-Transfer-Encoding: UTF-8",
        TEXT + b"\r\nContent-Type: text/plain; charset=utf-16",
        TEXT + b"\r\nContent-Type:",
        FILE + b"\r\nContent-Type: multipart/related",
        FILE + b'\r\nContent-Type: text/plain; charset="ISO-8859-1"',
        FILE + b"\r\nContent-Type: text/plain; charset=windows-1252",
        TEXT + b"\r\nX: \xc3\xa4 \x0b \t",
    ],
)
def test_what_clients_send_and_parsers_agree_on_is_taken(head: bytes) -> None:
    """Codings that change nothing, charsets of texts, files that are mails."""
    assert read(head).field == "f"


def test_headers_are_ascii_where_the_request_says_so() -> None:
    """By another charset of the request Django decodes the names."""
    assert read(FILE, ascii_only=True).filenames == ("a",)
    assert status(TEXT + b"; filename=\xc3\xa4", ascii_only=True) == 400


def test_headers_have_limits() -> None:
    """In bytes of a line and in number; exactly the limit passes."""
    lines = TEXT + b"\r\nX: " + "ä".encode() * 20
    assert read(lines, max_size=len(TEXT) + 5, max_count=2)
    assert status(lines, max_count=1) == 413
    assert status(TEXT, max_size=len(TEXT) - 1) == 413
