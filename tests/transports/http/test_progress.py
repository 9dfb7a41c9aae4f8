"""Progress is what arrives: whatever the kernel takes, and however long the answer of one request is in coming."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from servers import LOOPBACK, eventually

from resto_wsgi.transports.http import progress as http_progress
from resto_wsgi.transports.http.progress import Exchange, NoAnswer, Progress, Traffic, look, patience

STEP = 0.4  # seconds
RATE = 400_000  # bytes per second that a host takes
LARGE = 16 * 1024 * 1024  # bytes: more than the kernel takes

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Callable[..., Pair]]:
    """``pair()`` returns two ends of a connection; the second reads only what it is told to, and has little room."""
    with contextlib.ExitStack() as stack:

        def make() -> Pair:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            listener.bind((LOOPBACK, 0))
            listener.listen()
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            client.setblocking(False)
            return client, stack.enter_context(listener.accept()[0])

        yield make


@pytest.fixture(params=["TCP_INFO", "TIOCOUTQ"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernel as it is, and one that does not count what was delivered."""
    if request.param == "TIOCOUTQ":
        ask = socket.socket.getsockopt

        class Old(socket.socket):
            def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:  # type: ignore[override]
                answer = ask(self, level, option, size)
                return answer[:104] if option == socket.TCP_INFO else answer

        monkeypatch.setattr(socket.socket, "getsockopt", Old.getsockopt)
    return str(request.param)


def begun(sock: socket.socket, traffic: Traffic | None = None, *, size: int = LARGE) -> Progress:
    """Send as much as the kernel takes, and return the progress of that."""
    exchange = Exchange(STEP)
    exchange.begin(size)
    progress = Progress(sock, exchange, traffic or Traffic())
    with contextlib.suppress(BlockingIOError):
        while size:
            size -= sock.send(bytes(min(size, 1024 * 1024)))
    progress.moved()
    if not size:
        progress.all_sent()
    return progress


def given_up(progress: Progress, within: float, meanwhile: Callable[[], object] = lambda: None) -> Exception | None:
    """Ask when it wants to be asked; return the end of it, None if it had none within so many seconds."""
    ends = time.monotonic() + within
    while (now := time.monotonic()) < ends:
        meanwhile()
        time.sleep(0.01)
        if now >= progress.until and (late := progress.overdue()) is not None:
            return late
    return None


def steadily(host: socket.socket) -> Callable[[], object]:
    """Return what reads as much as is due by now: a kernel tells of room only when that is some of its buffer."""
    began, taken = time.monotonic(), [0]

    def read() -> None:
        due = int((time.monotonic() - began) * RATE) - taken[0]
        if due > 0:
            taken[0] += len(host.recv(due))

    return read


@pytest.mark.usefixtures("kernel")
def test_a_host_that_takes_nothing_is_given_up_when_the_time_is_over(pair: Callable[..., Pair]) -> None:
    """Its kernel is full; what it answers when ours asks whether there is room is no progress."""
    client, _host = pair()
    progress = begun(client)
    began = time.monotonic()
    assert str(given_up(progress, 5)) == f"it took nothing for {STEP:g} s"
    assert STEP <= time.monotonic() - began < 2 * STEP


@pytest.mark.usefixtures("kernel")
def test_what_arrives_is_progress_although_nothing_can_be_sent(pair: Callable[..., Pair]) -> None:
    """A host that reads little by little empties our kernel's buffer, which takes no more before it is half empty."""
    client, host = pair()
    progress = begun(client)
    assert given_up(progress, 3 * STEP, steadily(host)) is None
    assert given_up(progress, 5) is not None


@pytest.mark.usefixtures("kernel")
def test_an_answer_is_due_when_all_has_arrived_and_not_before(pair: Callable[..., Pair]) -> None:
    """The kernel has the whole of a request long before."""
    client, host = pair()
    size = 1_000_000
    progress = begun(client, size=size)
    assert given_up(progress, 3 * STEP, steadily(host)) is None
    host.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while host.recv(65536) or True:
            time.sleep(0.001)
    eventually(lambda: not look(client).queued)
    began = time.monotonic()
    late = given_up(progress, 5)
    assert isinstance(late, NoAnswer) and str(late) == f"no answer within {STEP:g} s"
    assert STEP / 2 <= time.monotonic() - began < 2 * STEP


def test_an_answer_that_comes_drop_by_drop_is_given_up(pair: Callable[..., Pair]) -> None:
    """Each drop is progress; the whole of an answer has a bound of its own."""
    client, host = pair()
    progress = begun(client, size=10)

    def drip() -> None:
        host.send(b"x")
        with contextlib.suppress(BlockingIOError):
            client.recv(10)
            progress.answer_due()
            progress.moved()

    began = time.monotonic()
    assert isinstance(given_up(progress, 10, drip), NoAnswer)
    assert time.monotonic() - began < 3 * http_progress.ANSWER_STEPS * STEP


