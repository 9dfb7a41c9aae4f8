"""Media servers that serve the master's own folder, as on a small site: all kinds of servers, in all modes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from belief import Replicators
from memory_server import Memory
from servers import files, held

from resto_wsgi import ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.replicator import Replicator
from resto_wsgi.transports.http.transport import HttpTransport

CAT, DOG = b"a cat" * 1000, b"a dog" * 1000
MASTERS = ("hybrid", "async")
KINDS = ("nginx", "lighttpd", "apache", "node")


class Seen(HttpTransport):
    """HTTP, of which it is noted what was put and deleted, but for probes."""

    def __init__(self) -> None:
        super().__init__(5.0)
        self.asked: list[tuple[str, str, str]] = []
        self.probes = 0

    def put_job(self, host: Any, name: str, *arguments: Any, **more: Any) -> Any:
        self._note("PUT", host.url, name)
        return super().put_job(host, name, *arguments, **more)

    def delete_job(self, host: Any, name: str, *arguments: Any, **more: Any) -> Any:
        self._note("DELETE", host.url, name)
        return super().delete_job(host, name, *arguments, **more)

    def get(self, host: Any, name: str, write: Any) -> float | None:
        self.probes += 1
        return super().get(host, name, write)

    def _note(self, method: str, url: str, name: str) -> None:
        if not name.startswith("resto-probe-"):
            self.asked.append((method, url, name))


@pytest.fixture
def seen() -> Iterator[Seen]:
    with contextlib.closing(Seen()) as seen:
        yield seen


@contextlib.contextmanager
def replicators_of(server: Any) -> Iterator[Replicators]:
    """Replicators whose media root is what a server serves."""
    with Replicators(Path(server.root)) as replicators:
        yield replicators


def inode(server: Any, name: str) -> int:
    return os.stat(os.path.join(server.root, name)).st_ino


def publish(replicator: Replicator, name: str, content: bytes, *, overwrite: bool = False) -> Any:
    """Publish as the middleware does; the caller keeps or withdraws it."""
    staged = replicator.stage()
    staged.write(content)
    return staged, replicator.publish(staged, name, overwrite=overwrite)[1]


@pytest.mark.parametrize("mode", MASTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_serves_the_master_holds_what_that_holds(
    kind: str, mode: str, media_servers: Any, seen: Seen
) -> None:
    """It is sent nothing: the files are those that were published; saves, overwrites, withdrawals and deletes work."""
    (own,), (other,) = media_servers(kind), media_servers("nginx")
    with replicators_of(own) as replicators:
        replicator = replicators([own, other], mode=mode, transport=seen)
        for content in (CAT, DOG):
            staged, publication = publish(replicator, "a/cat", content, overwrite=True)
            assert replicator.drain(20)
            assert inode(own, "a/cat") == publication.status.st_ino
            replicator.keep(publication)
            staged.discard()
            assert held(other) == files(own.root) == {"a/cat": content}
        staged, publication = publish(replicator, "dog", DOG)
        replicator.withdraw(publication)
        staged.discard()
        assert replicator.drain(20) and held(other) == files(own.root) == {"a/cat": DOG}
        assert [host.state for host in replicator.status().hosts] == ["up", "up"]
        assert replicator.sync(own.url) and replicator.drain(20)
        replicator.delete("a/cat")
        assert replicator.drain(20) and held(other) == files(own.root) == {}
        assert own.url not in {url for _, url, _ in seen.asked}
        assert sorted(os.listdir(own.root)) in ([".resto"], [".resto", "a"])


def test_a_save_that_is_refused_leaves_nothing_on_the_master(media_servers: Any, seen: Seen) -> None:
    """The host that serves it counts as one that took the file; the other is away."""
    own, away = media_servers("nginx", 2)
    away.stop()
    with replicators_of(own) as replicators:
        replicator = replicators([own, away], transport=seen)
        with pytest.raises(ReplicationError, match="done by 1 media server, 2 required"):
            replicator.save("cat", CAT)
        assert files(own.root) == {}
        assert replicators([own, away], required=1, transport=seen).save("cat", CAT).outcome[own.url] is None
        assert files(own.root) == {"cat": CAT}


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_serves_the_spool_of_distributed_is_refused_by_name(
    kind: str, media_servers: Any, seen: Seen
) -> None:
    """What is dropped from the spool would be gone from it; the message says what to do."""
    (own,), (other,) = media_servers(kind), media_servers("nginx")
    with replicators_of(own) as replicators:
        replicator = replicators([own, other], mode="distributed", transport=seen)
        with pytest.raises(ReplicationError) as caught:
            replicator.save("cat", CAT)
        assert "serves MEDIA_ROOT itself" in str(caught.value.failures[own.url])
        assert "set the mode to hybrid" in str(caught.value.failures[own.url])
        assert held(other) == files(own.root) == {}


def test_a_host_is_looked_at_once_and_by_one_process(media_servers: Any, seen: Seen) -> None:
    """What is found is noted; a save costs no request more after that, nor on the next start."""
    servers = media_servers("nginx", 2)
    with Replicators(Path(servers[0].root).parent / "media") as replicators:
        for _ in range(2):
            replicator = replicators(servers, transport=seen)
            for name in ("a", "b"):
                replicator.save(name, CAT)
            assert seen.probes == 2
    assert held(servers[0]) == held(servers[1])
    assert not any(name.startswith("resto-probe") for name in held(servers[0]))


def test_a_host_that_fetches_from_another_what_it_lacks_is_sent_its_files(media_servers: Any, seen: Seen) -> None:
    """It gives what is in MEDIA_ROOT, but does not keep it: only what it writes shows where."""
    (own,) = media_servers("nginx")
    fall_back = f"error_page 404 = @other; location @other {{ proxy_pass {own.url}; }}"
    (behind,) = media_servers("nginx", extra=fall_back)
    with replicators_of(own) as replicators:
        replicator = replicators([own, behind], transport=seen)
        replicator.save("cat", CAT)
        assert files(behind.root) == {"cat": CAT}
        assert {url for _, url, _ in seen.asked} == {behind.url}
        assert files(own.root) == {"cat": CAT}


def test_a_host_that_answers_everything_is_sent_its_files(tmp_path: Path, seen: Seen) -> None:
    """A page for what is not there is not what MEDIA_ROOT has."""
    with Memory("always") as memory, Replicators(tmp_path / "media") as replicators:
        memory.files["x"] = b"x"
        replicators([memory], transport=seen).save("cat", CAT)
        assert memory.files["cat"] == CAT


def test_a_host_that_serves_another_folder_since_is_owed_everything(media_servers: Any, seen: Seen) -> None:
    """It is seen by whoever sweeps; what was saved before is sent, too."""
    (own,) = media_servers("nginx")
    with replicators_of(own) as replicators:
        replicator = replicators([own], transport=seen)
        replicator.save("cat", CAT)
        media_root = own.root
        own.stop()
        os.rename(media_root, moved := f"{media_root}-moved")
        os.mkdir(media_root)
        own.start()
    with Replicators(Path(moved)) as replicators:
        replicator = replicators([own], transport=seen)
        replicator.sweep()
        assert replicator.drain(20)
        assert held(own) == {"cat": CAT}
        replicator.save("dog", DOG)
        assert held(own) == {"cat": CAT, "dog": DOG}


def test_a_host_that_serves_the_master_since_is_found_when_the_master_changes_under_way(
    media_servers: Any, seen: Seen
) -> None:
    """The save that meets it first succeeds, and no other is sent there."""
    own, other = media_servers("nginx", 2)
    media = Path(own.root).parent / "media"
    with Replicators(media) as replicators:
        replicators([own, other], transport=seen).save("cat", CAT)
    own.stop()
    for name in os.listdir(own.root):
        os.unlink(os.path.join(own.root, name))
    os.rmdir(own.root)
    os.symlink(media, own.root)
    own.start()
    with Replicators(media) as replicators:
        replicator = replicators([own, other], transport=seen)
        replicator.save("dog", DOG)
        seen.asked.clear()
        replicator.save("cow", CAT)
        assert {url for _, url, _ in seen.asked} == {other.url}
        assert files(media) == held(other) == {"cat": CAT, "dog": DOG, "cow": CAT}


KILLED = """
    import os, signal, sys
    from resto_wsgi.replicator import Parts, Replicator
    from resto_wsgi.transports.http.transport import HttpTransport
    class Killed(HttpTransport):
        def get(self, host, name, write):
            if sys.argv[1] == "get":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().get(host, name, write)
        def delete(self, host, name):
            os.kill(os.getpid(), signal.SIGKILL)
    parts = Parts(transport=Killed(5.0))
    Replicator(media_root=sys.argv[2], media_url="/media/", media_hosts=sys.argv[3:], parts=parts).save("cat", b"a cat")
