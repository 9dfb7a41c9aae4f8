"""The replicator with real media servers behind it; a host that fails in a way of its own is a FaultyServer."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from servers import REFUSED, FaultyServer, eventually, files, held, on_every_kind, on_nginx_and_node, roots_of

from resto_wsgi.config import Settings
from resto_wsgi.errors import ConfigError, DeliveryError, MediaRootError, NameRejected, ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import MediaRoot
from resto_wsgi.replication.outcome import errors_of
from resto_wsgi.replicator import Parts, Replicator

CAT = b"\xff\xd8 a cat \r\n" * 5000

Replicate = Callable[..., Replicator]


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Replicate]:
    """``replicate(servers, required=2)`` returns a replicator with these hosts and that setting."""
    made: list[Replicator] = []

    def replicate(servers: Any = (), **keywords: Any) -> Replicator:
        settings = {"media_root": tmp_path / "media", "timeout": 2, "fsync": False, "background": False} | keywords
        if any(isinstance(server, FaultyServer) for server in servers):  # whose requests are counted
            settings = {"parts": Parts(apart=True)} | settings
        made.append(Replicator(media_hosts=[server.url for server in servers], **settings))
        return made[-1]

    yield replicate
    for replicator in made:
        replicator.close()


def everywhere(replicator: Replicator, servers: Any, expected: dict[str, bytes]) -> bool:
    """True where the master, staging included, and every host have exactly these files."""
    return all(found == expected for found in (files(replicator.settings.media_root), *map(held, servers)))


def descriptors() -> int:
    gc.collect()  # what other tests have left to it is not ours to count
    return len(os.listdir("/proc/self/fd"))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("resto ")]


def run(script: str, *arguments: object) -> Any:
    """Run a script in an interpreter of its own and return the JSON that it printed."""
    python = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(python, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Saving


def middle_of(path: Path) -> Any:
    file = path.open("rb")
    file.seek(6)
    return file


SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda folder: CAT,
    "bytearray": lambda folder: bytearray(CAT),
    "memoryview": lambda folder: memoryview(CAT),
    "memoryview of items": lambda folder: memoryview(CAT).cast("I"),
    "path": lambda folder: folder / "cat",
    "path as text": lambda folder: str(folder / "cat"),
    "file": lambda folder: (folder / "cat").open("rb"),
    "raw file": lambda folder: (folder / "cat").open("rb", buffering=0),
    "middle of a file": lambda folder: middle_of(folder / "more"),
    "file in memory": lambda folder: io.BytesIO(CAT),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_save_takes_any_source_of_bytes(replicate: Replicate, hosts: Any, tmp_path: Path, kind: str) -> None:
    """The very bytes, from where a file stands, are on the master and every host, and the result says so."""
    (tmp_path / "cat").write_bytes(CAT)
    (tmp_path / "more").write_bytes(b"before" + CAT)
    replicator = replicate(hosts)
    source = SOURCES[kind](tmp_path)
    stored = replicator.save("a/cat.jpg", source)
    if hasattr(source, "close"):
        assert not source.closed
        source.close()
    assert everywhere(replicator, hosts, {"a/cat.jpg": CAT})
    assert (stored.name, stored.size, stored.sha256) == ("a/cat.jpg", len(CAT), hashlib.sha256(CAT).hexdigest())
    assert stored.url == "/media/a/cat.jpg"
    assert stored.outcome == {host.url: None for host in hosts}


@pytest.mark.parametrize("content", [b"", b"\0" * 5_000_000])
def test_save_takes_files_of_any_size(replicate: Replicate, hosts: Any, content: bytes) -> None:
    """From no byte to more than is read at once."""
    replicator = replicate(hosts)
    assert replicator.save("file", io.BytesIO(content)).size == len(content)
    assert everywhere(replicator, hosts, {"file": content})


@pytest.mark.parametrize("source", [io.StringIO("text"), io.StringIO(""), 7, None, ["a"]])
def test_what_is_no_source_of_bytes_is_a_type_error(replicate: Replicate, hosts: Any, source: Any) -> None:
    """An empty text file, too, before anything is saved."""
    replicator = replicate(hosts)
    with pytest.raises(TypeError, match="save takes"):
        replicator.save("cat", source)
    assert everywhere(replicator, hosts, {})


def test_a_file_that_has_nothing_to_read_yet_is_not_at_its_end(replicate: Replicate) -> None:
    """A non-blocking read gives None, and what follows it must not be lost in silence."""
    replicator = replicate()
    out, into = os.pipe()
    os.set_blocking(out, False)
    with open(out, "rb", buffering=0) as reader, open(into, "wb", buffering=0) as writer:
        writer.write(b"the first half")
        with pytest.raises(TypeError, match="non-blocking"):
            replicator.save("cat", reader)
    assert everywhere(replicator, (), {})


def test_a_source_that_fails_leaves_nothing(replicate: Replicate, hosts: Any, tmp_path: Path) -> None:
    """Its exception goes on to the caller."""

    class Broken:
        def __init__(self) -> None:
            self.blocks = [b"x" * 1000]

        def read(self, size: int) -> bytes:
            return self.blocks.pop() if self.blocks else 1 // 0  # type: ignore[return-value]

    replicator = replicate(hosts)
    before = descriptors()
    with pytest.raises(ZeroDivisionError):
        replicator.save("cat", Broken())
    with pytest.raises(FileNotFoundError):
        replicator.save("cat", tmp_path / "missing")
    assert everywhere(replicator, hosts, {})
    assert descriptors() <= before + 1  # the lock of the room


def test_save_never_overwrites_unless_it_is_told_to(replicate: Replicate, hosts: Any) -> None:
    """The second file gets a name of its own, with the extension of the first."""
    replicator = replicate(hosts)
    replicator.save("a/cat.jpg", b"first")
    second = replicator.save("a/cat.jpg", b"second").name
    assert second.startswith("a/cat-") and second.endswith(".jpg")
    assert everywhere(replicator, hosts, {"a/cat.jpg": b"first", second: b"second"})
    third = replicator.save("a/cat.jpg", b"third", overwrite=True)
    assert third.name == "a/cat.jpg"
    assert everywhere(replicator, hosts, {"a/cat.jpg": b"third", second: b"second"})


def test_overwrite_of_a_new_name_saves_it(replicate: Replicate, hosts: Any) -> None:
    """There need not be anything to replace."""
    replicator = replicate(hosts)
    replicator.save("a/cat", CAT, overwrite=True)
    assert everywhere(replicator, hosts, {"a/cat": CAT})


@on_every_kind
def test_a_name_that_is_a_folder_is_varied_or_refused(replicate: Replicate, hosts: Any) -> None:
    """What is in the folder stays."""
    replicator = replicate(hosts)
    replicator.save("a/cat", CAT)
    varied = replicator.save("a", b"x").name
    assert varied.startswith("a-")
    with pytest.raises(NameRejected, match="is a folder"):
        replicator.save("a", b"x", overwrite=True)
    with pytest.raises(NameRejected, match="is a file"):
        replicator.save("a/cat/kitten", b"x")
    with pytest.raises(NameRejected, match="only files are deleted"):
        replicator.delete("a")
    assert everywhere(replicator, hosts, {"a/cat": CAT, varied: b"x"})


@on_every_kind
def test_a_name_is_normalised(replicate: Replicate, hosts: Any) -> None:
    """A name in NFD is the same file as the one in NFC."""
    replicator = replicate(hosts)
    assert replicator.save("e\N{COMBINING ACUTE ACCENT}", CAT).name == "é"
    assert replicator.exists("e\N{COMBINING ACUTE ACCENT}") and replicator.exists("é")
    assert everywhere(replicator, hosts, {"é": CAT})


@on_nginx_and_node
def test_threads_that_save_one_name_at_once_get_a_name_each(replicate: Replicate, hosts: Any) -> None:
    """Each name has its own bytes, everywhere."""
    replicator = replicate(hosts)
    barrier = threading.Barrier(20)

    def save(number: int) -> str:
        barrier.wait(10)
        return replicator.save("a/cat.jpg", bytes([number]) * 10_000).name

    with ThreadPoolExecutor(20) as pool:
        names = list(pool.map(save, range(20)))
    assert "a/cat.jpg" in names
    assert everywhere(replicator, hosts, {name: bytes([number]) * 10_000 for number, name in enumerate(names)})
    assert len(held(hosts[0])) == 20


def test_processes_that_save_one_name_at_once_get_a_name_each(replicate: Replicate, hosts: Any) -> None:
    """The winner of the plain name is one, and no file is lost."""
    script = """
        import json, sys
        from resto_wsgi.replicator import Parts, Replicator
        root, mark, *hosts = sys.argv[1:]
        with Replicator(media_root=root, media_hosts=hosts, fsync=False) as replicator:
            print(json.dumps([replicator.save("cat", mark.encode() * 5000).name for _ in range(10)]))
    """
    replicator = replicate(hosts)
    urls = [host.url for host in hosts]
    with ThreadPoolExecutor(3) as pool:
        names = list(pool.map(lambda mark: run(script, replicator.settings.media_root, mark, *urls), "abc"))
    expected = {name: mark.encode() * 5000 for mark, each in zip("abc", names, strict=True) for name in each}
    assert len(expected) == 30 and "cat" in expected
    assert everywhere(replicator, hosts, expected)


@on_nginx_and_node
def test_writers_of_one_name_leave_every_host_equal_to_the_master(replicate: Replicate, hosts: Any) -> None:
    """Saves, overwrites and deletes of eight threads, in any order."""
    replicator = replicate(hosts)

    def write(number: int) -> None:
        for round_ in range(6):
            if number % 4 == 3:
                replicator.delete("cat")
            else:
                replicator.save("cat", f"{number} {round_} ".encode() * 2000, overwrite=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert everywhere(replicator, hosts, files(replicator.settings.media_root))
    assert set(files(replicator.settings.media_root)) <= {"cat"}


def test_without_hosts_a_save_is_on_the_master(replicate: Replicate) -> None:
    """A single server is the way to begin."""
    replicator = replicate()
    assert replicator.save("cat", CAT).outcome == {}
    replicator.delete("cat")
    assert everywhere(replicator, (), {})


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The caller is told that it is full, and neither a file nor a descriptor is left."""
    script = """
        import io, json, os, resource, signal, sys
        from resto_wsgi import MediaRootError, Replicator
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        replicator = Replicator(media_root=sys.argv[1])
        replicator.save("small", b"x")
        before = len(os.listdir("/proc/self/fd"))
        try:
            full = replicator.save("large", io.BytesIO(bytes(1_000_000))).name
        except MediaRootError as error:
            full = error.full
        print(json.dumps([full, len(os.listdir("/proc/self/fd")) - before]))
        os._exit(0)
    """
    assert run(script, tmp_path) == [True, 0]
    assert files(tmp_path) == {"small": b"x"}


