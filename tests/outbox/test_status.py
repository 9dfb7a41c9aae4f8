"""What ``Replicator.status`` says of hosts and names is true, exact while others write, and asks nobody."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from belief import MODES, Replicators
from servers import REFUSED, eventually, held, on_every_kind

from resto_wsgi import NameRejected, ReplicationError

CAT = b"\xff\xd8 a cat \r\n" * 100
NO_DAV = "location / { dav_methods off; }"


@pytest.fixture
def replicators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicators]:
    """Replicators that log and go on."""
    monkeypatch.setattr("resto_wsgi.replication.lane.IDLE", 0.05)
    monkeypatch.setattr("resto_wsgi.replication.worker.IDLE", 0.05)
    with Replicators(tmp_path / "media", fatal_exceptions=False) as replicators:
        yield replicators


@pytest.mark.parametrize("mode", MODES)
def test_where_nothing_is_owed_every_host_is_up(replicators: Replicators, nginx: Any, faulty: Any, mode: str) -> None:
    """In the order of the settings, and without a word to any of them."""
    server = faulty(("status", 201))
    replicator = replicators([server, nginx], mode=mode)
    status = replicator.status()
    assert [(host.host, host.url, host.state) for host in status.hosts] == [
        (server.url, server.url, "up"),
        (nginx.url, nginx.url, "up"),
    ]
    for host in status.hosts:
        assert (host.since, host.owed, host.parked, host.oldest, host.error) == (None, 0, 0, None, "")
    assert (status.owed, status.parked) == (0, 0)
    assert replicator.status("cat").owing == {}
    assert server.connections == 0


@on_every_kind
def test_a_host_that_is_away_is_down_since_it_failed_first(
    replicators: Replicators, media_server: Any, faulty: Any
) -> None:
    """The oldest delivery is the first one that failed; when it is back, it is up since then."""
    clock = replicators.clock
    clock.frozen = began = time.time()
    media_server.stop()
    replicator = replicators([media_server])
    for name in ("cat", "dog", "cat"):
        replicator.save(name, CAT, overwrite=True)
        clock.ahead += 10
    (host,) = replicator.status().hosts
    assert (host.state, host.since, host.owed, host.parked, host.oldest) == ("down", began, 2, 0, began)
    assert host.error == REFUSED
    media_server.start()
    assert replicator.drain(20)
    (host,) = replicator.status().hosts
    assert (host.state, host.owed, host.oldest) == ("up", 0, None)
    assert host.since is not None and host.since >= began + 30
    assert host.error == "", "all is well"


def test_a_host_that_refuses_writes_is_read_only(replicators: Replicators, media_servers: Any) -> None:
    """What it refused for good is parked, and delivered after all when somebody has mended it."""
    (server,) = media_servers("nginx", extra=NO_DAV)
    replicator = replicators([server])
    replicator.save("cat", CAT)
    (host,) = replicator.status().hosts
    assert (host.state, host.owed, host.parked) == ("read-only", 1, 1)
    assert host.error == "answered 405: enable PUT and DELETE (WebDAV) in its configuration"
    assert replicator.drain(5) is False  # it does not wait for what is parked
    server.extra = ""
    server.restart()
    assert replicator.drain(20, parked=True) is True
    (host,) = replicator.status().hosts
    assert (host.state, host.owed, host.parked) == ("up", 0, 0)


def test_one_success_takes_along_what_a_read_only_host_had_refused(
    replicators: Replicators, media_servers: Any
) -> None:
    """Whoever mended the host need not know of what is parked."""
    (server,) = media_servers("nginx", extra=NO_DAV)
    replicator = replicators([server])
    for name in ("a", "b", "c"):
        replicator.save(name, CAT)
    assert replicator.status().parked == 3
    server.extra = ""
    server.restart()
    replicator.save("d", CAT)
    assert replicator.drain(20) is True
    assert held(server) == dict.fromkeys("abcd", CAT)


def test_a_host_whose_disk_is_full_is_read_only_and_not_given_up(replicators: Replicators, faulty: Any) -> None:
    """Space may come back at any moment, so nothing is parked."""
    server = faulty(("status", 507))
    replicator = replicators([server])
    replicator.save("cat", CAT)
    (host,) = replicator.status().hosts
    assert (host.state, host.owed, host.parked) == ("read-only", 1, 0)
    assert host.error == "answered 507: its disk is full"


def test_a_host_that_refuses_one_name_is_up(replicators: Replicators, media_servers: Any) -> None:
    """Too large a file says nothing of the host; it is parked, and its reason is told of the name."""
    (server,) = media_servers("nginx", max_body=1000)
    replicator = replicators([server])
    replicator.save("large", bytes(2000))
    replicator.save("small", b"x")
    (host,) = replicator.status().hosts
    assert (host.state, host.owed, host.parked) == ("up", 1, 1)
    (delivery,) = replicator.status("large").owing.values()
    assert (delivery.parked, delivery.status) == (True, 413)
    assert delivery.reason == "answered 413: raise its limit of the body size"


@pytest.mark.parametrize(("answer", "then"), [(503, "down"), (500, "up")])
def test_a_host_that_is_overloaded_again_and_again_is_down(
    replicators: Replicators, faulty: Any, answer: int, then: str
) -> None:
    """A 503 speaks of the host, three in a row for certain; a 500 may always be the fault of a name."""
    server = faulty(("status", answer))
    replicator = replicators([server])
    states = []
    for name in "abc":
        replicator.save(name, CAT)
        states.append(replicator.status().hosts[0].state)
    assert states == ["up", "up", then]
    assert replicator.status().hosts[0].error.startswith(f"answered {answer}: ")


@pytest.mark.parametrize("mode", MODES)
def test_a_name_says_who_holds_it_and_who_owes_it_and_why(
    replicators: Replicators, media_servers: Any, mode: str
) -> None:
    """Saved, deleted, and never seen."""
    up, down = media_servers("nginx", 2)
    down.stop()
    replicator = replicators([up, down], mode=mode)
    replicator.save("a/cat", CAT)
    assert not replicator.drain(0.3)
    status = replicator.status("a/cat")
    assert (status.name, status.present, status.hosts) == ("a/cat", True, (up.url, down.url))
    assert status.holding == (up.url,)
    assert list(status.owing) == [down.url]
    assert status.owing[down.url].reason == REFUSED
    replicator.delete("a/cat")
    assert not replicator.drain(0.3)
    status = replicator.status("a/cat")
    assert (status.present, status.holding, list(status.owing)) == (False, (), [down.url])
    down.start()
    assert replicator.drain(20)
    status = replicator.status("a/cat")
    assert (status.present, status.holding, status.owing) == (False, (), {})
    replicator.save("a/cat", CAT)
    assert replicator.drain(20)
    assert replicator.status("a/cat").holding == (up.url, down.url)
    assert replicator.status("never").present is False
    with pytest.raises(NameRejected):
        replicator.status("../cat")


@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_is_no_longer_configured_is_shown_with_what_it_is_owed(
    replicators: Replicators, media_servers: Any, mode: str
) -> None:
    """Last, and as such: nobody delivers that any more, and what is waited for does not include it."""
    kept, left = media_servers("nginx", 2)
    left.stop()
    before = replicators([left, kept], mode=mode)
    before.save("cat", CAT)
    before.drain(0.3)
    before.close()
    replicator = replicators([kept], mode=mode)
    status = replicator.status()
    assert [(host.url, host.state, host.owed) for host in status.hosts] == [
        (kept.url, "up", 0),
        (left.url, "not configured", 1),
    ]
    assert status.owed == 1
    assert replicator.status("cat").hosts == (kept.url,)
    assert replicator.status("cat").owing == {}
    assert replicator.drain(5) is True
    left.start()
    again = replicators([kept, left], mode=mode)
    assert again.drain(20)
    assert [host.state for host in again.status().hosts] == ["up", "up"]
    assert held(left) == {"cat": CAT}


def test_the_figures_are_one_snapshot_while_others_write(replicators: Replicators, faulty: Any) -> None:
    """Each save and delete owes every host, at once: at no moment do two hosts differ, nor does a figure go back."""
    servers = [faulty("refuse") for _ in range(3)]
    replicator = replicators(servers, mode="async")
    done = False

    def write(number: int) -> None:
        for each in range(40):
            replicator.save(f"{number}/{each}", b"x")
            replicator.delete(f"{number}/{each - each % 3}")

    def look() -> int:
        looks = latest = 0
        while not done:
            status = replicator.status()
            (figures,) = {(host.owed, host.parked) for host in status.hosts}
            assert figures[0] >= latest and figures[1] == 0
            assert status.owed == 3 * figures[0]
            assert len({host.oldest for host in status.hosts}) == 1
            latest = figures[0]
            looks += 1
        return looks

    with ThreadPoolExecutor(5) as pool:
        watcher = pool.submit(look)
        try:
            list(pool.map(write, range(4)))
        finally:
            done = True
        assert watcher.result() > 10
    assert replicator.status().owed == 3 * 4 * 40


@on_every_kind
@pytest.mark.parametrize("mode", MODES)
def test_the_figures_agree_with_each_name_after_a_mixture_of_work(
    replicators: Replicators, kind_of_host: str, media_servers: Any, mode: str
) -> None:
    """Four threads save and delete while one host comes and goes: the sums are the sums of the names, then nothing."""
    servers = media_servers(kind_of_host, 2)
    replicator = replicators(servers, mode=mode, background=True)
    names = [f"{thread}/{each}" for thread in range(4) for each in range(8)]

    def write(thread: int) -> None:
        for name in (name for name in names if name.startswith(f"{thread}/")):
            replicator.save(name, CAT, overwrite=True)
            if name[-1] in "147":
                replicator.delete(name)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, thread) for thread in range(4)]
        servers[1].kill()
        for writer in writers:
            writer.result()
    replicator.worker.stop(10)  # so that two looks can be compared
    status = replicator.status()
    each = Counter(label for name in names for label in replicator.status(name).owing)
    assert {host.host: host.owed for host in status.hosts} == {server.url: each[server.url] for server in servers}
    assert status.owed == each.total() > 0
    servers[1].start()
    assert replicator.drain(20)
    assert replicator.status().owed == 0
    expected = {name: CAT for name in names if name[-1] not in "147"}
    assert [held(server) for server in servers] == [expected, expected]


def test_the_last_error_is_shown_while_it_lasts(replicators: Replicators, media_servers: Any, faulty: Any) -> None:
    """A host that fails in another way says the newer one."""
    (server,) = media_servers("nginx", extra="location / { return 503; }")
    replicator = replicators([server])
    replicator.save("a", CAT)
    assert replicator.status().hosts[0].error.startswith("answered 503")
    server.stop()
    replicator.save("b", CAT)
    assert "refuses connections" in replicator.status("b").owing[server.url].reason
    assert "refuses connections" in replicator.status().hosts[0].error


def test_status_without_hosts_is_empty(replicators: Replicators) -> None:
    """A single server owes nobody anything."""
    replicator = replicators()
    replicator.save("cat", CAT)
    assert replicator.status().hosts == () and replicator.status().owed == 0
    status = replicator.status("cat")
    assert (status.present, status.hosts, status.holding) == (True, (), ())


@on_every_kind
def test_a_host_for_which_saves_are_refused_is_down_until_it_is_back(
    replicators: Replicators, kind_of_host: str, media_servers: Any
) -> None:
    """Nothing is owed, since all were withdrawn; but whoever asks why uploads fail is told."""
    servers = media_servers(kind_of_host, 2)
    replicator = replicators(servers, fatal_exceptions=True, background=True)
    servers[0].stop()
    for _ in range(2):
        with pytest.raises(ReplicationError):
            replicator.save("cat", CAT)
        away, there = replicator.status().hosts
        assert (away.state, away.owed, away.error) == ("down", 0, REFUSED)
        assert (there.state, there.owed) == ("up", 0)
    servers[0].start()
    eventually(lambda: replicator.status().hosts[0].state == "up", 30)
    assert replicator.status().hosts[0].error == ""


@on_every_kind
def test_a_refused_save_leaves_no_figure(replicators: Replicators, kind_of_host: str, media_servers: Any) -> None:
    """Too few hosts, none of which touched it: nothing is owed, and nobody is shown to hold it."""
    servers = media_servers(kind_of_host, 2)
    replicator = replicators(servers, fatal_exceptions=True)
    servers[0].stop()
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    assert replicator.status().owed == 0
    assert replicator.status("cat").present is False


@on_every_kind
def test_a_background_worker_brings_the_figures_to_nothing(replicators: Replicators, media_server: Any) -> None:
    """Nobody need call drain for it."""
    replicator = replicators([media_server], mode="async", background=True)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(4))
        list(pool.map(lambda number: replicator.save(f"{number}", CAT), range(20)))
    eventually(lambda: replicator.status().owed == 0)
    assert len(held(media_server)) == 20
