"""Names are asked for aside: what is known is used meanwhile, and what is not is waited for, but not for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import PATIENCE, eventually

from resto_wsgi.transports.http import resolving
from resto_wsgi.transports.http.resolving import Address, Resolver, Unresolved

TIMEOUT = 0.3  # seconds


class Names:
    """A resolver of the C library's kind: what it answers is set, and it can be made to say nothing."""

    def __init__(self) -> None:
        self.now = 0.0  # what its users take for the time
        self.asked: list[str] = []
        self.answer: list[str] | Exception = ["192.0.2.1"]
        self.speaks = threading.Event()
        self.speaks.set()

    def __call__(self, host: str, port: int) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        assert self.speaks.wait(PATIENCE)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.answer]


@pytest.fixture
def names() -> Iterator[Names]:
    """One that answers at once."""
    made = Names()
    yield made
    made.speaks.set()
    eventually(lambda: not resolvers())


@pytest.fixture
def resolver(names: Names) -> Resolver:
    """One that asks it, and whose time stands still."""
    return Resolver(TIMEOUT, look_up=names, clock=lambda: names.now)


def resolvers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "resto resolver"]


def where(found: tuple[Address, ...]) -> list[str]:
    return [str(each) for each in found]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", Address(socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", Address(socket.AF_INET6, ("::1", 80, 0, 0))),
    ],
)
def test_a_number_is_never_asked_for(resolver: Resolver, names: Names, host: str, address: Address) -> None:
    """Whatever the resolver does, it is where it is."""
    assert resolver.addresses(host, 80) == (address,)
    assert names.asked == []


def test_an_answer_is_used_for_a_while_and_then_confirmed(resolver: Resolver, names: Names) -> None:
    """A name that moves is found where it is now with the next connection but those of the same moment."""
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1"]
    names.answer = ["192.0.2.2"]
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1"]
    names.now += resolving.FRESH
    assert where(resolver.addresses("media", 80)) == ["192.0.2.2"]
    assert names.asked == ["media"] * 2


def test_a_first_question_that_is_not_answered_is_an_error_in_time(names: Names) -> None:
    """In one line, with since when it waits; whoever comes later is told so at once."""
    resolver = Resolver(TIMEOUT, look_up=names)
    names.speaks.clear()
    begun = time.monotonic()
    with pytest.raises(Unresolved, match=r"^its name was not resolved within 0\.3\d* s; look at the name server"):
        resolver.addresses("media", 80)
    assert TIMEOUT <= time.monotonic() - begun < TIMEOUT + 1
    begun = time.monotonic()
    with pytest.raises(Unresolved, match="its name was not resolved"):
        resolver.addresses("media", 80)
    assert time.monotonic() - begun < TIMEOUT / 2
    assert names.asked == ["media"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "Temporary failure"),
        (UnicodeError("label empty or too long"), "it is malformed"),
    ],
)
def test_a_first_question_that_fails_is_an_error_at_once(
    resolver: Resolver, names: Names, error: Exception, text: str
) -> None:
    """And is put again the next time."""
    names.answer = error
    with pytest.raises(Unresolved, match=f"^its name does not resolve: {text}$"):
        resolver.addresses("media", 80)
    names.answer = ["192.0.2.1"]
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1"]


def test_what_is_known_is_used_while_the_resolver_fails(resolver: Resolver, names: Names) -> None:
    """For a day: then it is asked whether anybody still knows."""
    resolver.addresses("media", 80)
    names.answer = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
    names.now += resolving.KEPT - 1
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1"]
    names.now += 1
    with pytest.raises(Unresolved):
        resolver.addresses("media", 80)


def test_what_is_known_is_used_while_the_resolver_says_nothing(names: Names) -> None:
    """The first waits for a moment, and nobody after him; what comes late is taken."""
    now = [0.0]
    resolver = Resolver(PATIENCE, look_up=names, clock=lambda: now[0] + time.monotonic())
    resolver.addresses("media", 80)
    now[0] += resolving.FRESH
    names.speaks.clear()
    names.answer = ["192.0.2.2"]
    begun = time.monotonic()
    assert [where(resolver.addresses("media", 80)) for _ in range(20)] == [["192.0.2.1"]] * 20
    assert resolving.GRACE <= time.monotonic() - begun < 4 * resolving.GRACE
    assert len(resolvers()) == 1
    names.speaks.set()
    eventually(lambda: where(resolver.addresses("media", 80)) == ["192.0.2.2"])


def test_many_who_ask_at_once_put_one_question(names: Names) -> None:
    """All have its answer."""
    resolver = Resolver(PATIENCE, look_up=names)
    names.speaks.clear()
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(where(resolver.addresses("media", 80)))) for _ in range(20)]
    for thread in threads:
        thread.start()
    eventually(lambda: names.asked)
    names.speaks.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [["192.0.2.1"]] * 20
    assert names.asked == ["media"]


def test_a_name_that_is_not_answered_holds_up_no_other(names: Names) -> None:
    """Each has a thread of its own, up to a limit, and none stays when nobody asks."""
    silent = threading.Event()

    def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
        if host.startswith("silent"):
            assert silent.wait(PATIENCE)
        return names(host, port)

    resolver = Resolver(TIMEOUT, look_up=look_up)
    with pytest.raises(Unresolved):
        resolver.addresses("silent-0", 80)
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1"]
    for number in range(1, resolving.THREADS + 4):
        threading.Thread(target=ignoring(resolver, f"silent-{number}"), daemon=True).start()
    eventually(lambda: len(resolvers()) == resolving.THREADS)
    silent.set()
    eventually(lambda: not resolvers())
    assert len(names.asked) == 1 + resolving.THREADS + 4, "what had to wait for its turn was not asked"


def ignoring(resolver: Resolver, name: str) -> Callable[[], None]:
    """Return what asks for a name, and does not mind that there is no answer."""

    def ask() -> None:
        with contextlib.suppress(Unresolved):
            resolver.addresses(name, 80)

    return ask


def test_where_there_can_be_no_more_threads_the_caller_asks(
    resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a program ends."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1"]
    assert names.asked == ["media"]


def test_the_address_that_answered_is_tried_first_the_next_time(resolver: Resolver, names: Names) -> None:
    """Also when the name was asked for again; others come in the order of the resolver."""
    names.answer = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    found = resolver.addresses("media", 80)
    resolver.prefer("media", 80, found[2])
    assert where(resolver.addresses("media", 80)) == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
    names.now += resolving.FRESH
    assert where(resolver.addresses("media", 80)) == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
    names.now += resolving.FRESH
    names.answer = ["192.0.2.1", "192.0.2.2"]
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1", "192.0.2.2"]
    resolver.prefer("media", 80, found[2])
    assert where(resolver.addresses("media", 80)) == ["192.0.2.1", "192.0.2.2"]


def test_what_is_known_goes_on_in_a_process_that_forks_and_what_waits_does_not(names: Names) -> None:
    """The thread that asks is not there; the child asks for itself."""
    known: dict[Any, Any] = {}
    Resolver(TIMEOUT, known, look_up=names).addresses("media", 80)
    assert list(known) == [("media", 80)]
    names.speaks.clear()
    parent = Resolver(TIMEOUT, known, look_up=names)
    threading.Thread(target=ignoring(parent, "other"), daemon=True).start()
    eventually(lambda: "other" in names.asked)
    child = os.fork()
    if not child:
        own = Resolver(TIMEOUT, known, look_up=names)
        good = where(own.addresses("media", 80)) == ["192.0.2.1"]
        try:
            own.addresses("other", 80)
        except Unresolved:
            os._exit(0 if good else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
