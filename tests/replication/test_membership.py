"""Which hosts are known to hold everything: hosts that are added, removed and added again, outboxes that are fresh.

Real nginx, nodes of our own and trees of them, and where the servers differ lighttpd and Apache. Processes
that die are real ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from belief import MODES, Replicators, as_new, believed, differences, folders, printed, start, three_nginx
from chaos.proxy import Proxy
from permissions import plain_user
from servers import KINDS, files, held, on_every_kind

from resto_wsgi import ConfigError, MediaRootError, NameRejected, OutboxError, ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import Outbox
from resto_wsgi.replicator import Replicator

A, B, NEVER = Host.of("http://a"), Host.of("http://b"), Host.of("http://never")
CAT = b"\xff\xd8 a cat \r\n" * 100
MASTERS = ("hybrid", "async")
HOUR = 3700.0  # seconds, and a little more: how often all that lies in a spool is looked at


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three nginx for all tests."""
    with three_nginx(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.fixture
def hosts(kind_of_host: str, servers: Any, media_servers: Any) -> Any:
    """Three nginx that are as good as new, or three of another kind."""
    if kind_of_host != "nginx":
        return media_servers(kind_of_host, 3)
    for server in servers:
        if server.max_body is not None:
            server.stop()
            server.max_body = None
    return as_new(servers)


@pytest.fixture
def replicators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicators]:
    """Replicators over one media root, whose worker does not sleep long when it thinks that nothing is due."""
    monkeypatch.setattr("resto_wsgi.replication.lane.IDLE", 0.05)
    monkeypatch.setattr("resto_wsgi.replication.worker.IDLE", 0.05)
    with Replicators(tmp_path / "media", fatal_exceptions=False) as replicators:
        yield replicators


def states(replicator: Replicator) -> list[str]:
    return [host.state for host in replicator.status().hosts]


def lose_the_outbox(media_root: Path) -> None:
    """As the remedy of a damaged one says."""
    for path in (media_root / ".resto").glob("outbox.sqlite3*"):
        path.unlink()


# Folders that cannot be listed


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_that_cannot_be_listed_keeps_nobody_from_starting_and_no_host_from_its_files(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, a sync works, and a host that is new gets all else."""
    (tmp_path / "media/lost+found").mkdir(0, parents=True)
    with plain_user():
        before = replicators(hosts[:2], mode=mode)
        before.save("cat", CAT)
        assert before.drain(20) and states(before) == ["up", "up"]
        assert before.sync(hosts[0].url) == 1 and before.drain(20)
        after = replicators(hosts, mode=mode)
        assert after.drain(20) and states(after) == ["up", "up", "up"]
    assert [held(host) for host in hosts] == [{"cat": CAT}] * 3
    assert "1 folders that cannot be listed ('lost+found')" in caplog.text


@pytest.mark.parametrize("mode", MASTERS)
def test_what_is_in_a_folder_that_can_be_listed_again_is_found_and_owed(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path
) -> None:
    """By whoever leads then, to all hosts; also if it was all that there was at the start."""
    folder = tmp_path / "media/uploads"
    (folder / "deep").mkdir(parents=True)
    for name in ("dog", "deep/cat"):
        (folder / name).write_bytes(CAT)
    folder.chmod(0)
    with plain_user():
        before = replicators(hosts, mode=mode)
        assert states(before) == ["new"] * 3 and before.drain(20) and states(before) == ["up"] * 3
    folder.chmod(0o755)
    after = replicators(hosts, mode=mode)
    assert after.drain(20)
    assert [held(host) for host in hosts] == [{"uploads/dog": CAT, "uploads/deep/cat": CAT}] * 3
    shutil.rmtree(folder)
    assert replicators(hosts, mode=mode).drain(20)


@pytest.mark.parametrize("mode", MODES)
def test_a_sync_that_fails_leaves_the_host_as_it_was(
    replicators: Replicators, hosts: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And everybody able to start; what is decided is decided after the walk."""
    replicator = replicators(hosts[:2], mode=mode)
    replicator.save("cat", CAT)
    assert replicator.drain(20)

    real = os.scandir

    def refuse(where: Any) -> Any:
        if isinstance(where, int):  # a folder of the media root
            raise OSError(errno.EIO, "Input/output error")
        return real(where)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MediaRootError, match="Input/output error"):
        replicator.sync(hosts[0].url)
    assert states(replicator) == ["up", "up"]
    assert states(replicators(hosts[:2], mode=mode)) == ["up", "up"]
    lose_the_outbox(Path(replicator.settings.media_root))
    assert states(replicators(hosts[:2], mode=mode)) == ["new", "new"]


