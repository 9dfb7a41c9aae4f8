"""A Content-Disposition is read as all parsers read it, or refused."""

from __future__ import annotations

import re
import time
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload import disposition
from resto_wsgi.upload.disposition import read_disposition

PIECES = [
    *(
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
        "\t",
    ),
    *("&#46;", ".", "ä", "-"),
]
HEADERS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
USUAL = st.builds('form-data; name="{}"; filename="{}"'.format, HEADERS, HEADERS) | HEADERS.map(
    "form-data; name=".__add__
)


@given(HEADERS | USUAL)
@example('form-data; name="a"; filename="b\xff"')
@example('form-data; name="a; filename*=x"')
@example('form-data; name="a"; filename="b";')
@example('form-data; name="a"; filename=""')
@example('form-data; name="a"; filename="b."')
@example('form-data; name="a"')
def test_what_is_usual_at_a_glance_is_read_as_all_else(header: str) -> None:
    """The quick look at what browsers send changes no answer."""

    def answer() -> object:
        try:
            return read_disposition(header)
        except UploadRejected as error:
            return str(error)

    quick = answer()
    with mock.patch.object(disposition, "USUAL", re.compile("(?!)")):
        assert answer() == quick


@pytest.mark.parametrize(
    ("header", "field", "filenames"),
    [
        ('form-data; name="a"', "a", ()),
        ("form-data;name=a;", "a", ()),
        ('form-data; name="a"; filename=""', "a", ("",)),
        ('form-data; name="größe"; filename="café.txt"', "größe", ("café.txt",)),
        ('form-data; name="a"; filename="b%22%0D%0Ac.txt"', "a", ('b"\r\nc.txt',)),
        ('form-data; name="a"; filename="b\\"c.txt"', "a", ('b"c.txt',)),
        ('form-data; name="a"; filename="C:\\dir\\b.txt"', "a", ("b.txt",)),
        ('form-data; name="a"; filename="\\\\server\\dir\\b"', "a", ("b",)),
        ("form-data; name=a; filename=b.txt; filename*=utf-8''caf%C3%A9.txt", "a", ("café.txt", "b.txt")),
        ("form-data; filename*=\"UTF-8''caf%C3%A9.txt\"; name=a; filename=b.txt", "a", ("café.txt", "b.txt")),
        ("form-data; name=a; filename=b; FILENAME*=iso-8859-1'en'caf%E9", "a", ("café", "b")),
        (
            "form-data; name=a; filename=\"=?utf-8?B?w6kudHh0?=\"; filename*=utf-8''%C3%A9.txt",
            "a",
            ("é.txt", "=?utf-8?B?w6kudHh0?="),
        ),
        ("form-data; name=a; size=3", "a", ()),
    ],
)
def test_a_field_and_its_filenames_are_read(header: str, field: str, filenames: tuple[str, ...]) -> None:
    """No filename for a text field, an empty one for a picker left empty, two if both forms are there (RFC 8187)."""
    assert read_disposition(header) == (field, filenames)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "form-data",
        "attachment; name=a",
        "Form-Data; name=a",
        "form-data; filename=b",
        "form-data name=a",
        'form-data; name="a";\tfilename="b"',
        'form-data; name = "a"',
        'form-data; name="a"; filename\t="b"',
        "form-data; name=f; filename=x/y.php",
        "form-data; name=f; filename=a b",
        'form-data; name=f; filename="un',
        "form-data; name=f, filename=x",
        'form-data; name="f"; name="g"',
        "form-data; name=f; filename=a; filename=b",
        "form-data; name=f; filename*0=ca; filename*1=t",
        "form-data; name=f; filename*0*=utf-8''a",
        "form-data; name*=utf-8''f",
        'form-data; name=""',
        'form-data; name=" a"',
        'form-data; name="a\xa0"',
        'form-data; name="a\\b"',
        'form-data; name="a\\"b"',
        'form-data; name=f; filename="a\\"',
        'form-data; name=f; filename="a\\\\"',
        'form-data; name=f; filename="a\\\\"; x="y"',
        'form-data; name=f; filename="a.p\\hp"',
        'form-data; name=f; filename="C:\\a.p\\hp"',
        'form-data; name=f; filename="C:\\"',
        'form-data; name=f; filename="."',
        'form-data; name=f; filename="a/"',
        'form-data; name=f; filename="&#46;&#46;"',
        'form-data; name=f; filename="a&sol;"',
        'form-data; name=f; filename="\x0b"',
        'form-data; name=f; filename="a&#46;php"',
        'form-data; name=f; filename="a.p%22hp"',
        "form-data; name=f; filename*=utf-8''a",
        "form-data; name=f; filename=\"\"; filename*=utf-8''a",
        "form-data; name=f; filename=a; filename*=a",
        "form-data; name=f; filename=a; filename*=punycode''a",
        "form-data; name=f; filename=a; filename*=utf-8''",
        "form-data; name=f; filename=a; filename*=utf-8''%ff",
        "form-data; name=f; filename=a; filename*=utf-8''a(b)",
        "form-data; name=f; filename=a; filename*=utf-8''..",
        "form-data; name=f; filename=a; filename*=utf-8''\"b\"",
        "form-data; name=f; filename=a; filename*=utf-8''%0D%0A",
    ],
)
def test_what_parsers_read_differently_is_refused(header: str) -> None:
    """What is a text or a harmless file for us could be another file for the application."""
    with pytest.raises(UploadRejected, match="read differently") as caught:
        read_disposition(header)
    assert caught.value.http_status == 400 and str(caught.value).isprintable()


@pytest.mark.parametrize("value", ['"\\', " ", "; a=b", "; a", '; a="b"', ";", "; a=", "\\", '\\"', "&#46;", "%22"])
@pytest.mark.parametrize("before", ["form-data; name=a; ", 'form-data; name=a; filename="'])
def test_a_hostile_header_costs_linear_time(before: str, value: str) -> None:
    """Four times the length may cost four times the time, with room for noise; quadratic it is sixteen times."""

    def cost(length: int) -> float:
        header = f"{before}{value * (length // len(value))}\x01"
        began = time.process_time()
        for _ in range(20):
            with pytest.raises(UploadRejected):
                read_disposition(header)
        return time.process_time() - began

    assert min(cost(64_000) for _ in range(3)) < 9 * min(cost(16_000) for _ in range(3))
