"""Each row of ``docs/forms.rst`` is as it says: the form is taken, and read alike by all parsers, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest
from differences import difference_of, joined, received
from readers import READERS, Refused

from resto_wsgi.config import Limits
from resto_wsgi.errors import UploadRejected
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.upload.request_head import URLENCODED
from resto_wsgi.upload.urlencoded import receive_urlencoded

DOCUMENT = Path(__file__).parents[2] / "docs/forms.rst"
TYPE = "multipart/form-data; boundary=B"
FILE = 'form-data; name="photo"; filename="a+AGI-.jpg"'  # and what some charset or coding makes of it, if it is heeded
CONTENT = b"b=79t"
ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t"}
PARSERS = ("Django", "Werkzeug", "WebOb", "multipart", "python-multipart", "Starlette")


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield section, form, answer and reason of each form of the tables."""
    document = docutils.core.publish_doctree(DOCUMENT.read_text())
    for section in document.findall(docutils.nodes.section):
        for row in section.findall(docutils.nodes.row):
            form, answer, why = row.children
            for literal in form.findall(docutils.nodes.literal):
                yield section.next_node(docutils.nodes.title).astext(), literal.astext(), answer.astext(), why.astext()


def part(disposition: str = FILE, headers: str = "", content: bytes = CONTENT) -> bytes:
    lines = "\r\n".join(filter(None, [headers, f"Content-Disposition: {disposition}"]))
    return b"--B\r\n" + raw(lines) + b"\r\n\r\n" + content + b"\r\n"


def raw(text: str) -> bytes:
    """Return the bytes that are meant: what is no escape is UTF-8."""
    return re.sub(
        rb"\\(r|n|t|x[0-9a-f]{2})",
        lambda found: ESCAPES.get(found[1]) or bytes.fromhex(found[1][1:].decode()),
        text.encode(),
    )


def request_of(section: str, form: str) -> tuple[str, bytes, dict[str, str]]:
    """Return the Content-Type, the body and other variables of the request that has this form in it."""
    end = b"--B--\r\n"
    if section == "The request":
        name, _, value = form.partition(": ")
        if name != "Content-Type":
            return (
                TYPE,
                part() + end,
                {("" if name == "Content-Length" else "HTTP_") + name.upper().replace("-", "_"): value},
            )
        boundary = re.findall(r'boundary ?= ?"([^"]*)"|boundary ?= ?([^;"]*)', value)[-1]
        return value, (part() + end).replace(b"--B", b"--" + "".join(boundary).encode()), {}
    if section == "Around the parts":
        return TYPE, b"PART".join(raw(each) for each in form.split("PART")).replace(b"PART", part()), {}
    if section == "Headers of a part":
        return TYPE, part(headers=form) + end, {}
    if section == "Content-Disposition":
        # A name with \\t or \\to in it is no escape here, where backslashes are what the rows are about.
        return (
            TYPE,
            part().replace(FILE.encode(), form.replace(";\\t", ";\t").replace("\\t=", "\t=").encode()) + end,
            {},
        )
    assert section == "Content"
    return TYPE, part(content=raw(form)) + part('form-data; name="title"', content=raw(form)) + end, {}


ROWS = [each for each in rows() if not each[0].startswith("Other forms")]
OTHERS = [each[1:] for each in rows() if each[0].startswith("Other forms")]


@pytest.mark.usefixtures("parsers")
@pytest.mark.parametrize(
    ("section", "form", "answer", "why"), ROWS, ids=[f"{each[0]}: {each[1]}"[:90] for each in ROWS]
)
def test_a_form_is_taken_or_refused_as_the_table_says(
    root: MediaRoot, section: str, form: str, answer: str, why: str
) -> None:
    """A form that is taken is read alike by each parser; where the reason names some, they do differ."""
    content_type, body, environ = request_of(section, form)
    try:
        received_form = received(root, content_type, body, **environ)
    except UploadRejected as error:
        assert str(error.http_status) == answer, error
        if any(name in why for name in PARSERS) and "older versions" not in why:
            assert len({str(reading(name, body, content_type)) for name in READERS}) > 1
    else:
        assert answer == "taken"
        if environ != {"CONTENT_LENGTH": "0"}:
            assert joined(received_form) == body
            for name in READERS:
                assert difference_of(name, received_form, body, content_type) == "", name
        received_form.discard()


def reading(reader: str, body: bytes, content_type: str) -> object:
    """Return what a parser sees, in a form in which all can be compared."""
    try:
        seen = READERS[reader](body, content_type)
    except Refused:
        return "refused"
    return seen.files, [(field, value.encode() if isinstance(value, str) else value) for field, value in seen.texts]


@pytest.mark.parametrize(("form", "answer", "why"), OTHERS, ids=[each[0] for each in OTHERS])
def test_another_form_is_taken_or_refused_as_the_table_says(form: str, answer: str, why: str) -> None:
    """Where the application finds names of uploads."""
    import io

    environ = {"CONTENT_TYPE": URLENCODED, "CONTENT_LENGTH": str(len(form)), "wsgi.input": io.BytesIO(form.encode())}
    try:
        receive_urlencoded(environ, Limits(), frozenset({"photo"}))
        assert answer == "taken"
    except UploadRejected as error:
        assert str(error.http_status) == answer


def test_the_tables_have_what_they_are_for() -> None:
    """Rows of each kind; a table that is not read would hold nothing."""
    sections = [each[0] for each in ROWS]
    for section in ("The request", "Around the parts", "Headers of a part", "Content-Disposition", "Content"):
        assert {answer for name, _, answer, _ in ROWS if name == section} >= {"taken", "400"}
        assert sections.count(section) > 5
    assert len(OTHERS) > 5
