"""`resto status`, `drain`, `sync` and `forget` as cron and people run them: real processes, real media servers."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from belief import Replicators
from servers import REFUSED, eventually, files

from resto_wsgi import ReplicationError
from resto_wsgi.hosts import Host
from resto_wsgi.outbox.outbox import Failure, HostState, Outbox
from resto_wsgi.replicator import Replicator

COMMAND = [sys.executable, "-c", "from resto_wsgi.cli import main; main()"]
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
CAT = b"\xff\xd8 a cat \r\n" * 100

Result = subprocess.CompletedProcess[str]
Resto = Callable[..., Result]


@pytest.fixture
def replicators(tmp_path: Path) -> Iterator[Replicators]:
    """Replicators that log and go on, over the media root that the command is given."""
    with Replicators(tmp_path / "media", fatal_exceptions=False) as replicators:
        yield replicators


def environment(media_root: Path, servers: Any, **more: str) -> dict[str, str]:
    ours = {"MEDIA_ROOT": str(media_root), "RESTO_MEDIA_HOSTS": ",".join(server.url for server in servers)}
    return _clean(os.environ) | {"COLUMNS": "200", "RESTO_TIMEOUT": "1"} | ours | more


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    ours = ("RESTO_", "MEDIA_")
    return {name: value for name, value in environ.items() if not name.startswith(ours)}


@pytest.fixture
def resto(tmp_path: Path) -> Resto:
    """``resto(servers, "drain", RESTO_MODE="async")`` runs the command with that environment, to its end."""

    def resto(servers: Any, *arguments: str, **more: str) -> Result:
        env = environment(tmp_path / "media", servers, **more)
        return subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60)

    return resto


def owing(replicator: Replicator, server: Any, *names: str) -> None:
    """Save names while a server is away."""
    server.stop()
    for name in names:
        replicator.save(name, CAT)


def rows(table: str) -> list[list[str]]:
    """The cells of a table, line by line: they are two blanks apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


# resto status