# Too few hosts


@on_every_kind
def test_too_few_hosts_withdraw_the_file_everywhere(replicate: Replicate, hosts: Any) -> None:
    """Also from the hosts that took it; the error names each host that did not."""
    replicator = replicate(hosts)
    hosts[1].stop()
    with pytest.raises(ReplicationError) as caught:
        replicator.save("a/cat", CAT)
    error = caught.value
    assert (error.action, error.name, error.done, error.required) == ("save", "a/cat", 2, 3)
    assert list(error.failures) == [hosts[1].url]
    failure = error.failures[hosts[1].url]
    assert (failure.host, failure.name, failure.status) == (hosts[1].url, "a/cat", None)
    assert everywhere(replicator, hosts, {})


@pytest.mark.parametrize("behaviour", ["reset", "hang", "garbage"])
def test_a_host_that_may_have_taken_a_withdrawn_file_owes_it(
    replicate: Replicate, nginx: Any, faulty: Any, behaviour: Any
) -> None:
    """It is not made to cost its timeout a second time; what it may do late is seen to later."""
    server = faulty(behaviour)
    replicator = replicate([nginx, server], timeout=0.3)
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    assert everywhere(replicator, [nginx], {})
    assert server.connections == 1
    (delivery,) = replicator.status("cat").owing.values()
    assert (delivery.host.url, delivery.attempts) == (server.url, 1)
    assert delivery.unsure_until > time.time() + 10


