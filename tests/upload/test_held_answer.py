"""An application's answer is held until it is decided; its iterable is closed and ``finish`` called, once each."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from resto_wsgi.upload.held_answer import WRITTEN_IN_MEMORY, HeldAnswer

HEADERS = [("Content-Type", "text/plain")]


class Server:
    """A WSGI server as PEP 3333 describes it, that records what leaves; ``events`` is shared with the other side."""

    def __init__(self) -> None:
        self.status = ""
        self.starts = 0
        self.sent = b""
        self.events: list[Any] = []

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("started twice")
        self.status = status
        self.starts += 1
        return self.write

    def write(self, data: bytes) -> None:
        if not self.sent:
            self.events.append("first byte")
        self.sent += data

    def run(self, application: Any) -> None:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ["QUERY_STRING"] = ""
        answer = application(environ, self.start_response)
        try:
            for part in answer:
                self.write(part)
        finally:
            if hasattr(answer, "close"):
                answer.close()


class Body:
    """An iterable with a ``close()`` that reports itself; ``parts`` may hold an exception, to be raised."""

    def __init__(self, events: list[Any], parts: Iterable[Any], close_error: Exception | None = None) -> None:
        self._events = events
        self._parts = iter(parts)
        self._close_error = close_error

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        if isinstance(part, BaseException):
            raise part
        return part  # type: ignore[no-any-return]

    def close(self) -> None:
        self._events.append("close")
        if self._close_error is not None:
            raise self._close_error


def info(text: str) -> Any:
    """What sys.exc_info() says in an application that caught an error and reports it."""
    return LookupError, LookupError(text), None


def replacement(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("503 Service Unavailable", HEADERS)
    return [b"replaced"]


def serve(server: Server, application: Any, decision: Any = None, validate: bool = True) -> None:
    """Run an application behind a HeldAnswer; ``decision`` is an application, None, or an exception to raise."""

    def decide(code: int) -> Any:
        server.events.append(code)
        if isinstance(decision, BaseException):
            raise decision
        return decision

    def finish(failed: bool) -> None:
        server.events.append("failed" if failed else "finished")

    inner = validator(application) if validate else application

    def held(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return HeldAnswer(environ, start_response, decide, finish).run(inner)

    server.run(validator(held))


@pytest.fixture
def server() -> Server:
    return Server()


# Every shape that an answer may have, with what must arrive. Each takes the events, for its Body to report to.


def a_list(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return [b"one", b"two"]

    return application


def an_empty_list(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return []

    return application


def a_body(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(events, [b"one", b"two"])

    return application


def empty_chunks_first(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(events, [b"", b"", b"one", b"", b"two"])

    return application


def only_empty_chunks(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(events, [b"", b""])

    return application


def a_lazy_generator(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b"one"
        yield b"two"

    return application


def written(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", HEADERS)
        write(b"one")
        write(b"two")
        return Body(events, [])

    return application


def written_then_returned(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", HEADERS)
        write(b"on")
        return Body(events, [b"e", b"two"])

    return application


def written_by_a_generator(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", HEADERS)
        write(b"o")
        yield b"ne"
        write(b"t")
        yield b"wo"

    return application


def corrected_before_the_first_byte(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("500 Internal Server Error", HEADERS)
        start_response("200 OK", HEADERS, info("the first answer was wrong"))
        return Body(events, [b"one", b"two"])

    return application


FULL = [
    a_list,
    a_body,
    empty_chunks_first,
    a_lazy_generator,
    written,
    written_then_returned,
    written_by_a_generator,
    corrected_before_the_first_byte,
]
EMPTY = [an_empty_list, only_empty_chunks]


def without(events: list[Any], *names: str) -> list[Any]:
    return [event for event in events if event not in names]


@pytest.mark.parametrize("shape", FULL + EMPTY)
def test_an_answer_is_decided_before_its_first_byte_and_passed_on_whole(server: Server, shape: Any) -> None:
    """An answer of any shape arrives byte by byte after it was decided, and the request finishes once, at the end."""
    serve(server, shape(server.events))
    assert server.status == "200 OK" and server.starts == 1
    assert server.sent == (b"onetwo" if shape in FULL else b"")
    assert without(server.events, "close", "first byte") == [200, "finished"]
    if shape in FULL:
        assert server.events.index(200) < server.events.index("first byte")
    assert server.events.count("close") <= 1


@pytest.mark.parametrize("shape", FULL + EMPTY)
def test_a_replaced_answer_swallows_all_that_the_application_says(server: Server, shape: Any) -> None:
    """Where the decision is another answer, that one leaves, and nothing of the application's."""
    serve(server, shape(server.events), decision=replacement)
    assert server.status.startswith("503") and server.starts == 1
    assert server.sent == b"replaced"
    assert without(server.events, "close", "first byte") == [200, "finished"]
    assert server.events.count("close") <= 1


