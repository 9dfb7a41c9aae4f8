"""Where a chunked body ends, whatever comes in whichever pieces."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from resto_wsgi.transports.http.headers import end_of_chunks


def chunked(parts: list[bytes], trailers: list[str]) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return body + b"0\r\n" + b"".join(f"{each}: x\r\n".encode() for each in trailers) + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    trailers=st.lists(st.from_regex(r"[A-Za-z]{1,8}", fullmatch=True), max_size=3),
    after=st.binary(max_size=10),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_the_end_of_chunks_does_not_depend_on_how_they_come(
    parts: list[bytes], trailers: list[str], after: bytes, cuts: list[int]
) -> None:
    """In whatever pieces: the end is found where the whole has its end, not before, and not beyond."""
    body = chunked(parts, trailers)
    whole = body + after
    assert end_of_chunks(b"head" + whole, 4) == (4 + len(body), True)
    at = 0
    for cut in sorted({*(cut for cut in cuts if cut < len(body)), len(body)}):
        at, last = end_of_chunks(whole[:cut], at)
        assert last == (cut == len(body))
        assert at <= cut
    assert at == len(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text("0123456789abcdefg;\r\n -x", max_size=60).map(str.encode))
def test_junk_instead_of_chunks_raises_or_waits(junk: bytes) -> None:
    """It never loops, never goes back, and never finds an end beyond what has come."""
    with contextlib.suppress(ValueError):
        at, last = end_of_chunks(junk, 0)
        assert 0 <= at <= len(junk)
        again = end_of_chunks(junk, at)
        assert last or again == (at, False)
