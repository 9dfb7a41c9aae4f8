"""Where the application finds names of uploads, no other form may hold one that a client chose."""

from __future__ import annotations

import io
import time
import tracemalloc
from typing import Any

import pytest

from resto_wsgi.config import Limits
from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload.urlencoded import receive_urlencoded

FIELDS = frozenset({"photo", "größe"})


def receive(
    body: bytes, limits: Limits | None = None, content_type: str = "application/x-www-form-urlencoded"
) -> bytes:
    environ: dict[str, Any] = {
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return receive_urlencoded(environ, limits or Limits(), FIELDS)


def status(*arguments: Any) -> int:
    with pytest.raises(UploadRejected) as caught:
        receive(*arguments)
    assert str(caught.value).isprintable()
    return caught.value.http_status


@pytest.mark.parametrize(
    "body",
    [
        *(b"photo=x", b"photo", b"a=b&photo=x", b"%70hoto=x", b"pho%74o", b"+photo+=x", b"%20photo=x", b"photo%0A=x"),
        *(b"a=b;photo=x", b"a;photo", b"photo;a=b", b"&;&photo=x", b"photo%ff=x", b"pho\xffto=x", b"photo==x"),
        *("größe=x".encode(), b"gr%C3%B6%C3%9Fe=x", "gr%C3%B6ße=x".encode()),
    ],
)
def test_a_key_of_ours_is_refused_however_it_is_written(body: bytes) -> None:
    """Raw or encoded, in blanks, behind a semicolon, with bytes that are no UTF-8."""
    assert status(body) == 400


@pytest.mark.parametrize(
    "body", [b"", b"a=photo", b"photograph=1", b"a=b;c=d&e=%3Bphoto", b"\xff=\xfe", "größer=x".encode()]
)
def test_another_form_passes_as_it_is(body: bytes) -> None:
    """A site has other forms."""
    assert receive(body) == body
    assert receive(body, None, "") == body


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "ISO-8859-1"])
def test_another_charset_is_refused(charset: str) -> None:
    """In which a key of ours could be written as something else."""
    assert status(b"+AHA-hoto=x", None, f"application/x-www-form-urlencoded; charset={charset}") == 400


def test_a_form_has_limits() -> None:
    """The size of what is kept in memory, and the number of its fields."""
    assert receive(b"a=b&" * 4 + b"c", Limits(max_fields=5)) == b"a=b&" * 4 + b"c"
    assert status(b"a=b&" * 5, Limits(max_fields=5)) == 413
    assert status(b"a=b;" * 5, Limits(max_fields=5)) == 413
    assert status(b"x" * 101, Limits(max_form_size=100)) == 413


def test_a_flood_of_fields_costs_little() -> None:
    """4 MiB of them: less than a tenth of a second, and no memory but that of the body."""
    body = b"a=&" * (4 * 1024**2 // 3 - 1)
    tracemalloc.start()
    began = time.process_time()
    assert status(body) == 413
    assert time.process_time() - began < 0.5
    assert tracemalloc.get_traced_memory()[1] < 24 * 1024**2
    tracemalloc.stop()


def test_a_body_without_a_length_is_empty() -> None:
    """Unless the server knows where it ends."""
    assert receive_urlencoded({"wsgi.input": io.BytesIO(b"photo=x")}, Limits(), FIELDS) == b""