@pytest.mark.parametrize("shape", [a_body, empty_chunks_first, only_empty_chunks, written, written_then_returned])
@pytest.mark.parametrize("decision", [None, replacement])
def test_the_applications_iterable_is_closed_once_and_before_the_request_finishes(
    server: Server, shape: Any, decision: Any
) -> None:
    """close() is called exactly once whether the answer is passed on or replaced, and ``finish`` comes after it."""
    serve(server, shape(server.events), decision)
    assert server.events.count("close") == 1
    assert server.events[-2:] == ["close", "finished"]


def test_a_second_close_does_nothing(server: Server) -> None:
    """A server that calls close() twice neither closes nor finishes twice."""
    calls: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(calls, [b"one"])

    answer = HeldAnswer({}, server.start_response, lambda code: None, calls.append).run(application)
    assert calls == []
    answer.close()
    answer.close()
    assert calls == ["close", False]


def test_a_server_that_stops_early_still_closes_and_finishes(server: Server) -> None:
    """Where the client is gone after the first byte, close() and ``finish`` are called once, as not failed."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(server.events, [b"one", b"two"])

    answer = HeldAnswer({}, server.start_response, lambda code: None, server.events.append).run(application)
    assert next(iter(answer)) == b"one"
    answer.close()
    assert server.events == ["close", False]


@pytest.mark.parametrize(("status", "code"), [("200 OK", 200), ("302 Found", 302), ("404 No", 404), ("500 Oops", 500)])
def test_the_decision_is_told_the_status_that_would_leave(server: Server, status: str, code: int) -> None:
    """``decide`` gets the status code as a number."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, HEADERS)
        return [b"x"]

    serve(server, application)
    assert server.events[0] == code and server.status == status


def test_an_error_reported_before_the_first_byte_is_the_answer(server: Server) -> None:
    """start_response with exc_info replaces the held status, which is what is decided, and raises nothing."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b""
        start_response("500 Internal Server Error", HEADERS, info("found out late"))
        yield b"sorry"

    serve(server, application)
    assert (server.status, server.sent) == ("500 Internal Server Error", b"sorry")
    assert server.events == [500, "first byte", "finished"]


def test_an_error_reported_after_the_first_byte_goes_to_the_server(server: Server) -> None:
    """start_response with exc_info after a byte has left reaches the server's, which raises the error."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b"one"
        start_response("500 Internal Server Error", HEADERS, info("too late"))
        yield b"sorry"

    with pytest.raises(LookupError, match="too late"):
        serve(server, application)
    assert (server.status, server.sent) == ("200 OK", b"one")
    assert server.events == [200, "first byte", "finished"]


def test_an_error_reported_after_the_decision_but_before_a_byte_changes_the_answer(server: Server) -> None:
    """A server that has sent nothing yet takes the new status, as PEP 3333 lets it."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b"one"
        write = start_response("500 Internal Server Error", HEADERS, info("just in time"))
        write(b"sorry")

    answer = HeldAnswer({}, server.start_response, lambda code: None, server.events.append).run(application)
    answer._held.clear()  # a server that pulls the first part, and drops it before a byte is sent
    assert list(answer) == []
    assert (server.status, server.sent) == ("500 Internal Server Error", b"sorry")
    answer.close()


@pytest.mark.parametrize("with_info", [False, True])
def test_start_response_after_a_replacement_is_swallowed(server: Server, with_info: bool) -> None:
    """Once the answer is replaced, whatever the application starts or writes reaches nobody."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)(b"x" * (WRITTEN_IN_MEMORY + 1))
        start_response("500 Oops", HEADERS, info("nobody hears") if with_info else None)(b"y")
        return Body(server.events, [b"z"])

    serve(server, application, decision=replacement, validate=False)
    assert (server.starts, server.sent) == (1, b"replaced")
    assert server.events == [200, "first byte", "close", "finished"]