"""


@pytest.mark.parametrize(("amid", "own"), [("get", True), ("get", False), ("delete", True)])
def test_what_a_killed_look_leaves_the_next_one_removes(
    media_servers: Any, amid: str, own: bool, tmp_path: Path
) -> None:
    """A probe in MEDIA_ROOT, or one on the host, which has written it there: neither stays, and neither misleads."""
    (server,) = media_servers("nginx")
    media = Path(server.root) if own else tmp_path / "media"
    script = textwrap.dedent(KILLED)
    killed = subprocess.run([sys.executable, "-c", script, amid, str(media), server.url], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [name for name in files(media) if name.startswith("resto-probe-")]
    with Replicators(media) as replicators:
        replicator = replicators([server])
        replicator.save("dog", DOG)
        assert replicator.drain(30)
        assert {name for name in (*files(media), *held(server)) if name.startswith("resto-probe-")} == set()
        assert replicator._on_master.hosts == ({Host.of(server.url)} if own else frozenset())


def test_a_host_that_does_not_answer_is_looked_at_when_it_does(media_servers: Any, seen: Seen) -> None:
    """It is away when it is met first; then it is the master's own, and nothing was lost."""
    own, other = media_servers("nginx", 2)
    own.stop()
    with replicators_of(own) as replicators:
        replicator = replicators([own, other], fatal_exceptions=False, transport=seen)
        assert replicator.save("cat", CAT).outcome[own.url] is not None
        number = inode(own, "cat")
        own.start()
        assert replicator.drain(20)
        assert inode(own, "cat") == number and held(other) == {"cat": CAT}
