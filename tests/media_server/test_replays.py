"""Signatures that were seen: each is good once, for as long as it is good at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from node_requests import files
from signing import KEY, Clock, put_signed, send, signed

from resto_wsgi.media_server import Access, MediaServer
from resto_wsgi.trust.signatures import MAX_AGE, MAX_SKEW, Key


def test_a_request_is_carried_out_once(keyed: MediaServer, root: Path, clock: Clock) -> None:
    """Whoever has read it on the way repeats it in vain: at once, later, and after a restart."""
    headers = signed("PUT", "http://media-01/x", b"old")
    assert send(keyed, "PUT", "/x", b"old", headers).status_code == 201
    assert put_signed(keyed, b"new", nonce="2") == 204
    restarted = MediaServer(root, access=Access(keys=[KEY]), clock=clock)
    for seconds, server in [
        (0, keyed),
        (0, restarted),
        (100, keyed),
        (MAX_AGE, keyed),
        (100, restarted),
        (MAX_AGE + 5, keyed),
    ]:
        clock.now = time.time() + seconds
        reply = send(server, "PUT", "/x", b"old", headers)
        assert (reply.status_code, b"signed" in reply.body) == (401, True)
    assert files(root, ".resto/signatures") == {"x": b"new"}


def test_of_many_copies_at_once_one_is_carried_out(keyed: MediaServer) -> None:
    """Whatever thread or process gets them."""
    headers = signed("PUT", "http://media-01/x", b"x")
    answers: list[int] = []
    gate = threading.Barrier(8)

    def write() -> None:
        gate.wait()
        answers.append(send(keyed, "PUT", "/x", b"x", headers).status_code)

    writers = [threading.Thread(target=write) for _ in range(8)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert sorted(answers) == [201, *[401] * 7]


def test_what_was_seen_is_forgotten_when_it_is_too_old_anyway(keyed: MediaServer, root: Path, clock: Clock) -> None:
    """The disk does not fill up, and no signature is forgotten while it is good."""
    folder = root / ".resto/signatures"
    for minute in range(12):
        clock.now += 60
        assert put_signed(keyed, nonce=str(minute), created=int(clock.now) + MAX_SKEW) in (201, 204)
        assert put_signed(keyed, nonce=str(minute), created=int(clock.now) + MAX_SKEW) == 401
    assert MAX_AGE // 60 <= len(list(folder.iterdir())) <= 9


def test_nothing_is_noted_of_a_signature_that_is_no_good(keyed: MediaServer, root: Path) -> None:
    """So strangers cannot fill the disk."""
    for number in range(5):
        assert put_signed(keyed, nonce=str(number), key=Key("app-1", b"x" * 40)) == 401
        assert put_signed(keyed, nonce=str(number), created=1) == 401
    assert not (root / ".resto/signatures").exists()