def test_start_response_twice_without_exc_info_is_an_error(server: Server) -> None:
    """A second start_response without exc_info raises, and nothing is decided."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        start_response("201 Created", HEADERS)
        raise NotImplementedError

    with pytest.raises(AssertionError, match="twice without exc_info"):
        serve(server, application, validate=False)
    assert server.events == ["failed"] and not server.status


def test_start_response_twice_after_the_decision_is_left_to_the_server(server: Server) -> None:
    """A second start_response after the answer began is the server's to refuse."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b"one"
        start_response("201 Created", HEADERS)

    with pytest.raises(AssertionError, match="started twice"):
        serve(server, application, validate=False)
    assert server.events == [200, "first byte", "finished"]


@pytest.mark.parametrize("parts", [[], [b""], [b"one"]])
def test_an_answer_without_start_response_is_an_error(server: Server, parts: list[bytes]) -> None:
    """An application that never calls start_response fails, undecided and closed."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return Body(server.events, parts)

    with pytest.raises(AssertionError, match="without calling start_response"):
        serve(server, application, validate=False)
    assert server.events == ["close", "failed"] and not server.status


def raises_at_once(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        raise LookupError("at once")

    return application


def raises_after_starting(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)(b"held")
        raise LookupError("after starting")

    return application


def raises_at_its_first_part(events: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(events, [b"", LookupError("at its first part")])

    return application


def returns_what_is_not_iterable(events: list[Any]) -> Any:
    class Odd:
        def __iter__(self) -> Iterator[bytes]:
            raise LookupError("not iterable")

        def close(self) -> None:
            events.append("close")

    return lambda environ, start_response: Odd()


@pytest.mark.parametrize(
    ("shape", "events"),
    [
        (raises_at_once, ["failed"]),
        (raises_after_starting, ["failed"]),
        (raises_at_its_first_part, ["close", "failed"]),
        (returns_what_is_not_iterable, ["close", "failed"]),
    ],
)
def test_an_application_that_raises_before_the_decision_has_failed(server: Server, shape: Any, events: Any) -> None:
    """The exception goes on, no byte leaves, nothing is decided, what there is is closed, and ``finish`` is told."""
    with pytest.raises(LookupError):
        serve(server, shape(server.events), validate=False)
    assert server.events == events
    assert (server.status, server.sent) == ("", b"")


def test_an_application_that_raises_after_the_decision_has_not_failed(server: Server) -> None:
    """The exception goes on to the server, which closes; ``finish`` is told that the answer had been decided."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(server.events, [b"one", LookupError("later")])

    with pytest.raises(LookupError, match="later"):
        serve(server, application)
    assert server.events == [200, "first byte", "close", "finished"]


@pytest.mark.parametrize("error", [RuntimeError("undecided"), KeyboardInterrupt()])
def test_a_decision_that_raises_leaves_nothing_open(server: Server, error: BaseException) -> None:
    """An exception of ``decide`` goes on; the iterable is closed and ``finish`` told that nothing was decided."""
    with pytest.raises(type(error)):
        serve(server, a_body(server.events), decision=error)
    assert server.events == [200, "close", "failed"]
    assert (server.status, server.sent) == ("", b"")


def test_a_status_that_is_no_number_is_an_error(server: Server) -> None:
    """A malformed status fails before anything is decided."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("fine", HEADERS)
        return [b"x"]

    with pytest.raises(ValueError, match="invalid literal"):
        serve(server, application, validate=False)
    assert server.events == ["failed"]


@pytest.mark.parametrize("decision", [None, replacement])
def test_a_close_that_raises_does_not_keep_the_request_from_finishing(server: Server, decision: Any) -> None:
    """The exception of the application's close() goes on, after ``finish``."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(server.events, [b"one"], close_error=LookupError("in close"))

    with pytest.raises(LookupError, match="in close"):
        serve(server, application, decision, validate=False)
    assert server.events == [200, "first byte", "close", "finished"]


def test_a_close_that_raises_after_a_failure_still_finishes(server: Server) -> None:
    """Where the application raised and its close() raises too, ``finish`` is called once, as failed."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body(server.events, [ValueError("first")], close_error=LookupError("in close"))

    with pytest.raises(LookupError, match="in close"):
        serve(server, application, validate=False)
    assert server.events == ["close", "failed"]


# write() beyond what is held


def test_writes_of_exactly_what_is_held_wait_for_the_end(server: Server) -> None:
    """WRITTEN_IN_MEMORY bytes of write() are kept back until the application returns."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)(b"x" * WRITTEN_IN_MEMORY)
        server.events.append("returning")
        return []

    serve(server, application)
    assert server.events == ["returning", 200, "first byte", "finished"]
    assert server.sent == b"x" * WRITTEN_IN_MEMORY


