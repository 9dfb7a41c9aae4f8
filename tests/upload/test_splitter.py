"""A body is cut at its delimiters alone, wherever its blocks end, and nothing of it is lost."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from resto_wsgi.errors import UploadRejected
from resto_wsgi.upload.splitter import Kind, Splitter

HEAD = b"Content-Disposition: form-data; name=f; filename=a"
LONGEST = 1000


def split(blocks: list[bytes], boundary: bytes = b"boundary", longest: int = LONGEST) -> list[tuple[Kind, bytes]]:
    """Return what comes of a body in blocks; stretches of one kind that follow each other are one."""
    splitter = Splitter(boundary, longest)
    stretches: list[tuple[Kind, bytes]] = []
    for block in blocks:
        for kind, data in splitter.feed(block):
            if stretches and stretches[-1][0] is kind:
                stretches[-1] = kind, stretches[-1][1] + data
            else:
                stretches.append((kind, data))
    if not splitter.complete:
        raise UploadRejected("The last boundary is missing.")
    return stretches


def outcome(blocks: list[bytes]) -> object:
    try:
        return split(blocks)
    except UploadRejected as error:
        return error.http_status


def part(content: bytes, head: bytes = HEAD) -> bytes:
    return b"--boundary\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


END = b"--boundary--\r\n"


def test_the_stretches_of_a_form_are_told_apart() -> None:
    """Heads, contents and what is around them, in order; an empty content is none."""
    frame, head = b"--boundary\r\n", HEAD + b"\r\n\r\n"
    assert split([b"\r\n" + part(b"one") + part(b"") + END]) == [
        (Kind.FRAME, b"\r\n" + frame),
        (Kind.HEAD, head),
        (Kind.DATA, b"one"),
        (Kind.END, b"\r\n" + frame),
        (Kind.HEAD, head),
        (Kind.END, b"\r\n" + END[:-2]),
        (Kind.FRAME, b"\r\n"),
    ]


# What is near to a delimiter, or a delimiter that some parser would take; each is data for all, or refused.
PLACES = [
    *(b"", b"text", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-", b"--", b"\r\n--", b"\r\n--bound", b"--bound", b"x\r\n-"),
    *(
        b"\r\n--boundarx\r\n",
        b"--boundary",
        b"\n--boundary\n",
        b"\r--boundary\r",
        b"\r\n--boundary",
        b"\r\n--boundaryx",
    ),
    *(
        b"\r\n--boundary \r\n",
        b"\r\n--boundary-\r\n",
        b"\r\n--boundary--",
        b"\r\n--boundary\n",
        b"\r\n\r\n--boundary--\r\n",
    ),
]
BODIES = [
    *(part(b"a" + place + b"b") + part(b"second") + END for place in PLACES),
    *(part(place) + END for place in PLACES),
    *(place + part(b"x") + END for place in PLACES),
    *(part(b"x") + END[:-2] + place for place in PLACES),
    *(part(b"x", HEAD + place) + END for place in PLACES),
    part(b"x")[:-4] + END,
    b"--boundary\r\n\r\n\r\n" + END,
]


@pytest.mark.parametrize("body", BODIES)
def test_it_does_not_matter_where_blocks_end(body: bytes) -> None:
    """At each place of a body, and at each two: the same stretches, or the same refusal; joined they are the body."""
    whole = outcome([body])
    for at in range(1, len(body)):
        assert outcome([body[:at], body[at:]]) == whole, body[at - 9 : at + 9]
    for size in (1, 2, 3, 5, 11):
        cuts = [*range(0, len(body), size), len(body)]
        assert outcome([body[begin:end] for begin, end in pairwise(cuts)]) == whole, size
    if isinstance(whole, list):
        assert b"".join(data for _, data in whole) == body


@pytest.mark.parametrize("place", PLACES[:12])
def test_what_is_no_boundary_is_content(place: bytes) -> None:
    """Line ends, hyphens and the beginnings of a boundary are bytes of a file."""
    assert (Kind.DATA, b"a" + place + b"b") in split([part(b"a" + place + b"b") + END])


@pytest.mark.parametrize("place", [each for each in PLACES if b"--boundary" in each])
def test_a_boundary_inside_of_a_part_is_refused(place: bytes) -> None:
    """Some parser takes each of them for the end of the part."""
    assert outcome([part(b"a" + place + b"b") + END]) == 400


@pytest.mark.parametrize("boundary", [b"-", b"--", b"---", b"a", b"-a", b"a--"])
def test_boundaries_that_are_like_their_surroundings(boundary: bytes) -> None:
    """A delimiter is found at its first byte, however many hyphens it has."""
    body = (part(b"x") + part(b"\r\n") + END).replace(b"boundary", boundary)
    for at in range(1, len(body)):
        stretches = split([body[:at], body[at:]], boundary)
        assert [data for kind, data in stretches if kind is Kind.DATA] == [b"x", b"\r\n"]


@pytest.mark.parametrize("body", [b"", b"--bound", b"--boundary", b"--boundary-", part(b"x"), part(b"x") + END[:-3]])
def test_a_body_that_ends_before_its_last_boundary_is_not_complete(body: bytes) -> None:
    """Whatever came before."""
    assert outcome([body]) == 400


def test_a_head_has_a_limit() -> None:
    """Exactly the limit passes, one byte over is 413, and no more than that is kept."""
    head = HEAD.ljust(LONGEST, b"y")
    assert (Kind.HEAD, head + b"\r\n\r\n") in split([part(b"x", head) + END])
    assert outcome([part(b"x", head + b"y") + END]) == 413
    assert outcome([b"--boundary\r\n" + head, b"yyyy"]) == 413


@pytest.mark.parametrize(
    "piece",
    [b"x", b"\r\n", b"--", b"\r\n--boundar", b"-", b"\r\n--bound\r\n", part(b"")],
    ids=lambda piece: repr(piece)[:20],
)
def test_time_grows_with_the_bytes(piece: bytes) -> None:
    """Four times as many bytes take four times as long, with room for noise; where it is quadratic, sixteen times."""

    def cost(size: int) -> float:
        body = (
            part(b"") + piece * (size // len(piece))
            if piece.startswith(b"--boundary")
            else part(piece * (size // len(piece)))
        )
        blocks = [(body + END)[at : at + 4096] for at in range(0, len(body), 4096)] + [END]
        splitter = Splitter(b"boundary", LONGEST)
        began = time.process_time()
        for block in blocks[:-2]:
            for _ in splitter.feed(block):
                pass
        return time.process_time() - began

    assert min(cost(4 << 20) for _ in range(3)) < 9 * min(cost(1 << 20) for _ in range(3)) + 0.02
