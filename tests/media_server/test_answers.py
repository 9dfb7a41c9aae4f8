"""What a client gets: an answer with all of its body, or a refusal in one line."""

from __future__ import annotations

import dataclasses

import pytest

from resto_wsgi.media_server.answers import JSON, TEXT, Answer, Refused, no_such_file, text_answer, whole_answer


def test_a_whole_answer_says_its_type_and_length() -> None:
    """In octets, before the headers that were given."""
    answer = whole_answer("200 OK", JSON, "[é]".encode(), [("ETag", '"x"')])
    assert answer.headers == [("Content-Type", JSON), ("Content-Length", "4"), ("ETag", '"x"')]
    assert b"".join(answer.body) == "[é]".encode()


def test_a_text_is_one_line() -> None:
    """For people, who see it in a terminal."""
    answer = text_answer("201 Created", "created")
    assert (answer.status, answer.body) == ("201 Created", [b"created\n"])
    assert dict(answer.headers) == {"Content-Type": TEXT, "Content-Length": "8"}


def test_a_refusal_is_answered_with_its_status_reason_and_headers() -> None:
    """The headers are added to those of the text."""
    answer = Refused("405 Method Not Allowed", "only GET", [("Allow", "GET")]).answer()
    assert (answer.status, answer.body) == ("405 Method Not Allowed", [b"only GET\n"])
    assert dict(answer.headers)["Allow"] == "GET"


@pytest.mark.parametrize(("generation", "headers"), [(None, ()), (0, (("Resto-Generation", "0"),))])
def test_what_is_not_here_is_told_with_the_generation_of_its_tombstone(generation: int | None, headers: object) -> None:
    """0 is one."""
    refused = no_such_file(generation)
    assert (refused.status, refused.headers) == ("404 Not Found", headers)


def test_an_answer_is_not_changed_by_whoever_gets_it() -> None:
    """What else has to be said is said in another one."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Answer("200 OK").body = [b"x"]  # type: ignore[misc]