def test_one_byte_more_than_is_held_decides_at_once(server: Server) -> None:
    """The answer is decided and begins to leave while the application still writes; the order of bytes is kept."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", HEADERS)
        write(b"x" * WRITTEN_IN_MEMORY)
        write(b"y")
        server.events.append("returning")
        write(b"z")
        return Body(server.events, [b"!"])

    serve(server, application)
    assert server.events == [200, "first byte", "returning", "close", "finished"]
    assert server.sent == b"x" * WRITTEN_IN_MEMORY + b"yz!"


def test_many_small_writes_count_together(server: Server) -> None:
    """What counts is the sum of the writes."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", HEADERS)
        for _ in range(WRITTEN_IN_MEMORY // 1024):
            write(b"x" * 1024)
        assert not server.events
        write(b"y")
        assert server.events[0] == 200
        return []

    serve(server, application)
    assert server.sent == b"x" * WRITTEN_IN_MEMORY + b"y"


@pytest.mark.parametrize("lazy", [False, True])
def test_an_answer_replaced_while_it_is_written_stays_replaced(server: Server, lazy: bool) -> None:
    """Where write() had the answer decided early, neither later writes nor the returned body follow the replacement."""

    def eager(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", HEADERS)
        write(b"x" * (WRITTEN_IN_MEMORY + 1))
        write(b"secret")
        return Body(server.events, [b"secret"])

    def generator(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", HEADERS)
        write(b"x" * (WRITTEN_IN_MEMORY + 1))
        yield b"secret"
        write(b"secret")
        yield b"secret"

    serve(server, generator if lazy else eager, decision=replacement)
    assert server.sent == b"replaced"
    assert without(server.events, "close") == [200, "first byte", "finished"]


def test_an_application_that_raises_after_writing_much_has_not_failed(server: Server) -> None:
    """Where its writes had the answer decided, ``finish`` is told so, and the exception goes on."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)(b"x" * (WRITTEN_IN_MEMORY + 1))
        raise LookupError("after the decision")

    with pytest.raises(LookupError, match="after the decision"):
        serve(server, application)
    assert server.events == [200, "first byte", "finished"]


def test_a_decision_that_raises_inside_write_reaches_the_application(server: Server) -> None:
    """``decide`` is not asked again after it raised out of write(); the request ends as failed."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)(b"x" * (WRITTEN_IN_MEMORY + 1))
        raise NotImplementedError

    with pytest.raises(RuntimeError, match="undecided"):
        serve(server, application, decision=RuntimeError("undecided"))
    assert server.events == [200, "failed"]
    assert server.sent == b""


def test_a_replacement_that_raises_ends_the_request_as_failed(server: Server) -> None:
    """An exception of the other answer goes on; the application is closed, and ``finish`` called once."""

    def broken(environ: dict[str, Any], start_response: Any) -> Any:
        raise LookupError("broken page")

    with pytest.raises(LookupError, match="broken page"):
        serve(server, a_body(server.events), decision=broken)
    assert server.events == [200, "close", "failed"]
    assert server.sent == b""


@pytest.mark.parametrize("value", ["中.jpg", "a\r\nSet-Cookie: x", "a\x00b"])
def test_headers_that_some_server_refuses_are_refused_before_the_decision(value: str) -> None:
    """Some servers look only when they send, and then it would be too late to take anything back."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS, ("X-Name", value)])
        return [b"body"]

    asked: list[int] = []
    finished: list[bool] = []
    with pytest.raises(ValueError, match="PEP 3333"):
        HeldAnswer({}, lambda *arguments: None, asked.append, finished.append).run(application)
    assert (asked, finished) == ([], [True])


def test_what_the_server_refuses_has_failed() -> None:
    """A start_response of the server that raises comes after the decision, and is told to ``finish``."""

    def refuse(*arguments: Any) -> Any:
        raise RuntimeError("no such header")

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return [b"body"]

    finished: list[bool] = []
    with pytest.raises(RuntimeError, match="no such header"):
        HeldAnswer({}, refuse, lambda code: None, finished.append).run(application)
    assert finished == [True]


def test_an_answer_that_nobody_closes_is_finished_all_the_same() -> None:
    """Werkzeug's server, when its client resets, never calls close()."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return [b"body"]

    finished: list[bool] = []
    answer = HeldAnswer({}, lambda *arguments: None, lambda code: None, finished.append).run(application)
    assert finished == []
    del answer
    gc.collect()
    assert finished == [False]


def test_an_answer_whose_making_was_interrupted_ends_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing that could be closed."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    HeldAnswer.__new__(HeldAnswer)
    assert not told
