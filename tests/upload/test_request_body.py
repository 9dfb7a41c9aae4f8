"""A body is read as announced, in blocks, within its limits."""

from __future__ import annotations

import io
from typing import Any

import pytest

from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload.request_body import BLOCK_SIZE, RequestBody, in_words


def body(data: bytes, length: int | None, **limits: Any) -> RequestBody:
    given = {"max_size": 10**9, "max_seconds": 60.0, "clock": lambda: 0.0, **limits}
    return RequestBody(io.BytesIO(data), length, **given)


@pytest.mark.parametrize("size", [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 7])
@pytest.mark.parametrize("known", [True, False])
def test_a_body_comes_in_whole_blocks(size: int, known: bool) -> None:
    """Only the last one is short; then there is nothing."""
    data = bytes(range(256)) * (size // 256 + 1)
    reader = body(data[:size], size if known else None)
    blocks = list(iter(reader.read, b""))
    assert b"".join(blocks) == data[:size]
    assert all(len(block) == BLOCK_SIZE for block in blocks[:-1])
    assert reader.read() == b""


def test_no_more_is_read_than_was_announced() -> None:
    """What follows is the next request's."""
    assert body(b"this that", 4).read() == b"this"


@pytest.mark.parametrize(("length", "limit", "status"), [(10, 9, 413), (None, 9, 413), (11, 99, 400)])
def test_a_body_that_is_too_large_or_cut_is_refused(length: int | None, limit: int, status: int) -> None:
    """By what was announced, by what came, or by what did not come."""
    with pytest.raises(UploadRejected) as caught:
        reader = body(b"x" * 10, length, max_size=limit)
        while reader.read():
            pass
    assert caught.value.http_status == status


def test_a_body_has_its_time() -> None:
    """From when it is made to the last byte."""
    times = iter([0.0, 0.0, 61.0])
    with pytest.raises(UploadRejected) as caught:
        body(b"x", 1, clock=lambda: next(times)).read()
    assert caught.value.http_status == 408


@pytest.mark.parametrize(
    ("size", "words"),
    [(1, "1 byte"), (1000, "1,000 bytes"), (2048, "2 KiB"), (1024**2, "1 MiB"), (3 * 1024**3, "3 GiB")],
)
def test_a_size_is_told_as_people_say_it(size: int, words: str) -> None:
    """In the largest unit that holds it exactly."""
    assert in_words(size) == words