@on_every_kind
def test_a_host_that_failed_is_told_to_delete(replicate: Replicate, media_server: Any, faulty: Any) -> None:
    """With 500 it may have taken the file, so the withdrawal goes there as well, and stays owed where it fails."""
    server = faulty(("status", 500))
    replicator = replicate([media_server, server])
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    assert everywhere(replicator, [media_server], {})
    assert [seen.method for seen in server.requests] == ["PUT", "DELETE"]
    assert list(replicator.status("cat").owing) == [server.url]


@on_every_kind
@pytest.mark.parametrize("behaviour", ["refuse", ("status", 403), "early_413"])
def test_a_host_that_did_not_touch_a_withdrawn_file_owes_nothing(
    replicate: Replicate, media_server: Any, faulty: Any, behaviour: Any
) -> None:
    """What was refused leaves nothing, no delivery either."""
    server = faulty(behaviour)
    replicator = replicate([media_server, server])
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    assert everywhere(replicator, [media_server], {})
    assert [seen.method for seen in server.requests] in ([], ["PUT"])
    assert replicator.status().owed == 0


@on_every_kind
def test_too_few_hosts_bring_the_old_version_back_everywhere(replicate: Replicate, hosts: Any) -> None:
    """With its mtime, so that validators of the public's caches are what they were."""
    replicator = replicate(hosts)
    replicator.save("cat", b"old")
    mtimes = [int(os.stat(os.path.join(root, "cat")).st_mtime) for root in roots(replicator, hosts)]
    hosts[2].stop()
    with pytest.raises(ReplicationError):
        replicator.save("cat", b"new", overwrite=True)
    assert everywhere(replicator, hosts, {"cat": b"old"})
    assert [int(os.stat(os.path.join(root, "cat")).st_mtime) for root in roots(replicator, hosts)] == mtimes


