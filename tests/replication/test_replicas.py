"""Mode distributed: reading from real hosts, filling one from another, and what is left on this side: nothing.

Which host was asked is read from nginx's access logs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import urllib3
from belief import Replicators, as_new, believed, differences, folders, printed, start, three_nginx
from chaos.proxy import Proxy
from servers import eventually, files, held, on_every_kind, on_nginx_and_node, roots_of

from resto_wsgi import ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import Outbox
from resto_wsgi.replicator import Replicator
from resto_wsgi.transports.http.transport import HttpTransport

CAT = os.urandom(50_000)
LOGGED = "access_log access.log;"
DAY = 86400.0  # seconds


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three nginx that keep an access log, for all tests."""
    with three_nginx(tmp_path_factory.mktemp("servers"), extra=LOGGED) as servers:
        yield servers


@pytest.fixture
def hosts(kind_of_host: str, servers: Any, media_servers: Any) -> Any:
    """Three nginx that are as good as new, or three of another kind."""
    return as_new(servers) if kind_of_host == "nginx" else media_servers(kind_of_host, 3)


@pytest.fixture
def replicators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicators]:
    """Replicators in mode distributed."""
    monkeypatch.setattr("resto_wsgi.replication.lane.IDLE", 0.05)
    monkeypatch.setattr("resto_wsgi.replication.worker.IDLE", 0.05)
    with Replicators(tmp_path / "media", mode="distributed") as replicators:
        yield replicators


_marks = itertools.count()


def asked(server: Any) -> list[str]:
    """The methods of all requests that a server answered since this was asked last, and which name they were for."""
    mark = f"/mark-{next(_marks)}"
    urllib3.request("GET", server.url + mark)
    log = Path(server.folder, "access.log")
    eventually(lambda: mark in log.read_text())
    lines = [line.split('"')[1].split()[:2] for line in log.read_text().splitlines()]
    with contextlib.suppress(ValueError):  # the mark before, if there was one
        lines = lines[max(number for number, (_, path) in enumerate(lines[:-1]) if path.startswith("/mark-")) + 1 :]
    return [f"{method} {path}" for method, path in lines[:-1]]


def read(replicator: Replicator, name: str) -> bytes:
    with replicator.open(name) as file:
        return file.read()


# What is kept here


@on_every_kind
def test_nothing_of_a_file_stays_once_all_hosts_have_it(replicators: Replicators, hosts: Any) -> None:
    """Neither the spool, nor a folder that was made for it, nor what an overwrite or a delete brought back."""
    replicator = replicators(hosts)
    replicator.save("a/b/cat", CAT)
    assert folders(replicator.settings.media_root) == []
    replicator.save("a/b/cat", b"new", overwrite=True)
    replicator.save("a/dog", CAT)
    replicator.delete("a/dog")
    assert (files(replicator.settings.media_root), folders(replicator.settings.media_root)) == ({}, [])
    assert differences(replicator, hosts, {"a/b/cat": b"new"}) == {}


def test_a_save_that_is_refused_leaves_no_folder(replicators: Replicators, hosts: Any) -> None:
    """What was refused leaves nothing."""
    replicator = replicators(hosts)
    hosts[0].stop()
    with pytest.raises(ReplicationError):
        replicator.save("a/b/cat", CAT)
    assert (files(replicator.settings.media_root), folders(replicator.settings.media_root)) == ({}, [])
    assert replicator.listdir() == ([], [])


def test_the_spool_stays_and_is_read_while_a_host_is_away(replicators: Replicators, hosts: Any) -> None:
    """It is what that host will be filled from, so that no host has to be asked; with the host back it is dropped."""
    replicator = replicators(hosts, required=1)
    hosts[0].stop()
    replicator.save("a/cat", CAT)
    assert files(replicator.settings.media_root) == {"a/cat": CAT}
    for host in hosts[1:]:
        asked(host)
    assert (read(replicator, "a/cat"), replicator.size("a/cat"), replicator.exists("a/cat")) == (CAT, len(CAT), True)
    assert [asked(host) for host in hosts[1:]] == [[], []]
    for host in hosts[1:]:
        host.stop()
    assert believed(replicator) == {"a/cat": CAT}
    for host in hosts:
        host.start()
    assert differences(replicator, hosts, {"a/cat": CAT}) == {}