def test_status_shows_every_host(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """One line for each, with exit status 0 where all is well and 1 where something is owed; nothing on stderr.

    What each says now and what is remembered of it have a column each.
    """
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    result = resto(servers, "status")
    assert (result.returncode, result.stderr) == (0, "")
    assert rows(result.stdout) == [
        ["host", "asked now", "remembered", "since", "owed", "parked", "oldest", "last error"],
        [up.url, "answers", "up", "0", "0"],
        [down.url, "answers", "up", "0", "0"],
    ]
    owing(replicator, down, "cat", "dog")
    result = resto(servers, "status")
    assert (result.returncode, result.stderr) == (1, "")
    _, first, second = rows(result.stdout)
    assert first == [up.url, "answers", "up", "0", "0"]
    assert second[:3] == [down.url, REFUSED, "down"] and second[4:6] == ["2", "0"]
    assert re.fullmatch(TIME, second[3]) and re.fullmatch(TIME, second[6])
    assert second[7] == REFUSED


def test_a_host_that_is_dead_is_not_well_though_nothing_is_owed(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """Before the first upload meets it, and after uploads were refused for it; and well again when it answers."""
    _, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers, fatal_exceptions=True)
    down.stop()
    result = resto(servers, "status")
    assert result.returncode == 1
    assert rows(result.stdout)[2] == [down.url, REFUSED, "up", "0", "0"]
    assert resto(servers, "status", "--offline").returncode == 0, "that nobody has met"
    with pytest.raises(ReplicationError):
        replicator.save("cat", CAT)
    for arguments in (["status"], ["status", "--offline"], ["status", "--json"]):
        assert resto(servers, *arguments).returncode == 1, arguments
    down.start()
    result = resto(servers, "status")
    assert (result.returncode, rows(result.stdout)[2][:3]) == (0, [down.url, "answers", "down"])
    asked, offline = (json.loads(resto(servers, "status", "--json", *more).stdout) for more in ([], ["--offline"]))
    assert (asked["well"], asked["hosts"][1]["asked"]) == (True, {"answers": True, "error": ""})
    assert (offline["well"], offline["hosts"][1]["asked"], offline["hosts"][1]["state"]) == (False, None, "down")


def test_a_host_that_refuses_writes_is_not_well_though_it_answers(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """That it refuses them is what is remembered; asking writes nothing."""
    (server,) = media_servers("nginx", extra="location / { dav_methods off; }")
    with pytest.raises(ReplicationError):
        replicators([server], fatal_exceptions=True).save("cat", CAT)
    result = resto([server], "status")
    assert (result.returncode, rows(result.stdout)[1][:3]) == (1, [server.url, "answers", "read-only"])


def test_a_new_host_is_owed_all_before_that_is_counted(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """Also one that was here before, and answers: what was saved meanwhile it has not got."""
    first, second = media_servers("nginx", 2)
    replicators([first, second]).close()
    with replicators([first]) as replicator:
        replicator.save("cat", CAT)
    result = resto([first, second], "status")
    assert result.returncode == 1
    assert rows(result.stdout)[2] == [second.url, "answers", "new", "all", "0"]
    assert json.loads(resto([first, second], "status", "--json").stdout)["hosts"][1]["everything"] is True
    result = resto([first, second], "status", "cat")
    assert result.returncode == 1
    assert rows(result.stdout)[3][:3] == [second.url, "does not hold it", "new"]
    assert resto([first, second], "drain").returncode == 0
    for arguments in (["status"], ["status", "cat"]):
        assert resto([first, second], *arguments).returncode == 0


def test_what_no_media_server_gets_is_counted_and_all_of_it_shown(
    resto: Resto, replicators: Replicators, nginx: Any, tmp_path: Path
) -> None:
    """Names and what is wrong with each, safe in a terminal; nothing of it is owed."""
    (tmp_path / "media").mkdir()
    shown = resto([nginx], "status", "--skipped")
    assert shown.returncode == 2, "no application has saved anything yet"
    replicator = replicators([nginx])
    replicator.save("cat", CAT)
    assert resto([nginx], "status", "--skipped").stdout == "every file is one that media servers get\n"
    for number in range(12):
        (tmp_path / f"media/line\n{number}").touch()
    os.symlink("cat", tmp_path / "media/link")
    assert replicator.sync(nginx.url) == 1 and replicator.drain(20)
    status = resto([nginx], "status")
    assert "no media server gets 12 names of which each holds a control character; all of them: " in status.stdout
    assert "no media server gets 1 symbolic links" in status.stdout and status.returncode == 0
    assert json.loads(resto([nginx], "status", "--json").stdout)["skipped"]["symbolic links"] == 1
    shown = resto([nginx], "status", "--skipped")
    lines = sorted(shown.stdout.splitlines())
    assert len(lines) == 13 and shown.returncode == 1
    assert lines[0] == r"'line\n0': one of the names of which each holds a control character"
    assert {"name": "link", "kind": "symbolic links"} in [
        json.loads(line) for line in resto([nginx], "status", "--skipped", "--json").stdout.splitlines()
    ]


@pytest.mark.parametrize("arguments", [["status"], ["status", "cat"], ["drain"]])
def test_without_hosts_nothing_can_be_found_out(
    resto: Resto, replicators: Replicators, media_servers: Any, arguments: list[str]
) -> None:
    """A shell that lacks the application's RESTO_MEDIA_HOSTS is no site on which all is well."""
    (server,) = media_servers("nginx")
    owing(replicators([server]), server, "cat")
    result = resto([], *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == ("resto: RESTO_MEDIA_HOSTS: names no media server; set it as it is for the application\n")


def test_asking_takes_no_longer_than_the_slowest_host(resto: Resto, replicators: Replicators, faulty: Any) -> None:
    """All are asked at once, and one that says nothing is given up after the timeout (1 s here)."""
    servers = [faulty("hang") for _ in range(8)]
    replicators(servers).close()
    began = time.monotonic()
    result = resto(servers, "status")
    assert time.monotonic() - began < 8
    assert result.returncode == 1
    assert all("timeout" in row[1] or "answer" in row[1] for row in rows(result.stdout)[1:]), result.stdout


def test_status_is_json_where_it_is_asked_for(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """What ``Replicator.status`` says, with times in seconds since 1970, and the same exit status."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    owing(replicator, down, "cat")
    result = resto(servers, "status", "--json")
    facts = json.loads(result.stdout)
    assert (result.returncode, facts["owed"], facts["parked"]) == (1, 1, 0)
    assert [host["host"] for host in facts["hosts"]] == [up.url, down.url]
    remembered = {"host", "url", "state", "since", "owed", "parked", "oldest", "error", "everything"}
    assert facts["hosts"][1].keys() == remembered | {"asked"}
    assert (facts["hosts"][1]["state"], facts["hosts"][1]["owed"]) == ("down", 1)
    assert abs(facts["hosts"][1]["oldest"] - time.time()) < 60
    result = resto(servers, "status", "cat", "--json")
    facts = json.loads(result.stdout)
    assert (result.returncode, facts["name"], facts["present"], facts["holding"]) == (1, "cat", True, [up.url])
    assert facts["owing"][down.url]["reason"] == REFUSED


def test_status_of_a_name_shows_who_holds_it(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """And who does not for certain, since when, and why: a host that is dead holds nothing that anybody has seen."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    replicator.save("dog", CAT)
    owing(replicator, down, "cat é.jpg")
    result = resto(servers, "status", "cat é.jpg")
    assert (result.returncode, result.stderr) == (1, "")
    title, head, first, second = result.stdout.splitlines()
    assert title == "'cat \\xe9.jpg' is present"
    columns = ["host", "asked now", "remembered", "owed since", "why"]
    assert rows(f"{head}\n{first}") == [columns, [up.url, f"holds it, {len(CAT):,} bytes", "holds it"]]
    assert re.fullmatch(rf"{down.url} +{re.escape(REFUSED)} +owed +{TIME} +{re.escape(REFUSED)} *", second)
    result = resto(servers, "status", "dog")
    assert (result.returncode, rows(result.stdout)[3]) == (1, [down.url, REFUSED, "holds it"])
    assert resto(servers, "status", "dog", "--offline").returncode == 0
    down.start()
    assert resto(servers, "status", "dog").returncode == 0


def test_status_of_a_name_compares_what_hosts_hold(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """A file that was lost there, one that was cut short, and one that stayed after a delete."""
    good, lost, short = servers = media_servers("nginx", 3)
    replicator = replicators(servers)
    for name in ("cat", "gone"):
        replicator.save(name, CAT)
    replicator.delete("gone")
    assert resto(servers, "status", "gone").returncode == 0
    os.unlink(os.path.join(lost.root, "cat"))
    for name in ("cat", "gone"):
        Path(short.root, name).write_bytes(CAT[:1000])
    result = resto(servers, "status", "cat")
    assert result.returncode == 1
    said = [row[1] for row in rows(result.stdout)[2:]]
    assert said == [f"holds it, {len(CAT):,} bytes", "does not hold it", f"holds 1,000 bytes, not {len(CAT):,}"]
    facts = json.loads(resto(servers, "status", "cat", "--json").stdout)
    assert (facts["well"], facts["holding"], facts["asked"][lost.url]) == (
        False,
        [good.url],
        {"error": "", "size": None},
    )
    result = resto(servers, "status", "gone")
    assert result.returncode == 1
    assert [row[1] for row in rows(result.stdout)[2:]] == ["does not hold it"] * 2 + ["holds it, 1,000 bytes"]


@pytest.mark.parametrize("mode", ["hybrid", "distributed"])
def test_status_of_a_name_that_is_nowhere_says_so(
    resto: Resto, replicators: Replicators, media_servers: Any, mode: str
) -> None:
    """It may be mistyped: that is not the answer to one that was deleted, of which all is well."""
    servers = media_servers("nginx", 2)
    replicator = replicators(servers, mode=mode)
    replicator.save("cat", CAT)
    replicator.delete("cat")
    replicator.save("dog", CAT)
    replicator.close()
    for name, status, kind in (("never", 1, "unknown: "), ("cat", 0, "absent"), ("dog", 0, "present")):
        for more in ([], ["--offline"]):
            result = resto(servers, "status", name, *more, RESTO_MODE=mode)
            assert result.returncode == status, result.stdout
            assert result.stdout.startswith(f"'{name}' is {kind}")
            assert ("nothing" in result.stdout.splitlines()[2]) == (name == "never"), "what is remembered of it"
    result = resto(servers, "status", "../cat", RESTO_MODE=mode)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"resto: name '\.\./cat': .+\n", result.stderr)


def test_without_a_master_the_sizes_of_hosts_are_compared(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """Which of them is right nobody knows here; that they differ is told."""
    servers = media_servers("nginx", 2)
    with replicators(servers, mode="distributed") as replicator:
        replicator.save("cat", CAT)
    Path(servers[1].root, "cat").write_bytes(CAT[:1000])
    result = resto(servers, "status", "cat", RESTO_MODE="distributed")
    assert (result.returncode, rows(result.stdout)[3][1]) == (1, f"holds 1,000 bytes, not {len(CAT):,}")
    for server in servers:
        os.unlink(os.path.join(server.root, "cat"))
    assert resto(servers, "status", "cat", RESTO_MODE="distributed").returncode == 1, "it is lost"


def test_status_offline_asks_no_host_and_delivers_nothing(resto: Resto, replicators: Replicators, faulty: Any) -> None:
    """Looking changes nothing."""
    server = faulty("hang")
    replicators([server], mode="async").save("cat", CAT)
    for arguments in (["status", "--offline"], ["status", "cat", "--offline"]):
        assert resto([server], *arguments, RESTO_MODE="async").returncode == 1
    assert server.connections == 0


def test_asking_notes_nothing(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """When a host is tried again is not for whoever looks: what is remembered is the same afterwards."""
    (server,) = media_servers("nginx")
    replicator = replicators([server])
    owing(replicator, server, "cat")
    before = replicator.status()
    server.start()
    for arguments in (["status"], ["status", "cat"]):
        assert resto([server], *arguments).returncode == 1
    assert replicator.status() == before and files(server.root) == {}


def test_status_shows_a_host_that_is_no_longer_configured(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """What is left for it is still owed."""
    kept, left = media_servers("nginx", 2)
    owing(replicators([kept, left]), left, "cat")
    result = resto([kept], "status")
    assert result.returncode == 1
    assert rows(result.stdout)[2][:3] == [left.url, "not configured", "1"]  # nobody asks it


HOSTILE = "[red]x[/red] [/] \x1b[31;1m\x1b]0;title\x07 \r\n\x9b31m \u202e:smile: \ud7ff" + "y" * 300


def test_what_a_host_says_breaks_no_output(resto: Resto, replicators: Replicators, nginx: Any, tmp_path: Path) -> None:
    """Neither markup nor control characters, wherever they come from; and JSON stays JSON."""
    replicator = replicators([nginx], mode="async")
    name = "[red]cat[/] :smile: ]]]"
    replicator.save(name, CAT)
    outbox = Outbox(str(tmp_path / "media/.resto/outbox.sqlite3"))
    (delivery,) = outbox.claim(Host.of(nginx.url), [name])
    now = time.time()
    state = HostState(Host.of(nginx.url), "down", now, 1, now + 60, HOSTILE, now)
    outbox.settle((), [Failure(delivery, now + 60, HOSTILE)], [state])
    outbox.close()
    for width, arguments in (("120", ["status"]), ("100", ["status", name])):
        result = resto([nginx], *arguments, COLUMNS=width)
        assert (result.returncode, result.stderr) == (1, "")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud7ff]", result.stdout)
        assert "[red]x[/red]" in result.stdout and "\\x1b[31;1m" in result.stdout
        assert result.stdout.count("y") >= 300
    assert f"{name!r} is present" in result.stdout
    assert json.loads(resto([nginx], "status", "--json").stdout)["hosts"][0]["error"] == HOSTILE
    assert json.loads(resto([nginx], "status", name, "--json").stdout)["owing"][nginx.url]["reason"] == HOSTILE


def test_what_a_real_host_answers_breaks_no_output(resto: Resto, replicators: Replicators, faulty: Any) -> None:
    """A reply that is no HTTP is shown quoted."""

    def answer(connection: Any, reader: Any) -> None:
        server.read_request(reader)
        connection.sendall(b"[bold]220\x1b[31m mail \x07\xff\r\n\r\n")

    server = faulty(answer)
    replicators([server]).save("cat", CAT)
    result = resto([server], "status")
    assert result.returncode == 1 and result.stdout.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", result.stdout)


# resto drain


def test_drain_delivers_and_says_so(resto: Resto, replicators: Replicators, nginx: Any) -> None:
    """Exit status 0 and one line on stdout; on stderr, of which cron sends a mail, once that the host is back."""
    replicator = replicators([nginx])
    owing(replicator, nginx, "a", "b", "c")
    replicator.close()
    nginx.start()
    result = resto([nginx], "drain")
    assert (result.returncode, result.stdout) == (0, "nothing is owed\n")
    assert re.fullmatch(rf"{nginx.url} is back after \d+ seconds?: it was owed 3 names\n", result.stderr)
    assert files(nginx.root) == dict.fromkeys("abc", CAT)
    result = resto([nginx], "drain")
    assert (result.returncode, result.stdout, result.stderr) == (0, "nothing is owed\n", "")


def test_drain_gives_up_when_its_time_is_up(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """Exit status 1, and what is left is shown."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    owing(replicator, down, "cat")
    replicator.close()
    began = time.monotonic()
    result = resto(servers, "drain", "--timeout", "0.5")
    assert time.monotonic() - began < 20
    assert result.returncode == 1
    assert [row[:2] for row in rows(result.stdout)[1:]] == [[up.url, "up"], [down.url, "down"]]


def test_drain_of_one_host_leaves_the_others(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """It does not wait for them, and does not say that nothing is owed to them."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers, mode="async")
    owing(replicator, down, "cat")
    replicator.close()
    result = resto(servers, "drain", "--host", up.url, "--timeout", "20", RESTO_MODE="async")
    assert (result.returncode, result.stdout) == (0, f"nothing is owed to {up.url}\n")
    assert files(up.root) == {"cat": CAT}
    assert replicators(servers, mode="async").status().owed == 1


def test_drain_waits_for_what_is_parked_only_where_it_is_told_to(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """It says at once that something is left; with --parked it is delivered, where the host has been mended."""
    (server,) = media_servers("nginx", max_body=10)
    replicator = replicators([server])
    replicator.save("large", CAT)
    replicator.close()
    began = time.monotonic()
    result = resto([server], "drain", "--timeout", "50")
    assert time.monotonic() - began < 20
    assert result.returncode == 1
    assert re.fullmatch(rf"{server.url} +up +({TIME})? +1 +1 +{TIME}.*", result.stdout.splitlines()[1])
    server.max_body = None
    server.restart()
    result = resto([server], "drain", "--parked")
    assert (result.returncode, result.stdout) == (0, "nothing is owed\n")
    assert files(server.root) == {"large": CAT}


def test_drain_works_while_another_process_delivers(
    resto: Resto, replicators: Replicators, nginx: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One process at a time does it; the other waits for that, and does not fail."""
    replicator = replicators([nginx], background=True)
    owing(replicator, nginx, "a", "b")
    eventually(lambda: "still owed: " in caplog.text)  # it is the one that delivers
    nginx.start()
    result = resto([nginx], "drain", "--timeout", "30")
    assert result.returncode == 0
    assert re.fullmatch(r"(.* is back after .*\n)?", result.stderr), "whichever of the two has met it first"
    assert replicator.status().owed == 0
    assert files(nginx.root) == dict.fromkeys("ab", CAT)


@pytest.mark.parametrize("arguments", [["drain", "--host", "elsewhere:80"], ["sync", "elsewhere:80"]])
def test_a_host_that_is_not_configured_is_an_error(
    resto: Resto, replicators: Replicators, nginx: Any, arguments: list[str]
) -> None:
    """One line that says which there are."""
    replicators([nginx]).close()
    result = resto([nginx], *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"resto: host: no such media server; media_hosts has {nginx.url}\n"


def test_without_media_root_each_command_says_what_is_missing(tmp_path: Path) -> None:
    """One line, no traceback, and nothing is made anywhere."""
    options: Any = {"env": _clean(os.environ), "cwd": tmp_path, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    commands = (["status"], ["drain"], ["sync", "media-01"], ["forget", "http://media-01/"])
    for process in [subprocess.Popen([*COMMAND, *arguments], **options) for arguments in commands]:
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, "")
        assert re.fullmatch(r"resto: MEDIA_ROOT: is required: .+\n", errors)
    assert os.listdir(tmp_path) == []


COMMANDS = (["status"], ["status", "cat"], ["drain"], ["sync", "media-01"], ["forget", "http://media-01/"])


@pytest.mark.parametrize("there", [False, True])
def test_where_no_application_has_been_nothing_is_made(resto: Resto, tmp_path: Path, there: bool) -> None:
    """A mistyped MEDIA_ROOT is no site on which all is well."""
    media = tmp_path / "media"
    if there:
        media.mkdir()
        (media / "cat").write_bytes(CAT)
    wrong = f"no application has used {media} yet; its first request begins, or `resto sync HOST`"
    if not there:
        wrong = f"there is no folder {media}; see that its disk is mounted"
    for arguments in COMMANDS:
        if there and arguments[0] == "sync":
            continue  # that is how a migration begins
        result = resto([], *arguments, RESTO_MEDIA_HOSTS="media-01")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f"resto: MEDIA_ROOT: {wrong}\n"
    assert sorted(os.listdir(tmp_path)) == (["media"] if there else [])
    assert not there or os.listdir(media) == ["cat"]


def test_sync_begins_with_a_folder_that_no_application_has_used(
    resto: Resto, media_servers: Any, tmp_path: Path
) -> None:
    """A site that migrates fills its media servers before it serves with them."""
    servers = media_servers("nginx", 2)
    (tmp_path / "media/a").mkdir(parents=True, mode=0o755)
    (tmp_path / "media/a/cat").write_bytes(CAT)
    result = resto(servers, "sync", servers[0].url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{servers[0].url} is owed 1 name; ")
    assert resto(servers, "drain").returncode == 0
    assert [files(server.root) for server in servers] == [{"a/cat": CAT}] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders another user's")
@pytest.mark.parametrize(("owner", "mode"), [(12345, 0o755), (0, 0o775), (0, 0o1777)])
def test_sync_begins_in_nobodys_place(resto: Resto, nginx: Any, tmp_path: Path, owner: int, mode: int) -> None:
    """What root would make in a folder that others write to, the application could not write."""
    media = tmp_path / "media"
    media.mkdir()
    media.chmod(mode)
    os.chown(media, owner, -1)
    result = resto([nginx], "sync", nginx.url)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "run this as" in result.stderr and os.listdir(media) == []


def test_a_media_root_that_is_no_folder_is_told_as_such(resto: Resto, tmp_path: Path) -> None:
    """A file of that name, and a path through a file."""
    (tmp_path / "file").write_bytes(CAT)
    for path, says in (("file", "is no folder"), ("file/media", "cannot be looked into: Not a directory")):
        result = resto([], "status", RESTO_MEDIA_HOSTS="media-01", MEDIA_ROOT=str(tmp_path / path))
        assert (result.returncode, result.stdout) == (2, "")
        assert says in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files another user's")
def test_the_media_root_of_another_user_is_refused(
    resto: Resto, replicators: Replicators, nginx: Any, tmp_path: Path
) -> None:
    """Root would leave files that the application cannot write; the error says how to do it."""
    replicators([nginx]).close()
    hidden = tmp_path / "media/.resto"
    os.chown(hidden, 12345, -1)
    before = sorted((path.name, path.stat().st_uid) for path in hidden.rglob("*"))
    for arguments in COMMANDS:
        result = resto([nginx], *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(r"resto: MEDIA_ROOT: is not yours; .*sudo -u '#12345' resto.*\n", result.stderr)
    assert sorted((path.name, path.stat().st_uid) for path in hidden.rglob("*")) == before


def test_a_table_is_a_line_for_each_host_where_there_is_no_terminal(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """However narrow the terminal was that cron does not have: for grep, and for mails."""
    _, down = servers = media_servers("nginx", 2)
    owing(replicators(servers), down, "cat")
    for arguments, lines in ((["status"], 3), (["status", "cat"], 4), (["drain", "--timeout", "0"], 3)):
        result = resto(servers, *arguments, COLUMNS="40")
        assert result.returncode == 1
        assert len(result.stdout.splitlines()) == lines
        assert result.stdout.splitlines()[-1].startswith(down.url)
        assert REFUSED in result.stdout.splitlines()[-1]


def test_a_timeout_that_is_none_is_a_usage_error(resto: Resto, nginx: Any) -> None:
    """Before anything is done."""
    result = resto([nginx], "drain", "--timeout", "-1")
    assert result.returncode == 2 and "--timeout" in result.stderr


def test_a_damaged_outbox_is_one_line(resto: Resto, replicators: Replicators, nginx: Any, tmp_path: Path) -> None:
    """With the file and the remedy, and exit status 2."""
    replicators([nginx]).close()
    outbox = tmp_path / "media/.resto/outbox.sqlite3"
    for path in outbox.parent.glob("outbox.sqlite3*"):
        path.unlink()
    outbox.write_bytes(b"not a database" * 1000)
    result = resto([nginx], "status")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"resto: outbox '{outbox}': .+; .+\n", result.stderr)


def on_a_terminal(command: list[str], env: dict[str, str]) -> tuple[int, str, str]:
    """Run a command whose stderr is a terminal; return its exit status, stdout and what the terminal got."""
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=slave, text=True) as process:
        os.close(slave)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while block := os.read(master, 65536):
                seen += block
        os.close(master)
        assert process.stdout is not None
        out = process.stdout.read()
    return process.returncode, out, seen.decode()


def test_drain_shows_a_bar_on_a_terminal(replicators: Replicators, nginx: Any, tmp_path: Path) -> None:
    """On stderr, so that stdout is the same as elsewhere; and it is gone when it is done."""
    replicator = replicators([nginx])
    owing(replicator, nginx, *(str(number) for number in range(30)))
    replicator.close()
    nginx.start()
    env = environment(tmp_path / "media", [nginx], TERM="xterm", COLUMNS="100")
    code, out, seen = on_a_terminal([*COMMAND, "drain"], env)
    assert (code, out) == (0, "nothing is owed\n")
    assert "delivering" in seen and "/30" in seen
    assert seen.rstrip().endswith("\x1b[2K")  # the line is erased
    assert len(files(nginx.root)) == 30


# resto sync


def test_sync_owes_a_host_everything_for_drain_to_deliver(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """It says how much that is; afterwards the host that was replaced equals the others, without what was deleted."""
    servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    for name in ("a/cat", "dog", "gone"):
        replicator.save(name, CAT)
    replicator.delete("gone")
    replicator.close()
    for name in ("a/cat", "dog"):
        os.unlink(os.path.join(servers[0].root, name))
    Path(servers[0].root, "gone").write_bytes(CAT)
    result = resto(servers, "sync", servers[0].url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (f"{servers[0].url} is owed 3 names; the application delivers, or `resto drain`\n")
    assert files(servers[0].root) == {"gone": CAT}
    assert resto(servers, "drain").stdout == "nothing is owed\n"
    assert [files(server.root) for server in servers] == [{"a/cat": CAT, "dog": CAT}] * 2


def test_mode_distributed_is_filled_by_the_command_alone(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """From another host, without a master."""
    servers = media_servers("nginx", 2)
    replicator = replicators(servers, mode="distributed")
    replicator.save("a/cat", CAT)
    replicator.close()
    os.unlink(os.path.join(servers[1].root, "a/cat"))
    assert resto(servers, "sync", servers[1].url, RESTO_MODE="distributed").returncode == 0
    assert resto(servers, "drain", RESTO_MODE="distributed").returncode == 0
    assert [files(server.root) for server in servers] == [{"a/cat": CAT}] * 2


# resto forget, and hosts that are not configured


def test_a_host_that_left_is_owed_until_it_is_forgotten(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """A drain exits with 1 and shows it, for it is owed something; then nothing is left of it."""
    kept, left = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    owing(replicator, left, "cat", "dog")
    replicator.close()
    result = resto([kept], "drain")
    assert (result.returncode, result.stderr) == (1, "")
    assert rows(result.stdout)[1][:2] == [kept.url, "up"]
    assert rows(result.stdout)[2][:3] == [left.url, "not configured", "2"]
    assert "resto forget URL" in result.stdout.splitlines()[-1]
    assert resto([kept], "drain", "--host", kept.url).returncode == 0, "that was not asked"
    result = resto([kept], "forget", left.url)
    assert (result.returncode, result.stdout) == (0, f"{left.url} is not owed 2 names any more\n")
    result = resto([kept], "drain")
    assert (result.returncode, result.stdout, result.stderr) == (0, "nothing is owed\n", "")
    assert left.url not in resto([kept], "status").stdout


def test_a_host_that_is_configured_is_not_forgotten(resto: Resto, replicators: Replicators, nginx: Any) -> None:
    """What it is owed must be delivered to it."""
    replicator = replicators([nginx])
    owing(replicator, nginx, "cat")
    replicator.close()
    result = resto([nginx], "forget", nginx.url)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"resto: host: is in media_hosts; .+\n", result.stderr)
    assert replicators([nginx]).status().owed == 1


def test_two_hosts_are_synced_in_turn_without_a_master(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """The second is refused until the first has everything; the error says what to do."""
    servers = media_servers("nginx", 2)
    replicator = replicators(servers, mode="distributed")
    replicator.save("cat", CAT)
    replicator.close()
    mode = {"RESTO_MODE": "distributed"}
    for first, second in (servers, reversed(servers)):
        assert resto(servers, "sync", first.url, **mode).returncode == 0
        result = resto(servers, "sync", second.url, **mode)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(r"resto: host: .+`resto drain`.+\n", result.stderr)
        assert resto(servers, "drain", **mode).returncode == 0
