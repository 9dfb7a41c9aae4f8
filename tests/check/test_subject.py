"""One server that is probed: what is noted before a request goes out, and what no request may do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_server import MIB, Memory

from resto_wsgi.check.finding import Stopped, Trouble
from resto_wsgi.check.subject import FOLDER, Subject
from resto_wsgi.hosts import parse_hosts
from resto_wsgi.transports.http.security import Security
from resto_wsgi.transports.http.transport import HttpTransport

Subjects = Callable[..., Subject]


@pytest.fixture
def stop() -> threading.Event:
    """Set when somebody wants the check to end."""
    return threading.Event()


@pytest.fixture
def subjects(stop: threading.Event) -> Iterator[Subjects]:
    """``subjects(server)`` is that server as it is probed."""
    with contextlib.ExitStack() as stack:

        def subject(server: Any, timeout: float = 2.0, security: Security | None = None) -> Subject:
            (host,) = parse_hosts([server if isinstance(server, str) else server.url], "/")
            transport = HttpTransport(timeout, security)
            stack.callback(transport.close)
            return Subject(host, transport, timeout, stop, largest=MIB, security=security)

        yield subject


WRITES = {
    "put": lambda subject, name: subject.put(name, b"x"),
    "raw_put": lambda subject, name: subject.raw_put(name, b"x"),
    "cut": lambda subject, name: subject.cut(name, 1000, b"x"),
    "announce": lambda subject, name: subject.announce(name, 1000),
}


@pytest.mark.parametrize("write", WRITES)
def test_what_may_have_been_written_is_noted_though_no_answer_came(write: str, subjects: Subjects, faulty: Any) -> None:
    """Cleaning looks for it again: the host may have done it, or do it late."""
    subject = subjects(faulty("hang"), timeout=0.2)
    name = subject.name("cat")
    with contextlib.suppress(Trouble):
        WRITES[write](subject, name)
    assert list(subject.written) == [name]
    assert subject.written[name] is (write != "cut"), "that the host closes or stays silent is the end of a cut body"


@pytest.mark.parametrize("write", ["put", "raw_put"])
def test_what_was_refused_is_not_in_doubt(write: str, subjects: Subjects, faulty: Any) -> None:
    """The host has answered that it did not take it."""
    subject = subjects(faulty(("status", 403)))
    with contextlib.suppress(Trouble):
        WRITES[write](subject, "cat")
    assert subject.written == {"cat": False} and not subject.taken


@pytest.mark.parametrize("write", WRITES)
def test_no_request_goes_out_once_the_check_is_to_end(
    write: str, subjects: Subjects, stop: threading.Event, faulty: Any
) -> None:
    """But for those that take away what was written."""
    server = faulty(("status", 201))
    subject = subjects(server)
    stop.set()
    with pytest.raises(Stopped):
        WRITES[write](subject, "cat")
    assert server.connections == 0 and not any(subject.written.values())
    subject.ending = True
    with contextlib.suppress(Trouble):
        WRITES[write](subject, "cat")
    assert server.connections >= 1


def test_a_pause_ends_when_the_check_is_to_end(subjects: Subjects, stop: threading.Event, nginx: Any) -> None:
    """At once, and not after its time."""
    stop.set()
    with pytest.raises(Stopped):
        subjects(nginx).pause(60)


def test_what_is_read_back_is_bounded(subjects: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in time: a host may send what nobody stored, or drop by drop."""
    with Memory() as server:
        server.files["large"] = b"x" * 1000
        subject = subjects(server)
        assert subject.get("large") == b"x" * 1000
        with monkeypatch.context() as patch, pytest.raises(Trouble, match="more than was stored"):
            patch.setattr("resto_wsgi.check.subject.READ_LIMIT", 999)
            subject.get("large")
        monkeypatch.setattr("resto_wsgi.check.subject.SLOWEST", float("inf"))
        with pytest.raises(Trouble, match="too slowly"):
            subject.get("large")


def test_a_stranger_shows_no_credentials(subjects: Subjects, faulty: Any, tmp_path: Path) -> None:
    """So that a server which lets everybody write is found."""
    server = faulty(("status", 404))
    own = tmp_path / "credentials"
    own.touch(0o600)
    own.write_text("* basic x:y")
    subject = subjects(server, security=Security(parse_hosts([server.url], "/"), credentials_file=str(own)))
    assert (subject.shown, subject.is_shown_something) == ("basic", True)
    subject.raw("GET", "cat")
    subject.raw("GET", "cat", bare=True)
    assert ["authorization" in seen.headers for seen in server.requests] == [True, False]


@pytest.mark.parametrize(("behaviour", "cause"), [("garbage", "protocol"), ("reset", ""), ("refuse", "")])
def test_trouble_says_what_kind_of_thing_failed(behaviour: str, cause: str, subjects: Subjects, faulty: Any) -> None:
    """For the remedy: a wrong port is another matter than a server that is away."""
    with pytest.raises(Trouble) as caught:
        subjects(faulty(behaviour), timeout=0.3).raw("GET", "cat")
    assert (caught.value.cause, caught.value.status) == (cause, None)


def test_the_folder_of_a_check_is_drawn_for_it(subjects: Subjects, nginx: Any) -> None:
    """Nothing else is ever removed as a tree, and no two checks have the same."""
    folders = {subjects(nginx).folder for _ in range(10)}
    assert len(folders) == 10 and all(FOLDER.fullmatch(each) for each in folders)
