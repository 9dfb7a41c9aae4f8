"""A Content-Disposition is read as all parsers read it, or refused."""

from __future__ import annotations

import re
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multipart import parse_content_disposition

from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload import disposition
from resto_wsgi.upload.disposition import decoded, filename_of

PIECES = [
    "form-data",
    "; ",
    ";",
    "name=",
    "filename=",
    "filename*=",
    '"',
    "a",
    "x.jpg",
    "\\",
    "%22",
    "utf-8''b",
    " ",
    "\n",
]
HEADERS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
USUAL = st.builds('form-data; name="{}"; filename="{}"'.format, HEADERS, HEADERS) | HEADERS.map(
    "form-data; name=".__add__
)


@given(HEADERS | USUAL)
@example('form-data; name="a"; filename="b\xff"')
@example('form-data; name="a; filename*=x"')
@example('form-data; name="a"; filename="b";')
def test_what_is_usual_at_a_glance_is_read_as_all_else(header: str) -> None:
    """The quick look at what browsers send changes no answer."""
    parsed = parse_content_disposition(header)[2]

    def answer() -> object:
        try:
            return filename_of(header, parsed)
        except UploadRejected as error:
            return str(error)

    quick = answer()
    with mock.patch.object(disposition, "USUAL", re.compile("(?!)")):
        assert answer() == quick


@pytest.mark.parametrize(
    ("header", "parsed", "filename"),
    [
        ('form-data; name="a"', None, None),
        ('form-data; name="a"; filename=""', "", ""),
        ('form-data; name="a"; filename="caf\xc3\xa9"', "caf\xc3\xa9", "caf\xe9"),
        ("form-data; name=a; filename*=utf-8''caf%C3%A9", None, "caf\xe9"),
    ],
)
def test_a_filename_is_read(header: str, parsed: str | None, filename: str | None) -> None:
    """None for a text field, "" for a picker left empty."""
    assert filename_of(header, parsed) == filename


@pytest.mark.parametrize(
    "header", ["", "form-data", 'form-data; name="a"; filename="b"; filename="c"', "attachment; name=a"]
)
def test_what_parsers_read_differently_is_refused(header: str) -> None:
    """Else a file for the application could be a text for us."""
    with pytest.raises(UploadRejected, match="read differently"):
        filename_of(header, "b")


def test_a_header_is_utf_8_or_latin_1() -> None:
    """Every byte is some character, so decoding never fails."""
    assert [decoded(text) for text in (None, "", "\xc3\xa9", "\xe9")] == ["", "", "\xe9", "\xe9"]
