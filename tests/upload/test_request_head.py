"""What a request says of its body is read as all parsers read it, or refused before a byte is read."""

from __future__ import annotations

from typing import Any

import pytest

from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload.request_head import content_length, media_type, read_form_head, refuse_charset


def read(content_type: str, **environ: Any) -> Any:
    return read_form_head({"CONTENT_TYPE": content_type, "CONTENT_LENGTH": "5", **environ})


def refusal(content_type: str, **environ: Any) -> UploadRejected:
    with pytest.raises(UploadRejected) as caught:
        read(content_type, **environ)
    return caught.value


# Every character that is allowed; of the unquoted ones those of tokens (RFC 9110), since Werkzeug ends at others.
TOKEN = "!#$%&'*+-.^_`|~09azAZ"
QUOTED = TOKEN + "(),/:=? "


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("character", QUOTED)
def test_a_boundary_of_every_character_is_taken_if_all_parsers_take_it(character: str, quote: str) -> None:
    """WebTest's end in a dollar sign, Android's are asterisks."""
    boundary = f"a{character}b"
    content_type = f"multipart/form-data; boundary={quote}{boundary}{quote}"
    if quote or character in TOKEN:
        assert read(content_type).boundary == boundary.encode()
    else:
        assert refusal(content_type).http_status == 400


@pytest.mark.parametrize("boundary", ["*****", "----a_BoUnDaRy0$", "x" * 70, "'", "=?", "a=b; x"[:3]])
def test_the_boundaries_of_clients_are_taken(boundary: str) -> None:
    """Quoted, they may hold what no token does."""
    assert read(f'multipart/form-data;boundary="{boundary}"').boundary == boundary.encode()


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "; ",
        "; boundary",
        "; boundary=",
        '; boundary=""',
        "; boundary=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        '; boundary="a "',
        "; boundary=a; boundary=a",
        "; boundary=a; BOUNDARY=b",
        "; boundary=a; boundary*=utf-8''b",
        "; boundary*=utf-8''a",
        '; boundary*0="a"; boundary*1="b"',
        '; x="; boundary=b"; boundary=a',
        '; boundary="a\\"b"',
        '; boundary="a;b"',
        '; boundary="aé"',
        '; boundary="a\x00b"',
        '; boundary="a\tb"',
        "; boundary=a%22b",
        '; boundary="a',
        "; boundary = a",
        "; boundary= a",
        " ; boundary=a",
        "; boundary=a x=y",
        ", boundary=a",
        ";; boundary=a",
        "\t; boundary=a",
        "; boundary=a; x",
        "; boundary=a; charset=utf-7",
        "; boundary=a; charset=utf-16",
        "; boundary=a; charset=",
        "2; boundary=a",
    ],
)
def test_a_content_type_that_parsers_read_differently_is_refused(parameters: str) -> None:
    """Who takes another boundary reads another form."""
    assert refusal(f"multipart/form-data{parameters}").http_status == 400


@pytest.mark.parametrize("content_type", ["Multipart/Form-Data", "multipart/mixed", "multipart/form-datax"])
def test_only_the_type_as_everybody_writes_it_is_read(content_type: str) -> None:
    """Django and cgi do not know it in capitals."""
    assert refusal(f"{content_type}; boundary=a").http_status == 400


@pytest.mark.parametrize(
    ("charset", "ascii_only"),
    [("utf-8", False), ('"UTF-8"', False), ("utf8", False), ("ISO-8859-1", True), ("us-ascii", True)],
)
def test_a_charset_says_how_the_headers_are_read(charset: str, ascii_only: bool) -> None:
    """Apache's HttpClient 5 announces ISO-8859-1, and sends ASCII."""
    assert read(f"multipart/form-data; charset={charset}; boundary=a").ascii_only is ascii_only
    assert read("multipart/form-data; boundary=a; ").ascii_only is False


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x"])
def test_a_body_that_is_encoded_is_refused_by_name(coding: str) -> None:
    """With what we would take (RFC 9110, section 15.5.16)."""
    error = refusal("multipart/form-data; boundary=a", HTTP_CONTENT_ENCODING=coding)
    assert (error.http_status, error.headers) == (415, (("Accept-Encoding", "identity"),))
    assert "Content-Encoding" in str(error)
    assert read("multipart/form-data; boundary=a", HTTP_CONTENT_ENCODING=" Identity ")


def test_the_media_type_is_what_the_laxest_reader_takes() -> None:
    """Without parameters and what is white for Django."""
    types = ["Multipart/Form-Data\x0b; boundary=x", "\xa0text/plain", "", "a;b"]
    assert [media_type({"CONTENT_TYPE": each}) for each in types] == ["multipart/form-data", "text/plain", "", "a"]


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({"CONTENT_LENGTH": "0"}, 0),
        ({"CONTENT_LENGTH": "17"}, 17),
        ({"wsgi.input_terminated": True}, None),
        ({"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "Chunked", "wsgi.input_terminated": True}, None),
        ({}, 411),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 411),
        ({"CONTENT_LENGTH": "17", "HTTP_TRANSFER_ENCODING": "chunked"}, 400),
        ({"CONTENT_LENGTH": "+17"}, 400),
        ({"CONTENT_LENGTH": "9" * 19}, 400),
    ],
)
def test_the_length_is_what_was_announced(environ: dict[str, Any], answer: int | None) -> None:
    """None if the server ends the body; a status if nobody says where it ends, or two do."""
    try:
        assert content_length(environ) == answer
    except UploadRejected as error:
        assert error.http_status == answer


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        ("", True),
        ("application/x-www-form-urlencoded", True),
        ("application/x-www-form-urlencoded; charset=UTF-8", True),
        ('application/x-www-form-urlencoded; charset="utf8"', True),
        ("application/x-www-form-urlencoded; charset=utf-7", False),
        ("application/x-www-form-urlencoded; charset=utf-8; charset=utf-16", False),
        ("application/x-www-form-urlencoded; CHARSET = iso-8859-1", False),
        ("application/x-www-form-urlencoded; charset*=utf-8''utf-7", False),
    ],
)
def test_a_charset_of_another_form_must_be_utf_8(content_type: str, taken: bool) -> None:
    """Django reads its keys by it."""
    try:
        refuse_charset({"CONTENT_TYPE": content_type})
        assert taken
    except UploadRejected as error:
        assert not taken and error.http_status == 400
