"""One suite for every mode: whatever happens, each host ends with exactly the files that the application believes in.

The hosts are real nginx, nodes of our own, and trees of them; processes that die or race are real ones. What only one
mode promises is at the end, and reading without a master is in ``test_replicas.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from belief import MODES, Replicators, as_new, believed, differences, printed, start, three_nginx
from servers import eventually, held
from webob import Request

from resto_wsgi import DeliveryError, NameRejected, ReplicationError, RestoError, UploadMiddleware
from resto_wsgi.replicator import Replicator

CAT = b"\xff\xd8 a cat \r\n" * 5000


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each mode in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three nginx for all tests."""
    with three_nginx(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.fixture
def hosts(kind_of_host: str, servers: Any, media_servers: Any) -> Any:
    """Three nginx that are as good as new, or three of another kind."""
    return as_new(servers) if kind_of_host == "nginx" else media_servers(kind_of_host, 3)


@pytest.fixture
def replicators(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicators]:
    """Replicators in that mode, whose worker does not sleep long when it thinks that nothing is due."""
    monkeypatch.setattr("resto_wsgi.replication.lane.IDLE", 0.05)
    monkeypatch.setattr("resto_wsgi.replication.worker.IDLE", 0.05)
    with Replicators(tmp_path / "media", mode=mode) as replicators:
        yield replicators


def in_each_mode_on_every_kind(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in each mode with nginx, alone and as a tree with our own nodes in the modes that differ most.

    Async sends what hybrid sends, and a tree is no different from a node to one who reads from it.
    """
    pairs = [*((mode, "nginx") for mode in MODES), ("hybrid", "tree"), ("distributed", "node")]
    return pytest.mark.parametrize(("mode", "kind_of_host"), pairs)(test)


@contextlib.contextmanager
def away(*servers: Any) -> Iterator[None]:
    """While this lasts, nobody listens there."""
    for server in servers:
        server.kill()
    yield
    for server in servers:
        server.start()


# Saving, reading, deleting

SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: CAT,
    "bytearray": lambda path: bytearray(CAT),
    "memoryview": lambda path: memoryview(CAT).cast("I"),
    "path": lambda path: path,
    "path as text": str,
    "file": lambda path: path.open("rb"),
    "file in memory": lambda path: io.BytesIO(CAT),
}


def test_any_source_is_saved(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """The very bytes are read back and are on every host, and the result says what they are."""
    (tmp_path / "cat").write_bytes(CAT)
    replicator = replicators(hosts)
    for kind, source_of in SOURCES.items():
        with contextlib.ExitStack() as stack:
            source = source_of(tmp_path / "cat")
            if hasattr(source, "read"):
                stack.enter_context(source)
            stored = replicator.save(f"a/{kind}.jpg", source)
        assert (stored.name, stored.size) == (f"a/{kind}.jpg", len(CAT))
        assert stored.sha256 == hashlib.sha256(CAT).hexdigest()
        assert stored.outcome.keys() == {host.url for host in hosts}
    assert differences(replicator, hosts, {f"a/{kind}.jpg": CAT for kind in SOURCES}) == {}


@in_each_mode_on_every_kind
def test_files_of_any_size_are_saved(replicators: Replicators, hosts: Any) -> None:
    """From no byte to more than is read at once."""
    replicator = replicators(hosts)
    replicator.save("empty", b"")
    replicator.save("large", io.BytesIO(bytes(3_000_000)))
    assert differences(replicator, hosts, {"empty": b"", "large": bytes(3_000_000)}) == {}


@in_each_mode_on_every_kind
def test_a_taken_name_is_varied_or_overwritten(replicators: Replicators, hosts: Any) -> None:
    """The second file gets a name of its own, unless it is to replace the first."""
    replicator = replicators(hosts)
    replicator.save("a/cat.jpg", b"first")
    assert replicator.drain(20)
    second = replicator.save("a/cat.jpg", b"second").name
    assert second.startswith("a/cat-") and second.endswith(".jpg")
    assert replicator.save("a/cat.jpg", b"third", overwrite=True).name == "a/cat.jpg"
    assert replicator.save("new", b"new", overwrite=True).name == "new"
    assert differences(replicator, hosts, {"a/cat.jpg": b"third", second: b"second", "new": b"new"}) == {}


def test_two_processes_that_save_one_name_get_a_name_each(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path
) -> None:
    """One gets the plain name, and no file is lost, although both see it free at the same time."""
    script = """
        import json, sys
        from resto_wsgi import Replicator
        root, mode, mark, *hosts = sys.argv[1:]
        with Replicator(media_root=root, media_hosts=hosts, mode=mode, fsync=False) as replicator:
            print("ready", file=sys.stderr, flush=True)
            sys.stdin.readline()
            saved = [replicator.save(f"cat-{each}", mark.encode() * 5000).name for each in range(6)]
            print(json.dumps(saved))
    """
    replicator = replicators(hosts)
    urls = [host.url for host in hosts]
    processes = [start(script, tmp_path / "media", mode, mark, *urls) for mark in "ab"]
    for process in processes:
        assert process.stderr and process.stderr.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    names = [printed(process) for process in processes]
    expected = {name: mark.encode() * 5000 for mark, each in zip("ab", names, strict=True) for name in each}
    assert len(expected) == 12 and {f"cat-{each}" for each in range(6)} <= expected.keys()
    assert differences(replicator, hosts, expected) == {}


@in_each_mode_on_every_kind
def test_what_is_deleted_is_gone_at_once_and_then_everywhere(replicators: Replicators, hosts: Any) -> None:
    """A name that is not there is deleted all the same, also where only a host has it."""
    replicator = replicators(hosts)
    for name in ("a/cat", "dog"):
        replicator.save(name, CAT)
    assert differences(replicator, hosts, {"a/cat": CAT, "dog": CAT}) == {}
    Path(hosts[0].root, "stray").write_bytes(b"x")
    for name in ("a/cat", "a/cat", "stray", "never"):
        replicator.delete(name)
    assert not replicator.exists("a/cat")
    for ask in (replicator.open, replicator.size):
        with pytest.raises(FileNotFoundError):
            ask("a/cat")
    assert differences(replicator, hosts, {"dog": CAT}) == {}


@pytest.mark.parametrize("delivered", [False, True])
def test_what_there_is_can_be_asked(replicators: Replicators, hosts: Any, mode: str, delivered: bool) -> None:
    """Of a file, of a folder, and of what is not there; before the hosts have it, and after."""
    replicator = replicators(hosts, media_url="https://static.example/m")
    replicator.save("a b/é #1.txt", b"12345")
    replicator.save("top", b"")
    if delivered:
        assert replicator.drain(20)
    assert [replicator.exists(name) for name in ("a b/é #1.txt", "a b", "no")] == [True, False, False]
    assert (replicator.size("a b/é #1.txt"), replicator.size("top")) == (5, 0)
    with replicator.open("a b/é #1.txt") as file:
        assert (file.read(2), file.read()) == (b"12", b"345")
    assert replicator.url("a b/é #1.txt") == "https://static.example/m/a%20b/%C3%A9%20%231.txt"
    assert replicator.listdir() == replicator.listdir("/") == (["a b"], ["top"])
    assert replicator.listdir("a b") == replicator.listdir("a b/") == ([], ["é #1.txt"])
    for ask in (replicator.size, replicator.listdir, replicator.open):
        with pytest.raises(FileNotFoundError):
            ask("missing")
    if mode == "distributed":
        with pytest.raises(RestoError, match="no master is kept"):
            replicator.path("top")
    else:
        assert replicator.path("top") == os.path.join(replicator.settings.media_root, "top")


ODD = [
    "a b.txt",
    "é #1?%+;.jpg",
    "%00%2e%2e%2fx",
    "日本語/🎉.png",
    "'`$(x)|*&=,@:!~^[].txt",
    "x" * 200,
    "d/" * 30 + "f",
]


@in_each_mode_on_every_kind
def test_names_with_odd_characters_survive(replicators: Replicators, hosts: Any) -> None:
    """They are the same name to the application, to each host, and to the outbox."""
    replicator = replicators(hosts)
    saved = {replicator.save(name, name.encode()).name: name.encode() for name in ODD}
    assert saved.keys() == set(ODD)
    assert differences(replicator, hosts, saved) == {}
    for name in ODD:
        replicator.save(name, b"2", overwrite=True)
    assert differences(replicator, hosts, dict.fromkeys(ODD, b"2")) == {}
    for name in ODD:
        replicator.delete(name)
    assert differences(replicator, hosts, {}) == {}


def test_hostile_names_are_rejected(replicators: Replicators, hosts: Any) -> None:
    """By whatever takes a name, and before anything is recorded."""
    replicator = replicators(hosts)
    takers: tuple[Any, ...] = (replicator.delete, replicator.open, replicator.exists, replicator.size)
    for name in ("", "../outside", "a//b", ".resto/id", "a\nb", "/etc/passwd"):
        with pytest.raises(NameRejected):
            replicator.save(name, b"x")
        for take in (*takers, replicator.url, replicator.path, replicator.status):
            with pytest.raises(NameRejected):
                take(name)
    assert differences(replicator, hosts, {}) == {}


# Withdrawing


@pytest.mark.parametrize("down", [0, 1])
@pytest.mark.parametrize("delivered", [False, True])
def test_a_publication_can_be_withdrawn_everywhere(
    replicators: Replicators, hosts: Any, down: int, delivered: bool
) -> None:
    """A new name is gone again, and one that replaced another gives way to it: delivered or not, a host away or not."""
    replicator = replicators(hosts, fatal_exceptions=False)
    replicator.save("old", b"old")
    assert replicator.drain(20)
    publications = []
    for name, overwrite in (("a/new", False), ("old", True)):
        staged = replicator.stage()
        staged.write(CAT)
        stored, publication = replicator.publish(staged, name, overwrite=overwrite)
        assert stored.size == len(CAT)
        publications.append((staged, publication))
    if delivered:
        assert replicator.drain(20)
    with away(*hosts[:down]):
        for staged, publication in publications:
            replicator.withdraw(publication)
            staged.discard()
        assert not replicator.exists("a/new")
        with replicator.open("old") as file:
            assert file.read() == b"old"
    assert differences(replicator, hosts, {"old": b"old"}) == {}


@in_each_mode_on_every_kind
def test_a_withdrawal_leaves_what_somebody_saved_since(replicators: Replicators, hosts: Any) -> None:
    """The later save was acknowledged, so it stays, everywhere, and a sync does not take it away."""
    replicator = replicators(hosts)
    for name, overwrite in (("new", False), ("old", True)):
        if overwrite:
            replicator.save(name, b"old")
        staged = replicator.stage()
        staged.write(b"first")
        _, publication = replicator.publish(staged, name, overwrite=overwrite)
        replicator.save(name, b"second", overwrite=True)
        replicator.withdraw(publication)
        staged.discard()
    assert differences(replicator, hosts, {"new": b"second", "old": b"second"}) == {}
    for host in hosts:  # one after the other: without a master the others are what it is filled from
        replicator.sync(host.url)
        assert replicator.drain(20)
    assert differences(replicator, hosts, {"new": b"second", "old": b"second"}) == {}


@in_each_mode_on_every_kind
def test_a_publication_that_was_forgotten_leaves_nothing_behind(replicators: Replicators, hosts: Any) -> None:
    """No staged file, no old version, and in mode distributed no spool."""
    replicator = replicators(hosts)
    for content in (b"first", b"second"):
        staged = replicator.stage()
        staged.write(content)
        _, publication = replicator.publish(staged, "a/cat", overwrite=True)
        replicator.keep(publication)
        staged.discard()
    assert differences(replicator, hosts, {"a/cat": b"second"}) == {}


# Hosts that are away

SEQUENCES = ["".join(each) for steps in (1, 2, 3) for each in itertools.product("sd", repeat=steps)]


def act(replicator: Replicator, name: str, step: str, content: bytes) -> None:
    if step == "s":
        replicator.save(name, content, overwrite=True)
    else:
        replicator.delete(name)


def outcomes(before: bool) -> dict[str, bytes | None]:
    """What each sequence ends with, by its name; ``before`` was there from the beginning."""
    prefix = "old" if before else "new"
    return {f"{prefix}/{steps}": f"{steps}".encode() if steps[-1] == "s" else None for steps in SEQUENCES}


@in_each_mode_on_every_kind
@pytest.mark.parametrize("turns", [False, True], ids=["one host", "hosts in turn"])
def test_whatever_was_done_while_a_host_was_away_it_ends_equal(
    replicators: Replicators, hosts: Any, turns: bool
) -> None:
    """Saves, overwrites and deletes in any order, of names that were there before and of others."""
    replicator = replicators(hosts, fatal_exceptions=False)
    for steps in SEQUENCES:
        replicator.save(f"old/{steps}", b"before")
    assert replicator.drain(20)
    for round_ in range(3):
        with away(hosts[round_ if turns else 1]):
            for prefix, steps in itertools.product(("old", "new"), SEQUENCES):
                if round_ < len(steps):
                    last = round_ == len(steps) - 1
                    act(replicator, f"{prefix}/{steps}", steps[round_], steps.encode() if last else b"between")
    ends = outcomes(True) | outcomes(False)
    expected = {name: content for name, content in ends.items() if content is not None}
    assert believed(replicator) == expected
    assert differences(replicator, hosts, expected) == {}


@in_each_mode_on_every_kind
def test_with_fatal_exceptions_a_save_that_fails_leaves_things_as_they_were(
    replicators: Replicators, hosts: Any, mode: str
) -> None:
    """Everywhere, when the host is back; a delete stands and is owed. In mode async nobody fails for a host."""
    replicator = replicators(hosts)
    for name in ("old", "deleted"):
        replicator.save(name, b"old")
    assert replicator.drain(20)
    fails = pytest.raises(ReplicationError) if mode != "async" else contextlib.nullcontext()
    with away(hosts[2]):
        with fails as caught:
            replicator.save("new", b"new")
        with fails:
            replicator.save("old", b"new", overwrite=True)
        with fails as deleted:
            replicator.delete("deleted")
        if caught is not None:
            error = caught.value
            assert (error.action, error.name, error.done, error.required) == ("save", "new", 2, 3)
            assert list(error.failures) == [hosts[2].url]
            assert deleted.value.action == "delete" and "it stays owed" in str(deleted.value)
        assert not replicator.exists("deleted")
    expected = {"old": b"new", "new": b"new"} if mode == "async" else {"old": b"old"}
    assert differences(replicator, hosts, expected) == {}


@in_each_mode_on_every_kind
def test_without_fatal_exceptions_all_hosts_may_be_away(replicators: Replicators, hosts: Any, mode: str) -> None:
    """What is saved and deleted meanwhile can be read meanwhile, and is everywhere when they are back.

    In mode distributed nobody can overwrite then what nobody could put back.
    """
    replicator = replicators(hosts, fatal_exceptions=False)
    for name in ("old", "deleted"):
        replicator.save(name, b"old")
    assert replicator.drain(20)
    refused = pytest.raises(ReplicationError) if mode == "distributed" else contextlib.nullcontext()
    with away(*hosts):
        stored = replicator.save("a/new", b"new")
        assert stored.name == "a/new" and all(isinstance(each, DeliveryError) for each in stored.outcome.values())
        replicator.delete("deleted")
        assert believed(replicator, "a") == {"a/new": b"new"}
        assert not replicator.exists("deleted")
        with refused:
            replicator.save("old", b"new", overwrite=True)
    expected = {"a/new": b"new", "old": b"old" if mode == "distributed" else b"new"}
    assert differences(replicator, hosts, expected) == {}


@pytest.mark.parametrize("mode", ["hybrid", "distributed"])
def test_the_majority_is_enough_where_it_is_required(replicators: Replicators, hosts: Any) -> None:
    """With one of three away a save is done and the rest is owed; with two it fails and leaves nothing."""
    replicator = replicators(hosts, required="majority")
    with away(hosts[0]):
        stored = replicator.save("a", b"a")
        assert [failure is None for failure in stored.outcome.values()] == [False, True, True]
        assert list(replicator.status("a").owing) == [hosts[0].url]
        with away(hosts[1]), pytest.raises(ReplicationError) as caught:
            replicator.save("b", b"b")
        assert (caught.value.done, caught.value.required) == (1, 2)
    assert differences(replicator, hosts, {"a": b"a"}) == {}


@in_each_mode_on_every_kind
def test_drain_says_whether_something_is_owed(replicators: Replicators, hosts: Any) -> None:
    """True where nothing is, False when time is up; what it was told to leave out it does not wait for."""
    replicator = replicators(hosts, fatal_exceptions=False)
    assert replicator.drain(0) is True
    with away(hosts[0]):
        replicator.save("cat", CAT)
        assert replicator.drain(0.2) is False
        assert replicator.drain(5, host=hosts[1].url) is True
        assert held(hosts[1]) == {"cat": CAT}
    left: list[int] = []
    assert replicator.drain(20, progress=left.append) is True
    assert left[-1] == 0 and set(left) <= {0, 1}, "it may be over before one looks"
    assert differences(replicator, hosts, {"cat": CAT}) == {}


@in_each_mode_on_every_kind
def test_another_process_delivers_what_a_killed_one_had_saved(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path
) -> None:
    """Killed right after it was told that all is well; nobody calls drain."""
    script = """
        import os, signal, sys
        from resto_wsgi import Replicator
        root, mode, *hosts = sys.argv[1:]
        replicator = Replicator(media_root=root, media_hosts=hosts, mode=mode, fatal_exceptions=False)
        replicator.save("a/new", b"new")
        replicator.save("old", b"new", overwrite=True)
        replicator.delete("deleted")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    expected = {"a/new": b"new", "old": b"new"}
    replicator = replicators(hosts, background=True)
    for name in ("old", "deleted"):
        replicator.save(name, b"old")
    assert replicator.drain(20)
    with away(hosts[1]):
        printed(start(script, tmp_path / "media", mode, *(host.url for host in hosts)), -signal.SIGKILL)
        assert believed(replicator) == expected
    eventually(lambda: all(held(host) == expected for host in hosts))
    assert differences(replicator, hosts, expected) == {}


# Uploads


class Application:
    """Publishes its uploads, and reads them before, after, and while it answers."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.read: list[bytes] = []

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        (self.upload,) = environ["resto.uploads"]
        self._read()
        environ["resto.uploads"].publish()
        self._read()
        start_response(self.status, [("Content-Type", "text/plain")])
        yield b"an answer "
        self._read()
        yield b"that streams"

    def _read(self) -> None:
        self.path = self.upload.path
        self.read.append(Path(self.path).read_bytes())
        with self.upload.open() as file:
            self.read.append(file.read())


def post(application: Any, replicator: Replicator) -> Any:
    """Upload a cat; the answer is read to its end."""
    request = Request.blank("/", POST={"photo": ("cat.jpg", CAT)})
    response = request.get_response(UploadMiddleware(application, replicator, upload_to="up"))
    assert response.body is not None
    return response


@in_each_mode_on_every_kind
def test_an_upload_can_be_read_until_its_request_ends(replicators: Replicators, hosts: Any) -> None:
    """By its path, too, also where the hosts have it already and no master is kept."""
    replicator = replicators(hosts)
    application = Application("200 OK")
    response = post(application, replicator)
    assert (response.status_code, response.body) == (200, b"an answer that streams")
    assert application.read == [CAT] * 6
    name = application.upload.name
    assert name.startswith("up/cat-")
    assert differences(replicator, hosts, {name: CAT}) == {}


@in_each_mode_on_every_kind
def test_an_upload_whose_request_fails_is_gone_everywhere(replicators: Replicators, hosts: Any) -> None:
    """Also where it was published early and every host had taken it."""
    replicator = replicators(hosts)
    application = Application("500 Oops")
    assert post(application, replicator).status_code == 500
    assert not replicator.exists(application.upload.name)
    assert not os.path.exists(application.path)
    assert differences(replicator, hosts, {}) == {}


@in_each_mode_on_every_kind
def test_an_upload_that_too_few_hosts_take_is_refused(replicators: Replicators, hosts: Any, mode: str) -> None:
    """With 503, and nothing is left; in mode async it is accepted, and owed."""
    replicator = replicators(hosts)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["resto.uploads"][0].name.encode()]

    with away(hosts[0]):
        response = post(application, replicator)
    assert response.status_code == (200 if mode == "async" else 503)
    assert differences(replicator, hosts, {response.text: CAT} if mode == "async" else {}) == {}


# Mode async alone


@pytest.mark.parametrize("mode", ["async"])
def test_async_asks_no_host(replicators: Replicators, faulty: Any) -> None:
    """A save and a delete return without a connection, and say that it is owed."""
    server = faulty("hang")
    replicator = replicators([server])
    stored = replicator.save("cat", CAT)
    failure = stored.outcome[server.url]
    assert isinstance(failure, DeliveryError) and failure.reason.startswith("owed")
    replicator.save("cat", b"new", overwrite=True)
    replicator.delete("cat")
    assert server.connections == 0
    assert not replicator.exists("cat") and list(replicator.status("cat").owing) == [server.url]


@pytest.mark.parametrize("mode", ["async"])
def test_async_delivers_by_itself_when_the_hosts_are_back(
    replicators: Replicators, hosts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """While all refuse, saves and deletes succeed and each host is logged; afterwards nobody need ask for it."""
    replicator = replicators(hosts, background=True)
    replicator.save("deleted", b"old")
    eventually(lambda: all(held(host) == {"deleted": b"old"} for host in hosts))
    with away(*hosts):
        replicator.save("cat", CAT)
        replicator.delete("deleted")
        assert believed(replicator) == {"cat": CAT}
        eventually(lambda: caplog.text.count("still owed: ") >= 3)
        for host in hosts:
            assert f"still owed: {host.url}: " in caplog.text
    eventually(lambda: all(held(host) == {"cat": CAT} for host in hosts))
    assert differences(replicator, hosts, {"cat": CAT}) == {}


# A folder that becomes a file


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_becomes_a_file_and_the_reverse_on_our_own_node(mode: str, media_servers: Any, tmp_path: Path) -> None:
    """What is left of deleted names is in nobody's way."""
    servers = [*media_servers("node"), *media_servers("tree")]
    with Replicators(tmp_path / "media", mode=mode) as replicators:
        replicator = replicators(servers)
        for name in ("x/y/z", "x", "x/y"):
            replicator.save(name, CAT, overwrite=True)
            assert differences(replicator, servers, {name: CAT}) == {}
            replicator.delete(name)
            assert differences(replicator, servers, {}) == {}


@pytest.mark.parametrize("mode", ["hybrid", "distributed"])
@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_a_folder_in_the_way_on_a_stock_server_is_named(
    mode: str, kind: str, media_servers: Any, tmp_path: Path
) -> None:
    """None of them removes it but with all that may be in it; when a person has, the file follows by itself."""
    (server,) = media_servers(kind)
    with Replicators(tmp_path / "media", mode=mode, fatal_exceptions=False) as replicators:
        replicator = replicators([server])
        replicator.save("x/y", CAT)
        replicator.delete("x/y")
        error = replicator.save("x", CAT, overwrite=True).outcome[server.url]
        assert error is not None and error.host == server.url and error.name == "x" and not error.permanent
        assert (
            "the name is a folder there" if kind == "apache" else "a folder of that name is in the way"
        ) in error.reason
        os.rmdir(os.path.join(server.root, "x"))
        assert differences(replicator, [server], {"x": CAT}) == {}