def test_a_delete_or_a_withdrawal_of_what_is_spooled_leaves_no_folder(replicators: Replicators, hosts: Any) -> None:
    """Neither at once nor when the host that was away is back."""
    replicator = replicators(hosts, fatal_exceptions=False)
    hosts[0].stop()
    replicator.save("a/deleted", CAT)
    replicator.delete("a/deleted")
    staged = replicator.stage()
    staged.write(CAT)
    _, publication = replicator.publish(staged, "b/withdrawn")
    replicator.withdraw(publication)
    staged.discard()
    assert replicator.listdir() == ([], [])
    hosts[0].start()
    assert differences(replicator, hosts, {}) == {}


# Who is asked


def test_one_host_is_asked_where_it_answers(replicators: Replicators, hosts: Any) -> None:
    """One request for each question, and the others are left in peace."""
    replicator = replicators(hosts)
    replicator.save("a/cat", CAT)
    for host in hosts:
        asked(host)
    assert replicator.exists("a/cat") and replicator.size("a/cat") == len(CAT) and read(replicator, "a/cat") == CAT
    assert [asked(host) for host in hosts] == [["HEAD /a/cat", "HEAD /a/cat", "GET /a/cat"], [], []]


def test_a_host_that_owes_a_name_is_not_asked_for_it(replicators: Replicators, hosts: Any) -> None:
    """What it has may be an old version."""
    replicator = replicators(hosts)
    replicator.save("cat", CAT)
    replicator.sync(hosts[0].url)
    Path(hosts[0].root, "cat").write_bytes(b"from an old backup")
    for host in hosts:
        asked(host)
    assert read(replicator, "cat") == CAT and replicator.size("cat") == len(CAT)
    assert [asked(host) for host in hosts] == [[], ["GET /cat", "HEAD /cat"], []]


@pytest.mark.parametrize("later", [0.0, 3600.0], ids=["a moment ago", "an hour ago"])
def test_a_host_that_is_known_to_be_down_is_asked_last(replicators: Replicators, hosts: Any, later: float) -> None:
    """Until a delivery says otherwise, and not only while the worker leaves it alone."""
    clock = replicators.clock
    clock.frozen = time.time()
    replicator = replicators(hosts, fatal_exceptions=False)
    replicator.save("cat", CAT)
    hosts[0].stop()
    replicator.save("dog", CAT)
    hosts[0].start()
    for host in hosts:
        asked(host)
    clock.ahead += later
    assert read(replicator, "cat") == CAT
    assert [asked(host) for host in hosts] == [[], ["GET /cat"], []]
    for host in hosts[1:]:
        host.stop()
    assert read(replicator, "cat") == CAT  # last is not never
    assert asked(hosts[0]) == ["GET /cat"]
    for host in hosts[1:]:
        host.start()
    clock.frozen = None
    assert replicator.drain(20)
    for host in hosts:
        asked(host)
    assert read(replicator, "cat") == CAT
    assert [asked(host) for host in hosts] == [["GET /cat"], [], []]


def break_host(kind: str, server: Any, proxy: Proxy, name: str) -> None:
    """Make a host fail in one way; ``proxy`` stands before it."""
    if kind == "dead":
        proxy.set("refuse")
    elif kind == "hangs":
        proxy.set("silent")
    elif kind == "cut":
        proxy.set("cut", after=600, direction="reply")
    elif kind == "wiped":
        os.unlink(os.path.join(server.root, name))
    else:
        server.extra = f"location / {{ return {kind}; }}"
        server.restart()


