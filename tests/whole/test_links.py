"""Uploads over links that are slow, far, lossy or cut, to real nginx in a namespace of its own.

``make chaos`` sweeps over many more of them.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from links import SENDER, Site, need_links, queued
from servers import eventually, need

TIMEOUT = 2.0  # seconds: the default of the settings
HASTY = 1.0  # second: where a fault is awaited
LARGE = 4_000_000  # bytes: more than a link of some Mbit/s moves in a test

Sites = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Sites]:
    """``site(rate=1)`` returns one whose link has 1 Mbit/s."""
    need_links()
    need("nginx")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Site(tmp_path, **options))


# rate in Mbit/s, uploads at once, bytes of each, seconds one way, share of packets that is lost
LINKS = {
    "slow": (0.5, 1, 250_000, 0, 0),
    "shared": (1, 8, 100_000, 0, 0),
    "crowded": (0.5, 32, 10_000, 0, 0),
    "far and lossy": (0.5, 2, 120_000, 0.15, 0.02),
}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("link", LINKS)
def test_an_upload_succeeds_on_a_link_that_is_slow_but_steady(site: Sites, link: str, tls: bool) -> None:
    """However long it takes, bytes arrive all the time."""
    rate, count, size, delay, loss = LINKS[link]
    begun = time.monotonic()
    assert site(rate=rate, delay=delay, loss=loss, timeout=TIMEOUT).upload(count, size, tls=tls) == []
    assert time.monotonic() - begun > TIMEOUT


def after_a_second(action: Callable[[], Any], made: Site, *, tls: bool, size: int = LARGE) -> tuple[str, float]:
    """Do that while a file is on its way; return how its upload failed, and how many seconds later."""
    when: list[float] = []

    def act() -> None:
        eventually(lambda: part_of_a_file(made))
        when.append(time.monotonic())
        action()

    thread = threading.Thread(target=act)
    thread.start()
    (error,) = made.upload(1, size, tls=tls)
    thread.join()
    return error.reason, time.monotonic() - when[0]


def part_of_a_file(made: Site) -> bool:
    """True while nginx has a part of a body in its temporary files."""
    return any(path.stat().st_size > 100_000 for path in Path(made.nginx.folder, "staging").glob("*"))


@pytest.mark.parametrize("tls", [False, True])
def test_a_link_that_is_cut_under_way_is_given_up_in_time(site: Sites, tls: bool) -> None:
    """What is in the kernels by then is not asked for."""
    made = site(rate=4, timeout=HASTY)
    reason, seconds = after_a_second(made.link.cut, made, tls=tls)
    assert reason.startswith("too slow: it took nothing for")
    assert seconds < 4 * HASTY


@pytest.mark.parametrize("tls", [False, True])
def test_a_host_that_is_frozen_under_way_is_given_up_in_time(site: Sites, tls: bool) -> None:
    """Its kernel goes on acknowledging until it is full."""
    made = site(rate=4, timeout=HASTY)
    reason, seconds = after_a_second(lambda: made.signal(signal.SIGSTOP), made, tls=tls)
    assert reason.startswith("too slow: it took nothing for")
    assert seconds < 4 * HASTY + 4, "the buffer of a kernel was not full in 4 s at 4 Mbit/s"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [1_000, LARGE])
def test_a_host_that_was_frozen_before_is_given_up_in_time(site: Sites, size: int, tls: bool) -> None:
    """Its kernel takes the connection, and what fits into it."""
    made = site(timeout=HASTY)
    made.signal(signal.SIGSTOP)
    begun = time.monotonic()
    (error,) = made.upload(1, size, tls=tls)
    assert HASTY <= time.monotonic() - begun < 3 * HASTY
    assert "no answer within 1 s" in error.reason or "it took nothing for 1 s" in error.reason


def test_a_link_that_is_cut_before_is_given_up_in_time(site: Sites) -> None:
    """Whether it is to connect, or to send on a connection that was kept alive."""
    made = site(timeout=HASTY)
    assert made.upload(1, 1_000) == []
    made.link.cut()
    for text in ("it took nothing for 1 s", "no connection within 1 s"):
        begun = time.monotonic()
        (error,) = made.upload(1, 1_000)
        assert text in error.reason
        assert HASTY <= time.monotonic() - begun < 3 * HASTY


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_dead_sender_left_in_its_kernel_is_not_carried_out(site: Sites, tmp_path: Path, tls: bool) -> None:
    """The link was cut when it was sent, and is back when the sender is dead: whoever goes on may have deleted it."""
    made = site(timeout=HASTY)
    (tmp_path / "file").write_bytes(bytes(1000))
    arguments = [tmp_path / "file", made.host(tls=tls).url, made.certificate]
    with made.link.near.entered():
        sender = subprocess.Popen(
            [sys.executable, "-c", SENDER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
    with sender:
        assert sender.stdout is not None and sender.stdin is not None
        try:
            assert sender.stdout.readline() == "warm\n"
            made.link.cut()
            sender.stdin.write("\n")
            assert sender.stdout.readline() == "sent\n"
            eventually(lambda: queued(made))
        finally:
            sender.kill()
    assert not queued(made)
    made.link.mend()
    assert made.upload(1, 10) == []
    assert not [name for name in ("kept", "new") if Path(made.nginx.root, name).exists()]