def roots(replicator: Replicator, servers: Any) -> list[str]:
    """The folders of the master and of every host, all nodes of a tree among them, when they hold the same."""
    assert all(held(server) is not None for server in servers)
    return [replicator.settings.media_root, *(root for server in servers for root in roots_of(server))]


@pytest.mark.parametrize(
    ("required", "down", "fails"),
    [
        ("all", 0, False),
        ("all", 1, True),
        ("majority", 1, False),
        ("majority", 2, True),
        (1, 2, False),
        (1, 3, True),
        (2, 1, False),
        (2, 2, True),
        (3, 1, True),
    ],
)
def test_as_many_hosts_as_required_must_hold_the_file(
    replicate: Replicate, hosts: Any, caplog: pytest.LogCaptureFixture, required: Any, down: int, fails: bool
) -> None:
    """With enough, the others are only logged; with too few, nothing is left."""
    replicator = replicate(hosts, required=required)
    for host in hosts[:down]:
        host.stop()
    if fails:
        with pytest.raises(ReplicationError) as caught:
            replicator.save("cat", CAT)
        assert (caught.value.done, len(caught.value.failures)) == (3 - down, down)
        assert everywhere(replicator, hosts, {})
        return
    stored = replicator.save("cat", CAT)
    assert [failure is None for failure in stored.outcome.values()] == [False] * down + [True] * (3 - down)
    assert everywhere(replicator, hosts[down:], {"cat": CAT})
    assert [record.message.startswith("save not replicated, and owed: ") for record in caplog.records] == [True] * down