@pytest.mark.parametrize("mode", MASTERS)
def test_a_sync_counts_what_that_host_is_owed(replicators: Replicators, hosts: Any, mode: str) -> None:
    """And not what others are owed, who are new at the same time."""
    before = replicators(hosts[:1], mode=mode)
    for name in ("cat", "dog"):
        before.save(name, CAT)
    assert before.drain(20)
    assert replicators(hosts, mode=mode).sync(hosts[0].url) == 2


# What no host gets


@pytest.mark.parametrize("mode", MODES)
def test_what_no_host_gets_is_counted_in_the_log_and_in_status(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether there is anything else in the folder that is switched on, or not; status still says that all is well."""
    (tmp_path / "media").mkdir()
    for name in ("cafe\u0301", "draft~", ".git"):
        (tmp_path / "media" / name).write_bytes(CAT)
    replicator = replicators(hosts, mode=mode)
    for _ in range(2):
        assert replicator.drain(20) and [host.owed for host in replicator.status().hosts] == [0, 0, 0]
        assert sorted(replicator.status().skipped.values()) == [1, 1, 1]
        replicator.save("cat", CAT)
        lose_the_outbox(tmp_path / "media") if mode != "distributed" else None
        replicator = replicators(hosts, mode=mode)
    assert "1 names of which each is in decomposed Unicode" in caplog.text and "resto status --skipped" in caplog.text
    assert {each.name for each in replicator.skipped()} == {"cafe\u0301", "draft~", ".git"}


# With a master


@on_every_kind
@pytest.mark.parametrize("mode", MASTERS)
def test_a_host_that_is_added_gets_everything_without_a_sync(replicators: Replicators, hosts: Any, mode: str) -> None:
    """All files, and the deletes of what it has from elsewhere; it is "new" until it has them."""
    first, second, added = hosts
    before = replicators([first, second], mode=mode)
    for name in ("a/cat", "dog", "gone"):
        before.save(name, CAT)
    before.delete("gone")
    assert before.drain(20) and states(before) == ["up", "up"]
    Path(added.root, "gone").write_bytes(b"from a backup")
    after = replicators(hosts, mode=mode)
    assert states(after) == ["up", "up", "new"]
    assert added.url not in after.status("dog").hosts
    assert differences(after, hosts, {"a/cat": CAT, "dog": CAT}) == {}
    assert states(after) == ["up", "up", "up"]
    assert after.status("dog").holding == tuple(host.url for host in hosts)


@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_is_added_is_filled_by_the_worker(replicators: Replicators, hosts: Any, mode: str) -> None:
    """Nobody has to ask for it: what the worker does now and then is enough."""
    before = replicators(hosts[:2], mode=mode)
    before.save("cat", CAT)
    assert before.drain(20)
    after = replicators(hosts, mode=mode)
    after.sweep()
    assert states(after) == ["up", "up", "new"] and after.status().owed == 1
    for _ in range(3):
        after.worker.step(after.settings.hosts[2])
    assert held(hosts[2]) == {"cat": CAT}
    after.sweep()
    assert states(after) == ["up", "up", "up"]


@pytest.mark.parametrize("mode", MODES)
def test_on_a_new_site_all_hosts_are_members_at_once(replicators: Replicators, hosts: Any, mode: str) -> None:
    """They hold the same: nothing. And nothing is owed to them."""
    replicator = replicators(hosts, mode=mode)
    assert states(replicator) == ["up", "up", "up"] and replicator.status().owed == 0
    assert replicator.status("cat").hosts == tuple(host.url for host in hosts)


@on_every_kind
@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_was_removed_and_is_added_again_gets_what_it_missed(
    replicators: Replicators, hosts: Any, mode: str
) -> None:
    """Files, new versions and deletes; until then it is asked nothing, and "new"."""
    both = replicators(hosts[:2], mode=mode)
    for name in ("cat", "dog"):
        both.save(name, b"old")
    assert both.drain(20)
    alone = replicators(hosts[1:2], mode=mode)
    alone.save("cat", b"new version", overwrite=True)
    alone.delete("dog")
    alone.save("new", CAT)
    assert alone.drain(20)
    expected = {"cat": b"new version", "new": CAT}
    again = replicators(hosts[:2], mode=mode)
    assert states(again) == ["new", "up"]
    assert believed(again) == expected and not again.exists("dog")
    assert again.status("cat").hosts == (hosts[1].url,)
    assert differences(again, hosts[:2], expected) == {}
    assert states(again) == ["up", "up"]


@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_was_removed_in_vain_is_a_member_still(replicators: Replicators, hosts: Any, mode: str) -> None:
    """It missed nothing: a setting that is put right at once costs nothing."""
    both = replicators(hosts[:2], mode=mode)
    both.save("cat", CAT)
    assert both.drain(20)
    assert replicators(hosts[1:2], mode=mode).drain(20)
    again = replicators(hosts[:2], mode=mode)
    again.sweep()
    assert states(again) == ["up", "up"] and again.status().owed == 0


@pytest.mark.parametrize("mode", MODES)
def test_while_old_and_new_processes_run_side_by_side_nobody_misses_anything(
    replicators: Replicators, hosts: Any, mode: str
) -> None:
    """A rolling restart that adds a host: the old process does not tell it what it saves and deletes meanwhile."""
    old = replicators(hosts[:1], mode=mode)
    old.save("deleted by the old", b"1")
    new = replicators(hosts[:2], mode=mode)
    assert new.drain(20)
    old.save("saved by the old", b"2")
    old.delete("deleted by the old")
    assert old.drain(20)
    assert differences(new, hosts[:2], {"saved by the old": b"2"}) == {}


def test_a_host_that_an_old_process_admits_once_more_misses_nothing(replicators: Replicators, hosts: Any) -> None:
    """A rolling restart that removes a host; later it is added again."""
    old = replicators(hosts[:2], mode="hybrid")
    old.save("cat", CAT)
    new = replicators(hosts[:1], mode="hybrid")
    new.save("first", b"1")
    assert old.drain(20)
    new.save("second", b"2")
    assert new.drain(20)
    again = replicators(hosts[:2], mode="hybrid")
    assert differences(again, hosts[:2], {"cat": CAT, "first": b"1", "second": b"2"}) == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_crash_while_a_host_is_admitted_leaves_it_new(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path
) -> None:
    """It is owed everything once more: a half is no state that anybody would notice later."""
    script = """
        import os, signal, sys
        from resto_wsgi import Replicator
        from resto_wsgi.outbox import outbox
        root, mode, *hosts = sys.argv[1:]
        outbox.CHUNK = 5
        replicator = Replicator(media_root=root, media_hosts=hosts, mode=mode, fsync=False, background=False)
        owe = outbox.Outbox.owe
        def owe_some(self, host, names):
            def some():
                for number, name in enumerate(names):
                    if number == 12:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield name
            return owe(self, host, some())
        outbox.Outbox.owe = owe_some
        replicator.drain(20)
    """
    expected = {f"{number:02}": CAT for number in range(20)}
    before = replicators(hosts[:1], mode=mode)
    for name in expected:
        before.save(name, CAT)
    assert before.drain(20)
    printed(start(script, tmp_path / "media", mode, *(host.url for host in hosts[:2])), -signal.SIGKILL)
    after = replicators(hosts[:2], mode=mode)
    assert states(after) == ["up", "new"]
    assert 0 < after.status().owed < len(expected)
    assert differences(after, hosts[:2], expected) == {}
    assert states(after) == ["up", "up"]


@pytest.mark.parametrize("mode", MODES)
def test_a_crash_before_a_host_has_everything_leaves_it_joining(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path
) -> None:
    """What it is owed is in the outbox: it is not owed twice, and it becomes a member when it has that."""
    before = replicators(hosts[:1], mode=mode)
    for name in "abc":
        before.save(name, CAT)
    assert before.drain(20)
    hosts[1].stop()
    killed = replicators(hosts[:2], mode=mode)
    killed.sweep()
    after = replicators(hosts[:2], mode=mode)
    assert states(after) == ["up", "new"] and after.status().owed == 3
    after.sweep()
    after.save("d", CAT)
    hosts[1].start()
    assert after.drain(20)
    assert states(after) == ["up", "up"]
    replicators.clock.ahead += HOUR
    after.sweep()
    assert differences(after, hosts[:2], dict.fromkeys("abcd", CAT)) == {}


@on_every_kind
@pytest.mark.parametrize("mode", MASTERS)
def test_with_a_fresh_outbox_all_hosts_are_owed_everything(
    replicators: Replicators, hosts: Any, mode: str, tmp_path: Path
) -> None:
    """Nobody knows any more what they were owed."""
    with Replicators(tmp_path / "media", mode=mode, fatal_exceptions=False) as lost:
        replicator = lost(hosts)
        replicator.save("on all", CAT)
        assert replicator.drain(20)
        hosts[0].stop()
        replicator.save("owed", CAT)
    hosts[0].start()
    lose_the_outbox(tmp_path / "media")
    replicator = replicators(hosts, mode=mode)
    assert states(replicator) == ["new", "new", "new"]
    assert replicator.status("owed").hosts == ()
    assert differences(replicator, hosts, {"on all": CAT, "owed": CAT}) == {}
    assert states(replicator) == ["up", "up", "up"]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_parked_keeps_no_host_out(replicators: Replicators, hosts: Any, mode: str) -> None:
    """A file that is too large for a host is owed to it, and all the rest it holds."""
    before = replicators(hosts[:1], mode=mode)
    before.save("large", bytes(20_000))
    before.save("small", CAT)
    assert before.drain(20)
    hosts[1].stop()
    hosts[1].max_body = 10_000
    hosts[1].start()
    after = replicators(hosts[:2], mode=mode)
    assert after.drain(5) is False
    assert states(after) == ["up", "up"]
    assert (after.status().owed, after.status().parked) == (1, 1)
    assert after.status("small").holding == (hosts[0].url, hosts[1].url)
    assert after.status("large").holding == (hosts[0].url,)
    hosts[1].stop()
    hosts[1].max_body = None
    hosts[1].start()
    assert after.drain(20, parked=True)
    assert held(hosts[1]) == {"large": bytes(20_000), "small": CAT}


def test_a_disk_that_is_away_makes_no_host_a_member(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """An unmounted media root is no empty one."""
    outbox = str(tmp_path / "outbox.sqlite3")
    replicators(hosts[:1], mode="hybrid", outbox=outbox).save("cat", CAT)
    after = replicators(hosts[:2], mode="hybrid", outbox=outbox)
    (tmp_path / "media").rename(tmp_path / "unmounted")
    (tmp_path / "media").mkdir()
    with pytest.raises(MediaRootError):
        after.drain(1)
    shutil.rmtree(tmp_path / "media")
    (tmp_path / "unmounted").rename(tmp_path / "media")
    assert states(after) == ["up", "new"]
    assert differences(after, hosts[:2], {"cat": CAT}) == {}


# Dismissing


@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_is_dismissed_is_owed_nothing(replicators: Replicators, hosts: Any, mode: str) -> None:
    """It says how much that was; should it come back, it is owed everything."""
    both = replicators(hosts[:2], mode=mode)
    both.save("cat", CAT)
    assert both.drain(20)
    hosts[1].stop()
    for name in ("dog", "cow"):
        both.save(name, CAT)
    with pytest.raises(ConfigError, match="is in media_hosts"):
        both.dismiss(hosts[1].url)
    alone = replicators(hosts[:1], mode=mode)
    assert alone.drain(20), "what is owed to others is waited for by nobody"
    (stray,) = alone.status().strays
    assert (stray.host, stray.state, stray.owed) == (hosts[1].url, "not configured", 2)
    assert alone.dismiss(hosts[1].url) == 2
    assert alone.status().strays == () and alone.status().owed == 0
    with pytest.raises(ConfigError, match="nothing is owed to such a media server"):
        alone.dismiss(hosts[1].url)
    alone.sweep()
    hosts[1].start()
    again = replicators(hosts[:2], mode=mode)
    assert states(again) == ["up", "new"]
    assert differences(again, hosts[:2], dict.fromkeys(("cat", "dog", "cow"), CAT)) == {}


# Draining


def test_a_drain_waits_for_what_was_owed_when_it_began(replicators: Replicators, hosts: Any) -> None:
    """On a busy site something is owed always; what is saved meanwhile is somebody else's."""
    replicator = replicators(hosts[:1], mode="async")
    replicator.save("first", CAT)
    later = iter(range(1000))

    def progress(owed: int) -> None:
        if owed:
            replicator.save(f"later-{next(later)}", CAT)

    assert replicator.drain(20, progress=progress) is True
    assert "first" in held(hosts[0])


# Mode distributed


@on_every_kind
def test_a_site_can_be_made_distributed(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """With a fresh outbox: every file is delivered to every host, and only then dropped here."""
    with Replicators(tmp_path / "media", mode="hybrid", fatal_exceptions=False) as before:
        before().save("a/before there were hosts", CAT)
        replicator = before(hosts[:1])
        replicator.save("dog", b"on one host")
        assert replicator.drain(20)
    with pytest.raises(OutboxError, match="a master"):
        replicators(hosts, mode="distributed")
    lose_the_outbox(tmp_path / "media")
    hosts[2].stop()
    after = replicators(hosts, mode="distributed")
    after.sweep()
    expected = {"a/before there were hosts": CAT, "dog": b"on one host"}
    assert states(after) == ["new", "new", "new"] and believed(after) == expected
    assert after.drain(0.3) is False
    assert files(tmp_path / "media") == expected, "a host has not got them yet"
    hosts[2].start()
    assert after.drain(20)
    after.sweep()
    replicators.clock.ahead += HOUR
    after.sweep()
    assert states(after) == ["up", "up", "up"]
    assert folders(tmp_path / "media") == []
    assert differences(after, hosts, expected) == {}


def test_a_spool_survives_a_change_of_the_hosts(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """A file that was acknowledged and is on no host yet is given to the new ones; nothing drops it before."""
    first, second, other = hosts
    for server in (first, second):
        server.stop()
    replicators([first, second], mode="distributed").save("cat", CAT)
    replicators.clock.ahead += HOUR
    after = replicators([other], mode="distributed")
    after.sweep()
    assert files(tmp_path / "media") == {"cat": CAT} and believed(after) == {"cat": CAT}
    assert after.drain(20)
    assert held(other) == {"cat": CAT}
    replicators.clock.ahead += HOUR
    after.sweep()
    assert believed(after) == {"cat": CAT}


def test_a_lost_outbox_loses_no_spool(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """What was acknowledged with all hosts away is delivered all the same."""
    with Replicators(tmp_path / "media", mode="distributed", fatal_exceptions=False) as lost:
        replicator = lost(hosts)
        for server in hosts:
            server.stop()
        replicator.save("cat", CAT)
    for server in hosts:
        server.start()
    lose_the_outbox(tmp_path / "media")
    replicator = replicators(hosts, mode="distributed")
    replicator.sweep()
    assert files(tmp_path / "media") == {"cat": CAT}
    assert replicator.drain(20)
    replicators.clock.ahead += HOUR
    replicator.sweep()
    assert differences(replicator, hosts, {"cat": CAT}) == {}


def test_what_only_a_removed_host_holds_is_not_absent(replicators: Replicators, hosts: Any) -> None:
    """Media_hosts set to another host by mistake, and a save; else the name would seem to be free."""
    both = replicators(hosts[:2], mode="distributed")
    both.save("cat", CAT)
    for _ in range(2):
        other = replicators(hosts[2:], mode="distributed")
        other.save("dog", b"dog", overwrite=True)
        for ask in (other.open, other.size, other.exists):
            with pytest.raises(ReplicationError, match="read 'cat'"):
                ask("cat")
        other.drain(1)


def test_hosts_that_were_removed_by_mistake_are_read_again(replicators: Replicators, hosts: Any) -> None:
    """They hold the files: nothing is to be overwritten, and all can be read when things are put right."""
    replicators(hosts[:2], mode="distributed").save("cat", CAT)
    replicators(hosts[2:], mode="distributed").save("dog", b"dog")
    again = replicators(hosts[:2], mode="distributed")
    with contextlib.suppress(ReplicationError):
        assert again.save("cat", b"another").name != "cat"
    assert again.drain(20, parked=True) or again.drain(20, parked=True)
    with again.open("cat") as file:
        assert file.read() == CAT
    assert [held(host)["cat"] for host in hosts[:2]] == [CAT, CAT]


@on_every_kind
def test_a_spool_is_kept_while_a_host_is_joining(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """What is saved meanwhile, and on all hosts, is what the new one may be filled from."""
    before = replicators(hosts[:2], mode="distributed")
    before.save("old", CAT)
    proxy = Proxy(hosts[2].port)
    with proxy:
        after = replicators([*hosts[:2], proxy], mode="distributed")
        after.sweep()
        assert states(after) == ["up", "up", "new"]
        after.save("cat", CAT)
        assert after.status("cat").owing == {}
        assert files(tmp_path / "media") == {"cat": CAT}
        assert after.drain(20)
        replicators.clock.ahead += HOUR
        after.sweep()
        assert files(tmp_path / "media") == {}
        assert [held(host) for host in hosts] == [{"old": CAT, "cat": CAT}] * 3


@pytest.mark.parametrize(
    ("made", "used"), [("distributed", "hybrid"), ("distributed", "async"), ("async", "distributed")]
)
def test_an_outbox_of_the_other_kind_is_refused(replicators: Replicators, hosts: Any, made: str, used: str) -> None:
    """It would be taken for knowledge that it is not; the error says what to do, and nothing was changed."""
    replicator = replicators(hosts, mode=made)
    replicator.save("cat", CAT)
    with pytest.raises(OutboxError) as caught:
        replicators(hosts, mode=used)
    assert "RESTO_MODE" in str(caught.value) and "README" in str(caught.value)
    kept = "no master" if made == "distributed" else "a master"
    assert kept in str(caught.value)
    assert differences(replicators(hosts, mode=made), hosts, {"cat": CAT}) == {}


def test_hybrid_and_async_share_an_outbox(replicators: Replicators, hosts: Any) -> None:
    """Both keep a master."""
    hosts[0].stop()
    replicators(hosts, mode="async").save("cat", CAT)
    hosts[0].start()
    assert differences(replicators(hosts, mode="hybrid"), hosts, {"cat": CAT}) == {}


def test_an_outbox_elsewhere_is_refused_without_a_master(replicators: Replicators, hosts: Any, tmp_path: Path) -> None:
    """Each machine would have its own spool, and none the whole truth."""
    with pytest.raises(ConfigError, match=r"^outbox: "):
        replicators(hosts, mode="distributed", outbox=str(tmp_path / "outbox.sqlite3"))
    assert not (tmp_path / "outbox.sqlite3").exists()


@on_every_kind
def test_hosts_are_synced_one_after_the_other(replicators: Replicators, hosts: Any) -> None:
    """Each is filled from the other; both at once would leave nobody who is known to hold anything."""
    replicator = replicators(hosts[:2], mode="distributed")
    saved = {name: os.urandom(1000) for name in ("a/cat", "dog")}
    for name, content in saved.items():
        replicator.save(name, content)
    for host in hosts[:2]:
        for name in saved:
            os.unlink(os.path.join(host.root, name))
        assert replicator.sync(host.url) == 2
        other = next(each for each in hosts[:2] if each is not host)
        with pytest.raises(ConfigError, match="drain"):
            replicator.sync(other.url)
        assert believed(replicator) == saved
        assert replicator.drain(20)
        assert held(host) == saved
    assert differences(replicator, hosts[:2], saved) == {}


def outbox_of(replicator: Replicator) -> Path:
    return Path(replicator.settings.media_root, ".resto", "outbox.sqlite3")


def restart_with(replicators: Replicators, hosts: Any, replicator: Replicator, backup: Path | None, mode: str) -> Any:
    """Close it, put the backup in the place of its outbox, or nothing, and start again."""
    replicator.close()
    path = outbox_of(replicator)
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    path.unlink()
    if backup:
        shutil.copy(backup, path)
    return replicators(hosts, mode=mode)


@pytest.mark.parametrize("from_a_backup", [False, True])
def test_a_lost_outbox_is_told_and_its_hosts_get_all_files(
    replicators: Replicators, hosts: Any, tmp_path: Path, from_a_backup: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also what a host missed since. A delete that it missed is made again, as the message says."""
    replicator = replicators(hosts)
    replicator.save("old", CAT)
    replicator.save("gone", CAT)
    replicator.close()
    backup = shutil.copy(outbox_of(replicator), tmp_path / "backup") if from_a_backup else None
    replicator = replicators(hosts)
    hosts[2].stop()
    replicator.save("new", CAT)
    replicator.delete("gone")
    hosts[2].start()
    replicator = restart_with(replicators, hosts, replicator, backup, "hybrid")
    assert ("is older than" if from_a_backup else "is gone, with what it owed") in caplog.text
    assert replicator.drain(20)
    assert held(hosts[2]) == {"old": CAT, "new": CAT, "gone": CAT}
    assert "delete it again with `Replicator.delete(NAME)`" in caplog.text
    replicator.delete("gone")
    assert differences(replicator, hosts, {"old": CAT, "new": CAT}) == {}


def test_a_lost_outbox_without_a_master_has_a_way_out(
    replicators: Replicators, hosts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Files are read and replaced by their names; a copy of one host and a sync of each make the listing whole."""
    replicator = replicators(hosts, mode="distributed")
    for name in ("cat", "dog"):
        replicator.save(name, CAT)
    Path(hosts[1].root, "dog").unlink()
    replicator = restart_with(replicators, hosts, replicator, None, "distributed")
    assert "copy the files of one media server into MEDIA_ROOT" in caplog.text
    with replicator.open("dog") as file:
        assert file.read() == CAT
    replicator.save("cat", b"new", overwrite=True)
    shutil.copytree(hosts[0].root, replicator.settings.media_root, dirs_exist_ok=True)
    for host in hosts:
        replicator.sync(host.url)
        assert replicator.drain(20)
    assert replicator.listdir() == ([], ["cat", "dog"])
    replicators.clock.ahead += 3700  # the hourly sweep empties MEDIA_ROOT again
    replicator.sweep()
    assert differences(replicator, hosts, {"cat": b"new", "dog": CAT}) == {}


def test_an_outbox_from_a_backup_without_a_master_hides_no_file(
    replicators: Replicators, hosts: Any, tmp_path: Path
) -> None:
    """What was deleted then and saved again since is there; what was replaced since is read and replaced."""
    replicator = replicators(hosts, mode="distributed")
    for name in ("again", "replaced"):
        replicator.save(name, CAT)
    replicator.delete("again")
    replicator.close()
    backup = Path(shutil.copy(outbox_of(replicator), tmp_path / "backup"))
    replicator = replicators(hosts, mode="distributed")
    replicator.save("again", b"new")
    replicator.save("replaced", b"new", overwrite=True)
    replicator.save("since", b"new")
    replicator = restart_with(replicators, hosts, replicator, backup, "distributed")
    for name in ("again", "replaced", "since"):
        with replicator.open(name) as file:
            assert file.read() == b"new"
    replicator.save("replaced", b"newer", overwrite=True)
    assert replicator.save("again", b"other").name != "again"
    assert replicator.drain(20)
    assert all(held(host)["replaced"] == b"newer" and held(host)["again"] == b"new" for host in hosts)


def test_the_only_host_cannot_be_synced_without_a_master(replicators: Replicators, hosts: Any) -> None:
    """There is nothing to fill it from; it is still what is read."""
    replicator = replicators(hosts[:1], mode="distributed")
    replicator.save("cat", CAT)
    with pytest.raises(ConfigError, match="no other media server"):
        replicator.sync(hosts[0].url)
    assert states(replicator) == ["up"] and believed(replicator) == {"cat": CAT}


@on_every_kind
def test_a_folder_on_the_hosts_is_not_deleted(replicators: Replicators, hosts: Any) -> None:
    """It is a name of no file; what is in it stays, and nothing is owed."""
    replicator = replicators(hosts, mode="distributed")
    replicator.save("a/b/cat", CAT)
    for name in ("a", "a/b"):
        with pytest.raises(NameRejected, match="folder"):
            replicator.delete(name)
    assert replicator.status().owed == 0
    replicator.delete("a/b/cat")
    replicator.delete("a/b")
    replicator.delete("a")
    assert differences(replicator, hosts, {}) == {}


def test_of_an_unknown_name_a_host_that_is_down_is_not_asked(replicators: Replicators, hosts: Any) -> None:
    """Where another has answered: each such question would cost a timeout."""
    with Proxy(hosts[0].port) as proxy:
        replicator = replicators([proxy, hosts[1]], mode="distributed", timeout=0.4)
        proxy.set("silent")
        replicator.save("dog", CAT)
        began = time.monotonic()
        for number in range(20):
            assert not replicator.exists(f"unknown-{number}")
        assert time.monotonic() - began < 3
        hosts[1].stop()
        with pytest.raises(ReplicationError):
            replicator.exists("unknown")


# A name that was a file and is a folder


@pytest.mark.parametrize("mode", ["hybrid", "distributed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_became_a_folder_settles(
    replicators: Replicators, media_servers: Any, kind: str, mode: str
) -> None:
    """The save and the delete of the file are unsure, and are looked at again when there is a folder of that name."""
    servers = media_servers(kind, 2)
    with Proxy(servers[1].port) as proxy:
        replicator = replicators([servers[0], proxy], mode=mode, timeout=0.3)
        proxy.set("silent")
        replicator.save("a", b"a file")
        replicator.delete("a")
        proxy.set("pass")
        replicator.save("a/cat", CAT)
        assert differences(replicator, servers, {"a/cat": CAT}) == {}
        assert states(replicator) == ["up", "up"]


# The outbox


def test_a_host_is_joining_and_then_a_member(tmp_path: Path) -> None:
    """What the outbox notes survives; whoever is expelled is neither."""
    path = str(tmp_path / "outbox.sqlite3")
    outbox = Outbox(path)
    assert outbox.members() == frozenset() and outbox.joining() == {}
    outbox.admit(A)
    outbox.admit(B, joining=7)
    outbox.close()
    outbox = Outbox(path)
    assert outbox.members() == {A} and outbox.joining() == {B: 7}
    outbox.admit(B)
    assert outbox.members() == {A, B} and outbox.joining() == {}
    outbox.expel([A, NEVER])
    assert outbox.members() == {B} and outbox.joining() == {}
    outbox.close()


def test_what_is_owed_until_a_generation_is_counted(tmp_path: Path) -> None:
    """Later ones are not, and a name that was recorded again is a later one."""
    outbox = Outbox(str(tmp_path / "outbox.sqlite3"))
    for name in "abc":
        outbox.record(name, [A, B], begin=False, due=0.0)
    until = outbox.generation()
    outbox.record("d", [A], begin=False, due=0.0)
    assert outbox.owed([A]) == 4 and outbox.owed([A], until=until) == 3
    outbox.record("a", [A], begin=False, due=0.0)
    assert outbox.owed([A], until=until) == 2
    assert outbox.owed([A, B], until=until) == 5
    assert outbox.generation() > until
    assert outbox.forget(A) == 4
    assert outbox.owed([A]) == 0 and outbox.owed([B]) == 3
    outbox.close()