@pytest.mark.parametrize("kind", ["dead", "hangs", "cut", "wiped", "500", "403", "410", "302 http://127.0.0.1:1/"])
def test_one_host_that_fails_fails_no_read(replicators: Replicators, media_servers: Any, hosts: Any, kind: str) -> None:
    """Whatever is wrong with it, the next one is asked; it costs one timeout at most."""
    (own,) = media_servers("nginx")
    with Proxy(own.port) as proxy:
        replicator = replicators([proxy, *hosts[1:]], timeout=0.3)
        replicator.save("a/cat", CAT)
        break_host(kind, own, proxy, "a/cat")
        asked(hosts[1])
        began = time.monotonic()
        assert read(replicator, "a/cat") == CAT
        assert time.monotonic() - began < 3
        assert asked(hosts[1]) == ["GET /a/cat"]
        assert replicator.size("a/cat") == len(CAT)
        assert replicator.exists("a/cat")
        assert os.listdir(os.path.join(replicator.settings.media_root, ".resto/staging")) != []
        assert files(replicator.settings.media_root) == {}


def test_where_none_answers_the_error_says_so(replicators: Replicators, hosts: Any) -> None:
    """It names every host; it is not the same as a file that is not there."""
    replicator = replicators(hosts)
    replicator.save("cat", CAT)
    for host in hosts:
        host.stop()
    for ask in (replicator.open, replicator.size, replicator.exists):
        with pytest.raises(ReplicationError) as caught:
            ask("cat")
        error = caught.value
        assert (error.action, error.name, error.done, error.required) == ("read", "cat", 0, 1)
        assert error.failures.keys() == {host.url for host in hosts}
        assert str(error).startswith("read 'cat': done by 0 media servers, 1 required: ")
    assert files(replicator.settings.media_root) == {}


@on_every_kind
def test_a_file_that_one_host_lost_is_not_absent_while_the_others_are_away(
    replicators: Replicators, hosts: Any
) -> None:
    """Else its name would seem to be free, and a save would overwrite it on them."""
    replicator = replicators(hosts, fatal_exceptions=False)
    replicator.save("cat", CAT)
    os.unlink(os.path.join(hosts[0].root, "cat"))
    for host in hosts[1:]:
        host.stop()
    for ask in (replicator.open, replicator.size, replicator.exists):
        with pytest.raises(ReplicationError, match="read 'cat'"):
            ask("cat")
    with contextlib.suppress(ReplicationError):
        assert replicator.save("cat", b"another").name != "cat"
    for host in hosts[1:]:
        host.start()
    assert replicator.drain(20)
    assert read(replicator, "cat") == CAT


@on_every_kind
def test_a_folder_of_the_hosts_is_no_file(replicators: Replicators, hosts: Any) -> None:
    """They answer it with a redirect, which is no failure: the name can be asked for, and cannot be saved."""
    replicator = replicators(hosts)
    replicator.save("a/cat", CAT)
    assert not replicator.exists("a")
    for ask in (replicator.open, replicator.size):
        with pytest.raises(FileNotFoundError):
            ask("a")


def test_what_was_deleted_is_absent_whatever_a_host_has(replicators: Replicators, hosts: Any) -> None:
    """A host that was restored from a backup resurrects nothing; nobody need be asked."""
    replicator = replicators(hosts)
    replicator.save("cat", CAT)
    replicator.delete("cat")
    Path(hosts[0].root, "cat").write_bytes(CAT)
    for host in hosts:
        asked(host)
    assert not replicator.exists("cat")
    with pytest.raises(FileNotFoundError):
        replicator.open("cat")
    assert [asked(host) for host in hosts] == [[], [], []]
    assert replicator.save("cat", b"new").name == "cat"
    assert differences(replicator, hosts, {"cat": b"new"}) == {}


def test_a_file_is_read_whole_although_its_host_dies_then(replicators: Replicators, hosts: Any) -> None:
    """What is handed out is a copy; it can be read twice, and leaves nothing when it is closed."""
    replicator = replicators(hosts)
    content = os.urandom(3_000_000)
    replicator.save("large", content)
    with replicator.open("large") as file:
        for host in hosts:
            host.kill()
        assert b"".join(iter(lambda: file.read(65536), b"")) == content
        file.seek(0)
        assert file.read(1000) == content[:1000]
        assert files(replicator.settings.media_root) == {}


# Filling


def times(host: Any) -> dict[str, int]:
    """The mtimes of all that a host holds; of a tree those that all of its nodes have."""
    names = held(host)
    found = [{name: int(os.stat(os.path.join(root, name)).st_mtime) for name in names} for root in roots_of(host)]
    assert [each for each in found if each != found[0]] == []
    return found[0]