def test_a_failed_withdrawal_is_logged_and_the_first_error_is_raised(
    replicate: Replicate, nginx: Any, faulty: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller hears of the save alone."""
    replicator = replicate([nginx, faulty(("status", 500))])
    with pytest.raises(ReplicationError, match="save 'cat': done by 1 media server, 2 required"):
        replicator.save("cat", CAT)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "withdraw not replicated, and owed" in caplog.text


def test_without_fatal_exceptions_each_failure_is_logged(
    replicate: Replicate, hosts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The save returns what happened on each host; the log has one line for each failure, and no traceback."""
    replicator = replicate(hosts, fatal_exceptions=False)
    hosts[0].stop()
    hosts[2].stop()
    stored = replicator.save("cat", CAT)
    assert isinstance(stored.outcome[hosts[0].url], DeliveryError)
    assert stored.outcome[hosts[1].url] is None
    assert everywhere(replicator, hosts[1:2], {"cat": CAT})
    assert [(record.name, record.levelno, record.exc_info) for record in caplog.records] == [
        ("resto_wsgi", logging.ERROR, None)
    ] * 2
    for record, host in zip(caplog.records, (hosts[0], hosts[2]), strict=True):
        assert record.message == f"save not replicated, and owed: {host.url}: 'cat': {REFUSED}"
    caplog.clear()
    replicator.delete("cat")
    assert not replicator.exists("cat") and held(hosts[1]) == {}
    assert [record.message.split(":")[0] for record in caplog.records] == ["delete not replicated, and owed"] * 2


def test_show_traceback_logs_the_traceback(replicate: Replicate, faulty: Any, caplog: pytest.LogCaptureFixture) -> None:
    """For those who look for a defect."""
    replicator = replicate([faulty("refuse")], fatal_exceptions=False, show_traceback=True)
    replicator.save("cat", CAT)
    (record,) = caplog.records
    assert record.exc_info and record.exc_info[0] is DeliveryError
    assert "Traceback" in caplog.text


def test_a_name_writes_no_log_line_of_its_own(
    replicate: Replicate, faulty: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What a client chose is shown escaped."""
    replicator = replicate([faulty("refuse")], fatal_exceptions=False)
    replicator.save("<b>é", CAT)
    assert "'\\x3cb\\x3e\\xe9'" in caplog.records[0].message


# Deleting


def test_delete_is_on_every_host(replicate: Replicate, hosts: Any) -> None:
    """A name that is not there is deleted all the same, also where only a host has it."""
    replicator = replicate(hosts)
    replicator.save("a/cat", CAT)
    replicator.delete("a/cat")
    replicator.delete("a/cat")
    assert everywhere(replicator, hosts, {})
    Path(hosts[0].root, "stray").write_bytes(b"x")
    replicator.delete("stray")
    assert everywhere(replicator, hosts, {})


@on_every_kind
def test_delete_with_a_host_down_is_an_error_and_may_be_repeated(replicate: Replicate, hosts: Any) -> None:
    """Whatever ``required`` says, a replica that stays would still be served."""
    replicator = replicate(hosts, required=1)
    replicator.save("cat", CAT)
    hosts[0].stop()
    with pytest.raises(ReplicationError) as caught:
        replicator.delete("cat")
    error = caught.value
    assert (error.action, error.name, error.done, error.required) == ("delete", "cat", 2, 3)
    assert list(error.failures) == [hosts[0].url]
    assert not replicator.exists("cat")
    assert [held(host) for host in hosts] == [{"cat": CAT}, {}, {}]
    hosts[0].start()
    replicator.delete("cat")
    assert everywhere(replicator, hosts, {})


# Reading


def test_open_streams_from_the_master(replicate: Replicate) -> None:
    """It is an open file that is read bit by bit, whatever happens to the name."""
    replicator = replicate()
    replicator.save("cat", CAT)
    with replicator.open("cat") as file:
        assert file.read(10) == CAT[:10]
        replicator.delete("cat")
        assert file.fileno() >= 0
        assert b"".join(iter(lambda: file.read(4096), b"")) == CAT[10:]
    with pytest.raises(FileNotFoundError):
        replicator.open("cat")


def test_what_there_is_can_be_asked(replicate: Replicate) -> None:
    """Of a file, of a folder, and of what is not there."""
    replicator = replicate(media_url="https://static.example/m")
    replicator.save("a b/é #1.txt", b"12345")
    replicator.save("top", b"")
    assert (replicator.exists("a b/é #1.txt"), replicator.exists("a b"), replicator.exists("no")) == (
        True,
        False,
        False,
    )
    assert (replicator.size("a b/é #1.txt"), replicator.size("top")) == (5, 0)
    assert replicator.url("a b/é #1.txt") == "https://static.example/m/a%20b/%C3%A9%20%231.txt"
    assert replicator.path("top") == os.path.join(replicator.settings.media_root, "top")
    assert replicator.listdir() == replicator.listdir("/") == (["a b"], ["top"])
    assert replicator.listdir("a b") == replicator.listdir("a b/") == ([], ["é #1.txt"])
    for name in ("draft~", "e\u0301", "tab\tname"):  # whoever has a shell there
        Path(replicator.path("a b"), name).touch()
    folders, files = replicator.listdir("a b")
    for name in files:
        replicator.open(f"a b/{name}").close()
    assert (folders, files) == ([], ["é #1.txt"]), "what open refuses is not shown"
    for ask in (replicator.size, replicator.listdir, replicator.open):
        with pytest.raises(FileNotFoundError):
            ask("missing")


HOSTILE: list[Any] = ["", "{outside}", "../outside", "a/../../x", "a//b", "a/", ".", ".resto/staging", "a/.htaccess"]
HOSTILE += ["a\\b", "a\nb", "a\0b", "a\u202eb", "x" * 241, "a/" * 600 + "b", "file~", "\ud800", b"bytes", None]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_rejected_by_every_method(
    replicate: Replicate, hosts: Any, tmp_path: Path, name: Any
) -> None:
    """Nothing is read, written or asked of any host."""
    # Where the check is broken, these calls really delete: the file outside is one that this test made.
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    if name == "{outside}":
        name = str(outside)
    replicator = replicate(hosts)
    replicator.save("cat", CAT)
    for call in (
        lambda: replicator.save(name, b"x"),
        lambda: replicator.save(name, b"x", overwrite=True),
        lambda: replicator.delete(name),
        lambda: replicator.open(name),
        lambda: replicator.exists(name),
        lambda: replicator.size(name),
        lambda: replicator.url(name),
        lambda: replicator.path(name),
    ):
        with pytest.raises(NameRejected):
            call()
    if isinstance(name, str) and name.strip("/") and not name.endswith("/"):
        with pytest.raises(NameRejected):
            replicator.listdir(name)
    assert outside.read_bytes() == b"not ours"
    assert everywhere(replicator, hosts, {"cat": CAT})


# The parts of a save


@on_every_kind
def test_a_publication_can_be_withdrawn_everywhere(replicate: Replicate, hosts: Any) -> None:
    """A new name is gone again, and one that replaced another gives way to it."""
    replicator = replicate(hosts)
    replicator.save("old", b"old")
    for name, overwrite in (("new", False), ("old", True)):
        staged = replicator.stage()
        staged.write(CAT)
        stored, publication = replicator.publish(staged, name, overwrite=overwrite)
        assert stored.size == len(CAT)
        assert all(Path(root, name).read_bytes() == CAT for root in roots(replicator, hosts))
        replicator.withdraw(publication)
        staged.discard()
    assert everywhere(replicator, hosts, {"old": b"old"})


def test_a_withdrawal_leaves_what_somebody_saved_since(replicate: Replicate, hosts: Any) -> None:
    """The later save was acknowledged, so it stays, everywhere."""
    replicator = replicate(hosts)
    replicator.save("cat", b"old")
    staged = replicator.stage()
    staged.write(b"first")
    _, publication = replicator.publish(staged, "cat", overwrite=True)
    replicator.save("cat", b"second", overwrite=True)
    replicator.withdraw(publication)
    staged.discard()
    assert everywhere(replicator, hosts, {"cat": b"second"})


def test_publish_of_a_taken_name_leaves_the_staged_file_to_the_caller(replicate: Replicate, hosts: Any) -> None:
    """It can be published under another name."""
    replicator = replicate(hosts)
    replicator.save("cat", b"first")
    staged = replicator.stage()
    staged.write(b"second")
    with pytest.raises(FileExistsError):
        replicator.publish(staged, "cat")
    _, publication = replicator.publish(staged, "dog")
    replicator.keep(publication)
    staged.discard()
    assert everywhere(replicator, hosts, {"cat": b"first", "dog": b"second"})


@on_every_kind
def test_a_name_that_cannot_be_made_durable_is_taken_back(
    replicate: Replicate, hosts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not acknowledged leaves nothing."""

    def refuse(self: MediaRoot, publication: object) -> None:
        raise MediaRootError("save", "cat", OSError(5, "Input/output error"))

    replicator = replicate(hosts)
    monkeypatch.setattr(MediaRoot, "make_durable", refuse)
    with pytest.raises(MediaRootError, match="Input/output error"):
        replicator.save("cat", CAT)
    assert everywhere(replicator, hosts, {})


def test_a_master_that_cannot_be_taken_back_is_logged(
    replicate: Replicate, faulty: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller still hears why the save failed."""

    def refuse(self: MediaRoot, publication: object) -> bool:
        raise MediaRootError("withdraw", "cat", OSError(30, "Read-only file system"))

    replicator = replicate([faulty("refuse")])
    monkeypatch.setattr(MediaRoot, "take_back", refuse)
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    assert "the master may still hold the file" in caplog.text


class Counting:
    """A transport that counts how many requests for one name are under way at once."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    def put(self, host: Host, name: str, *_: object) -> None:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        threading.Event().wait(0.005)
        self.now -= 1

    delete = put

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("delete", [False, True])
def test_requests_for_one_name_never_overlap_on_a_host(tmp_path: Path, delete: bool) -> None:
    """Two that did could end in an order that is not that of the master."""
    transport = Counting()
    with Replicator(
        media_root=tmp_path, media_hosts=["media"], parts=Parts(transport=transport, apart=True), fsync=False
    ) as replicator:

        def write(number: int) -> None:
            if delete:
                replicator.delete("cat")
            else:
                replicator.save("cat", b"x", overwrite=True)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(16)))
    assert (transport.most, transport.all) == (1, 16)


class Interrupted:
    """A transport that is interrupted on one host while another still takes the file; it records what hosts hold."""

    def __init__(self) -> None:
        self.held: dict[str, set[str]] = {"http://media-0": set(), "http://media-1": set()}
        self.begun = threading.Event()

    def put(self, host: Host, name: str, file: BinaryIO, size: int, mtime: float, version: int = 0) -> None:
        if host.label == "http://media-0":
            self.held[host.label].add(name)
            self.begun.wait(10)
            raise KeyboardInterrupt
        self.begun.set()
        threading.Event().wait(0.2)
        self.held[host.label].add(name)

    def delete(self, host: Host, name: str, version: int = 0) -> None:
        self.held[host.label].discard(name)

    def close(self) -> None:
        """Nothing to close."""


def test_an_interrupted_save_is_withdrawn_after_the_last_host_has_ended(tmp_path: Path) -> None:
    """A DELETE that overtakes a PUT would leave the file on that host."""
    transport = Interrupted()
    replicator = Replicator(
        media_root=tmp_path, media_hosts=list(transport.held), parts=Parts(transport=transport, apart=True)
    )
    with pytest.raises(KeyboardInterrupt):
        replicator.save("cat", CAT)
    assert transport.held == {"http://media-0": set(), "http://media-1": set()}
    replicator.close()
    assert files(tmp_path) == {}


# The whole


def test_settings_are_given_once(tmp_path: Path) -> None:
    """As Settings or as keywords; an unknown keyword is an error."""
    settings = Settings(media_root=str(tmp_path))
    with Replicator(settings) as replicator:
        assert replicator.settings is settings
    with pytest.raises(ConfigError, match="timeout: give Settings or keywords, not both"):
        Replicator(settings, timeout=1)
    with pytest.raises(ConfigError, match="unknown"):
        Replicator(media_root=str(tmp_path), unknown=1)


def test_the_library_loads_neither_webob_nor_multipart() -> None:
    """They belong to the middleware's side, and so do all extras."""
    script = """
        import json, sys
        import resto_wsgi.replicator
        extras = {"webob", "multipart", "cheroot", "click", "rich", "django", "flask", "pyramid"}
        print(json.dumps(sorted(extras & set(sys.modules))))
    """
    assert run(script) == []


def test_a_forked_process_can_go_on_using_a_replicator(replicate: Replicate, hosts: Any) -> None:
    """Prefork servers make it before they fork; each process has threads, connections and staging of its own."""
    script = """
        import json, os, signal, sys
        from resto_wsgi.replicator import Parts, Replicator
        replicator = Replicator(media_root=sys.argv[1], media_hosts=sys.argv[2:], fsync=False)
        replicator.save("before", b"before")
        children = []
        for number in range(3):
            child = os.fork()
            if not child:
                signal.alarm(20)
                for each in range(5):
                    replicator.save(f"child-{number}-{each}", b"child")
                replicator.close()
                os._exit(0)
            children.append(child)
        for each in range(5):
            replicator.save(f"parent-{each}", b"parent")
        codes = [os.waitpid(child, 0)[1] for child in children]
        replicator.save("after", b"after")
        replicator.close()
        print(json.dumps(codes))
    """
    replicator = replicate(hosts)
    assert run(script, replicator.settings.media_root, *(host.url for host in hosts)) == [0, 0, 0]
    children = {f"child-{number}-{each}": b"child" for number in range(3) for each in range(5)}
    parent = {f"parent-{each}": b"parent" for each in range(5)}
    assert everywhere(replicator, hosts, children | parent | {"before": b"before", "after": b"after"})


def test_close_leaves_no_descriptor_thread_or_staged_file(replicate: Replicate, hosts: Any, faulty: Any) -> None:
    """Whatever was done before, and whatever went wrong; closing again is harmless."""
    server = faulty(("status", 500))
    before = descriptors()
    replicator = replicate([*hosts, server])
    for _ in range(3):
        with pytest.raises(ReplicationError):
            replicator.save("cat", CAT)
    with pytest.raises(NameRejected):
        replicator.save("../cat", CAT)
    abandoned = replicator.stage()
    abandoned.seal()
    assert threads() != []
    replicator.close()
    replicator.close()
    assert threads() == []
    assert os.listdir(os.path.join(replicator.settings.media_root, ".resto/staging")) == []
    eventually(lambda: descriptors() <= before)


@on_nginx_and_node
def test_readers_of_a_host_see_whole_files_only_while_it_is_overwritten(
    replicate: Replicate, media_server: Any
) -> None:
    """Also on the media server, each version replaces the one before at once."""
    replicator = replicate([media_server])
    replicator.save("cat", bytes(300_000))
    assert everywhere(replicator, [media_server], {"cat": bytes(300_000)})
    roots, over = roots_of(media_server), threading.Event()

    def reader() -> int:
        reads = 0
        while not over.is_set():
            for root in roots:
                content = Path(root, "cat").read_bytes()
                assert len(content) == 300_000 and content == content[:1] * 300_000
                reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(reader) for _ in range(2)]
        try:
            for number in range(60):
                replicator.save("cat", bytes([number]) * 300_000, overwrite=True)
        finally:
            over.set()
        assert sum(each.result() for each in readers) >= 10