def test_a_request_among_others_that_move_may_be_quiet_for_longer(pair: Callable[..., Pair]) -> None:
    """They share a link, and TCP is not just; but it has an end: the host may have lost this one alone."""
    traffic = Traffic()
    (quiet, _host), (busy, reads) = pair(), pair()
    progress, other = begun(quiet, traffic), begun(busy, traffic)
    assert given_up(progress, 3 * STEP, steadily(reads)) is None
    began = time.monotonic()
    late = given_up(progress, 20 * STEP, steadily(reads))
    assert str(late) == f"it took nothing for {http_progress.SHARED_STEPS * STEP:g} s"
    assert time.monotonic() - began < http_progress.SHARED_STEPS * STEP
    other.over()


def test_a_request_among_others_that_are_as_quiet_is_given_up_in_time(pair: Callable[..., Pair]) -> None:
    """A link that is cut is cut for all."""
    traffic = Traffic()
    both = [begun(pair()[0], traffic) for _ in range(2)]
    began = time.monotonic()
    assert str(given_up(both[0], 5)) == f"it took nothing for {STEP:g} s"
    assert time.monotonic() - began < 2 * STEP


def test_an_answer_is_not_waited_for_longer_because_others_have_theirs(pair: Callable[..., Pair]) -> None:
    """Who has all of a request and says nothing is not slowed down by a link."""
    traffic = Traffic()
    (quiet, host), (busy, reads) = pair(), pair()
    progress = begun(quiet, traffic, size=10)
    begun(busy, traffic)
    assert host.recv(10)
    assert str(given_up(progress, 5, steadily(reads))) == f"no answer within {STEP:g} s"


def test_what_is_over_is_not_looked_at(pair: Callable[..., Pair]) -> None:
    """Nor is a connection that was closed, of which nobody has said so."""
    traffic = Traffic()
    (first, _a), (second, _b) = pair(), pair()
    one, other = begun(first, traffic), begun(second, traffic)
    one.over()
    second.close()
    assert not traffic.moves(STEP)
    other.over()
    assert not traffic.under_way


def test_a_file_that_comes_may_take_as_long_as_bytes_come(pair: Callable[..., Pair]) -> None:
    """Though TLS hands over none of them before a record is whole."""
    client, host = pair()
    progress = begun(client, size=10)
    progress.reads_on()
    progress.moved()
    assert given_up(progress, 3 * STEP, lambda: host.send(b"x")) is None
    assert str(given_up(progress, 5)) == f"nothing came within {STEP:g} s"


def test_the_whole_has_a_deadline(pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a least rate: else who takes a byte now and then would hold us."""
    monkeypatch.setattr(http_progress, "STEPS", 2)
    client, host = pair()
    progress = begun(client, size=http_progress.LEAST_RATE)
    progress.sends_on()
    began = time.monotonic()

    def move() -> None:
        with contextlib.suppress(TimeoutError):
            progress.moved()

    assert given_up(progress, 1 + 2 * STEP - 0.1, move) is None
    assert str(given_up(progress, 1, lambda: host.recv(1))) == "the request took too long on the whole"
    assert time.monotonic() - began >= 1 + 2 * STEP
    with pytest.raises(TimeoutError, match="too long on the whole"):
        progress.moved()


@pytest.mark.parametrize(
    ("timer", "seconds"), [(0.0, 2.0), (0.4, 2.0), (0.6, 2.4), (1.5, 6.0), (2.0, 8.0), (60.0, 8.0)]
)
def test_a_link_on_which_tcp_waits_for_long_may_be_quiet_for_long(timer: float, seconds: float) -> None:
    """Four of its timers, and four of our steps at most."""
    assert patience(2.0, timer) == pytest.approx(seconds)


def test_tcps_least_timer_and_its_doubling_say_nothing_of_a_link(pair: Callable[..., Pair]) -> None:
    """On loopback there is nothing to wait for."""
    client, _host = pair()
    assert look(client).timer < 0.1
    begun(client)
    time.sleep(3 * STEP)
    assert look(client).timer < 0.1


def test_the_clock_stands_still_while_it_is_paused() -> None:
    """What is done meanwhile is not the host's."""
    exchange = Exchange(STEP)
    exchange.begin(0)
    ends = exchange.ends
    with exchange.paused():
        time.sleep(0.05)
    assert exchange.ends >= ends + 0.05
    exchange.ends = time.monotonic()
    with pytest.raises(TimeoutError, match="too long on the whole"):
        exchange.next_step()