@on_every_kind
def test_a_host_that_was_wiped_is_filled_from_another(replicators: Replicators, hosts: Any) -> None:
    """The same bytes and the same times, so that validators of the public's caches hold."""
    replicator = replicators(hosts)
    saved = {f"a/{number}": os.urandom(1000 * number) for number in range(8)}
    for name, content in saved.items():
        replicator.save(name, content)
        for host in hosts:
            os.utime(os.path.join(host.root, name), (1e9, 1e9))
    for name in saved:
        os.unlink(os.path.join(hosts[1].root, name))
    hosts[0].stop()  # one source is enough
    assert replicator.sync(hosts[1].url) == 8
    assert replicator.drain(20, host=hosts[1].url)
    hosts[0].start()
    assert times(hosts[1]) == dict.fromkeys(saved, 1_000_000_000)
    assert differences(replicator, hosts, saved) == {}


def note_as_before(replicator: Replicator, name: str, content: bytes) -> None:
    """Have the outbox believe of a name what it believed before: as one from a backup does."""
    replicator._outbox.note_present(name, sha256(content).hexdigest())


def test_what_an_old_outbox_knows_no_more_is_read_and_replaced(
    replicators: Replicators, hosts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """All hosts hold another version than it noted, so the newest one counts; a sync brings it to the others."""
    replicator = replicators(hosts)
    for name in ("read", "replaced", "differs"):
        replicator.save(name, b"new")
        note_as_before(replicator, name, b"old")
    for number, host in enumerate(hosts):
        Path(host.root, "differs").write_bytes(b"%d" % number)
        os.utime(Path(host.root, "differs"), (1e9 + number, 1e9 + number))
    assert read(replicator, "read") == b"new"
    assert "no media server holds 'read' as it was noted" in caplog.text
    replicator.save("replaced", b"newer", overwrite=True)
    assert read(replicator, "differs") == b"2"
    replicator.sync(hosts[0].url)
    assert replicator.drain(20)
    assert held(hosts[0]) == {"read": b"new", "replaced": b"newer", "differs": b"2"}


def test_a_host_that_is_away_may_hold_the_version_that_is_noted(replicators: Replicators, hosts: Any) -> None:
    """So nothing else is believed until it answers, and the error says so; then it is the one that is read."""
    replicator = replicators(hosts)
    replicator.save("cat", CAT)
    for host in hosts[1:]:
        Path(host.root, "cat").write_bytes(b"from a backup")
    hosts[0].stop()
    with pytest.raises(ReplicationError, match="holds another version than was noted"):
        read(replicator, "cat")
    hosts[0].start()
    assert read(replicator, "cat") == CAT


def test_what_no_host_holds_any_more_is_parked_and_said(replicators: Replicators, hosts: Any) -> None:
    """Nothing can be done about it, and nobody is kept waiting."""
    replicator = replicators(hosts)
    replicator.save("cat", CAT)
    for host in hosts:
        os.unlink(os.path.join(host.root, "cat"))
    replicator.sync(hosts[0].url)
    assert replicator.drain(5) is False
    (delivery,) = replicator.status("cat").owing.values()
    assert delivery.parked and delivery.reason == "no media server holds it any more"
    assert replicator.status().hosts[0].state == "up"
    Path(hosts[2].root, "cat").write_bytes(CAT)
    assert replicator.drain(20, parked=True) is True
    assert held(hosts[0]) == {"cat": CAT}


def test_a_sync_resurrects_nothing_that_was_deleted(replicators: Replicators, hosts: Any) -> None:
    """A host that comes back with deleted files loses them, and fills nobody with them."""
    replicator = replicators(hosts)
    for name in ("cat", "dog"):
        replicator.save(name, CAT)
    replicator.delete("cat")
    for host in hosts[:2]:
        Path(host.root, "cat").write_bytes(CAT)
        replicator.sync(host.url)
    assert replicator.drain(20)
    replicator.sync(hosts[2].url)
    assert differences(replicator, hosts, {"dog": CAT}) == {}


# Changing


@on_every_kind
@pytest.mark.parametrize("down", [1, 2])
def test_an_overwrite_that_too_few_take_brings_the_old_version_back(
    replicators: Replicators, hosts: Any, down: int
) -> None:
    """On every host, with its time, although no master is kept: it was fetched from a host before."""
    replicator = replicators(hosts)
    replicator.save("a/cat", CAT)
    for root in (root for host in hosts for root in roots_of(host)):
        os.utime(os.path.join(root, "a/cat"), (1e9, 1e9))
    for host in hosts[:down]:
        host.stop()
    with pytest.raises(ReplicationError, match="save 'a/cat'"):
        replicator.save("a/cat", b"new", overwrite=True)
    assert [held(host) for host in hosts] == [{"a/cat": CAT}] * 3
    for host in hosts[:down]:
        host.start()
    assert differences(replicator, hosts, {"a/cat": CAT}) == {}
    assert [times(host) for host in hosts] == [{"a/cat": 1_000_000_000}] * 3


def test_an_overwrite_of_what_nobody_can_give_back_is_refused(replicators: Replicators, hosts: Any) -> None:
    """Before anything is changed."""
    replicator = replicators(hosts)
    replicator.save("cat", CAT)
    for host in hosts:
        host.stop()
    with pytest.raises(ReplicationError):
        replicator.save("cat", b"new", overwrite=True)
    for host in hosts:
        host.start()
    assert differences(replicator, hosts, {"cat": CAT}) == {}


@on_nginx_and_node
def test_two_writers_of_one_name_leave_the_same_version_everywhere(
    replicators: Replicators, hosts: Any, tmp_path: Path
) -> None:
    """Two processes overwrite it 50 times each, while one host is restarted; no version is a mixture."""
    script = """
        import sys
        from resto_wsgi import Replicator
        root, mark, *hosts = sys.argv[1:]
        with Replicator(
            media_root=root, media_hosts=hosts, mode="distributed", fsync=False, fatal_exceptions=False
        ) as replicator:
            for number in range(50):
                replicator.save("a/cat", f"{mark} {number:02} ".encode() * 2000, overwrite=True)
    """
    urls = [host.url for host in hosts]
    processes = [start(script, tmp_path / "media", mark, *urls) for mark in "ab"]
    eventually(lambda: held(hosts[1]))
    hosts[1].kill()
    time.sleep(0.1)  # a moment of absence, among a hundred writes
    hosts[1].start()
    for process in processes:
        printed(process)
    replicator = replicators(hosts)
    assert replicator.drain(20)
    (content,) = {held(host)["a/cat"] for host in hosts}
    assert content in {f"{mark} 49 ".encode() * 2000 for mark in "ab"}
    assert differences(replicator, hosts, {"a/cat": content}) == {}


class SlowToLook(HttpTransport):
    """Whoever asks first for a size gets the answer and then dawdles."""

    def __init__(self) -> None:
        super().__init__(timeout=2)
        self.looked, self.go_on = threading.Event(), threading.Event()

    def head(self, host: Host, name: str) -> int | None:
        size = super().head(host, name)
        if not self.looked.is_set():
            self.looked.set()
            self.go_on.wait(10)
        return size


def test_a_name_that_was_found_free_is_not_taken_by_another_meanwhile(replicators: Replicators, hosts: Any) -> None:
    """There is no master whose folder would tell them apart, so the lock of the name has to."""
    transport = SlowToLook()
    replicator = replicators(hosts, transport=transport)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(replicator.save, "a/cat", b"first")
        assert transport.looked.wait(10)
        second = pool.submit(replicator.save, "a/cat", b"second")
        wait([second], 0.3)  # long enough to be done, if nothing held it up
        transport.go_on.set()
        names = [first.result().name, second.result().name]
    assert names[0] == "a/cat" != names[1]
    assert differences(replicator, hosts, dict(zip(names, (b"first", b"second"), strict=True))) == {}


@on_every_kind
def test_a_delete_with_a_host_away_stands_and_stays_owed(replicators: Replicators, hosts: Any) -> None:
    """The caller is told so; the name is gone at once, and from that host when it is back."""
    replicator = replicators(hosts)
    replicator.save("a/cat", CAT)
    hosts[1].stop()
    with pytest.raises(ReplicationError) as caught:
        replicator.delete("a/cat")
    assert (caught.value.action, caught.value.done, caught.value.required) == ("delete", 2, 3)
    assert list(caught.value.failures) == [hosts[1].url]
    assert "it stays owed" in str(caught.value)
    assert not replicator.exists("a/cat")
    assert replicator.listdir() == ([], [])
    assert held(hosts[1]) == {"a/cat": CAT}
    hosts[1].start()
    assert not replicator.exists("a/cat")
    assert differences(replicator, hosts, {}) == {}


# Tombstones


def tombstones(replicator: Replicator) -> list[str]:
    outbox = Outbox(os.path.join(replicator.settings.media_root, ".resto/outbox.sqlite3"))
    try:
        return list(outbox.tombstones())
    finally:
        outbox.close()


def test_tombstones_are_kept_as_long_as_the_setting_says(replicators: Replicators, hosts: Any) -> None:
    """Then they are purged by the housekeeping, but not where a host is still owed the delete."""
    clock = replicators.clock
    clock.frozen = time.time()
    replicator = replicators(hosts, tombstone_days=10, fatal_exceptions=False)
    for name in ("early", "late", "owed"):
        replicator.save(name, CAT)
    replicator.delete("early")
    clock.ahead += 5 * DAY
    replicator.delete("late")
    clock.ahead += 4.9 * DAY
    replicator.sweep()
    assert tombstones(replicator) == ["early", "late"]
    clock.ahead += 0.2 * DAY
    replicator.sweep()
    assert tombstones(replicator) == ["late"]
    hosts[0].stop()
    replicator.delete("owed")
    clock.ahead += 30 * DAY
    replicator.sweep()
    assert tombstones(replicator) == ["owed"]
    hosts[0].start()
    clock.frozen = None
    assert differences(replicator, hosts, {}) == {}
    clock.ahead += 30 * DAY
    replicator.sweep()
    assert tombstones(replicator) == []


def test_a_name_that_was_saved_again_has_no_tombstone(replicators: Replicators, hosts: Any) -> None:
    """A sync fills it, and does not delete it."""
    replicator = replicators(hosts)
    replicator.save("cat", b"old")
    replicator.delete("cat")
    replicator.save("cat", b"new")
    assert tombstones(replicator) == []
    os.unlink(os.path.join(hosts[0].root, "cat"))
    replicator.sync(hosts[0].url)
    assert differences(replicator, hosts, {"cat": b"new"}) == {}


# Folders


def test_listdir_shows_what_was_saved_whether_spooled_or_not(replicators: Replicators, hosts: Any) -> None:
    """Names below a folder with a like name are not taken for its own."""
    replicator = replicators(hosts, fatal_exceptions=False)
    for name in ("a/b/1", "a/2", "ab/3", "a-b", "4"):
        replicator.save(name, b"")
    hosts[0].stop()
    for name in ("a/c/5", "6"):
        replicator.save(name, b"")
    replicator.delete("a-b")
    assert replicator.listdir() == (["a", "ab"], ["4", "6"])
    assert replicator.listdir("a") == (["b", "c"], ["2"])
    assert replicator.listdir("a/b") == ([], ["1"])
    for missing in ("b", "a/2", "a-b"):
        with pytest.raises(FileNotFoundError):
            replicator.listdir(missing)


def test_many_readers_and_writers_never_find_a_name_absent(replicators: Replicators, hosts: Any) -> None:
    """While it is overwritten, from the spool and from hosts in turn, each read is a whole version."""
    replicator = replicators(hosts)
    replicator.save("a/cat", bytes([0]) * 20_000)
    done = False

    def reader() -> int:
        reads = 0
        while not done:
            content = read(replicator, "a/cat")
            assert len(content) == 20_000 and content == content[:1] * 20_000
            assert replicator.exists("a/cat") and replicator.size("a/cat") == 20_000
            reads += 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(reader) for _ in range(3)]
        try:
            for number in range(20):
                replicator.save("a/cat", bytes([number]) * 20_000, overwrite=True)
        finally:
            done = True
        assert sum(each.result() for each in readers) > 5
    assert differences(replicator, hosts, {"a/cat": bytes([19]) * 20_000}) == {}