@on_every_kind
def test_a_slow_host_holds_up_no_save_of_another_name_on_other_hosts(
    replicate: Replicate, media_server: Any, faulty: Any
) -> None:
    """While one host hangs, the other already serves the file."""
    released = threading.Event()

    def wait(connection: socket.socket, reader: BinaryIO) -> None:
        while server.read_request(reader):
            released.wait(10)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server = faulty(wait)
    replicator = replicate([media_server, server], timeout=10)
    with ThreadPoolExecutor(5) as pool:
        saves = [pool.submit(replicator.save, f"cat-{number}", CAT) for number in range(5)]
        try:
            eventually(lambda: len(held(media_server)) == 5)
            assert not any(save.done() for save in saves)
        finally:
            released.set()
        assert all(save.result().outcome == {media_server.url: None, server.url: None} for save in saves)


# For a media server, which keeps the master itself


@on_every_kind
def test_carry_owes_the_name_before_the_master_changes(replicate: Replicate, hosts: Any, tmp_path: Path) -> None:
    """So a crash in between loses nothing; afterwards all hosts match, and nothing is owed."""
    replicator = replicate(hosts, fatal_exceptions=False)
    owed: list[int] = []

    def change() -> None:
        owed.append(replicator.status().owed)
        (tmp_path / "media/cat").write_bytes(CAT)

    outcome = replicator.carry("cat", change, gone=False, later=False)
    assert errors_of(outcome) == {Host.of(host.url): None for host in hosts}
    assert owed == [3] and replicator.status().owed == 0
    assert all(held(host) == {"cat": CAT} for host in hosts)


@pytest.mark.parametrize("changed", [False, True])
def test_carry_owes_nothing_for_a_change_that_was_not_made(
    replicate: Replicate, hosts: Any, tmp_path: Path, changed: bool
) -> None:
    """Where it failed after the master had changed, the name stays owed."""
    replicator = replicate(hosts, fatal_exceptions=False)

    def change() -> None:
        if changed:
            (tmp_path / "media/cat").write_bytes(CAT)
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        replicator.carry("cat", change, gone=False, later=False)
    assert replicator.status().owed == (3 if changed else 0)
