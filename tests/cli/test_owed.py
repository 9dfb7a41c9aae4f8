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
    """One line for each, with exit status 0 where nothing is owed and 1 where something is; nothing on stderr."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    result = resto(servers, "status")
    assert (result.returncode, result.stderr) == (0, "")
    assert rows(result.stdout) == [
        ["host", "state", "since", "owed", "parked", "oldest", "last error"],
        [up.url, "up", "0", "0"],
        [down.url, "up", "0", "0"],
    ]
    owing(replicator, down, "cat", "dog")
    result = resto(servers, "status")
    assert (result.returncode, result.stderr) == (1, "")
    _, first, second = rows(result.stdout)
    assert first == [up.url, "up", "0", "0"]
    assert second[:2] == [down.url, "down"] and second[3:5] == ["2", "0"]
    assert re.fullmatch(TIME, second[2]) and re.fullmatch(TIME, second[5])
    assert second[6] == REFUSED


def test_status_is_json_where_it_is_asked_for(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """What ``Replicator.status`` says, with times in seconds since 1970, and the same exit status."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    owing(replicator, down, "cat")
    result = resto(servers, "status", "--json")
    facts = json.loads(result.stdout)
    assert (result.returncode, facts["owed"], facts["parked"]) == (1, 1, 0)
    assert [host["host"] for host in facts["hosts"]] == [up.url, down.url]
    assert facts["hosts"][1].keys() == {"host", "url", "state", "since", "owed", "parked", "oldest", "error"}
    assert (facts["hosts"][1]["state"], facts["hosts"][1]["owed"]) == ("down", 1)
    assert abs(facts["hosts"][1]["oldest"] - time.time()) < 60
    result = resto(servers, "status", "cat", "--json")
    facts = json.loads(result.stdout)
    assert (result.returncode, facts["name"], facts["present"], facts["holding"]) == (1, "cat", True, [up.url])
    assert facts["owing"][down.url]["reason"] == REFUSED


def test_status_of_a_name_shows_who_holds_it(resto: Resto, replicators: Replicators, media_servers: Any) -> None:
    """And who does not for certain, since when, and why; a name that is nowhere is absent."""
    up, down = servers = media_servers("nginx", 2)
    replicator = replicators(servers)
    owing(replicator, down, "cat é.jpg")
    result = resto(servers, "status", "cat é.jpg")
    assert (result.returncode, result.stderr) == (1, "")
    title, head, first, second = result.stdout.splitlines()
    assert title == "'cat \\xe9.jpg' is present"
    assert rows(f"{head}\n{first}") == [["host", "holds it", "owed since", "why"], [up.url, "yes"]]
    assert re.fullmatch(rf"{down.url} +unknown +{TIME} +{re.escape(REFUSED)} *", second)
    result = resto(servers, "status", "never")
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "'never' is absent")
    assert [row[1] for row in rows(result.stdout)[2:]] == ["no", "no"]
    result = resto(servers, "status", "../cat")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"resto: name '\.\./cat': .+\n", result.stderr)


def test_status_asks_no_host_and_delivers_nothing(resto: Resto, replicators: Replicators, faulty: Any) -> None:
    """Looking changes nothing."""
    server = faulty("hang")
    replicators([server], mode="async").save("cat", CAT)
    assert resto([server], "status", RESTO_MODE="async").returncode == 1
    assert server.connections == 0


def test_status_shows_a_host_that_is_no_longer_configured(
    resto: Resto, replicators: Replicators, media_servers: Any
) -> None:
    """What is left for it is still owed."""
    kept, left = media_servers("nginx", 2)
    owing(replicators([kept, left]), left, "cat")
    result = resto([kept], "status")
    assert result.returncode == 1
    assert rows(result.stdout)[2][:3] == [left.url, "not configured", "1"]


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
    """Exit status 0 and one line on stdout, nothing on stderr: cron sends no mail about it."""
    replicator = replicators([nginx])
    owing(replicator, nginx, "a", "b", "c")
    replicator.close()
    nginx.start()
    result = resto([nginx], "drain")
    assert (result.returncode, result.stdout, result.stderr) == (0, "nothing is owed\n", "")
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
    assert (result.returncode, result.stderr) == (0, "")
    assert replicator.status().owed == 0
    assert files(nginx.root) == dict.fromkeys("ab", CAT)


@pytest.mark.parametrize("arguments", [["drain", "--host", "elsewhere:80"], ["sync", "elsewhere:80"]])
def test_a_host_that_is_not_configured_is_an_error(
    resto: Resto, replicators: Replicators, nginx: Any, arguments: list[str]
) -> None:
    """One line that says which there are."""
    replicators([nginx]).close()
    result = resto([nginx], *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"resto: host: no such media server; media_hosts has {nginx.url}\n"


def test_without_media_root_each_command_says_what_is_missing(tmp_path: Path) -> None:
    """One line, no traceback, and nothing is made anywhere."""
    options: Any = {"env": _clean(os.environ), "cwd": tmp_path, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    commands = (["status"], ["drain"], ["sync", "media-01"], ["forget", "http://media-01/"])
    for process in [subprocess.Popen([*COMMAND, *arguments], **options) for arguments in commands]:
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "")
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
    for arguments in COMMANDS:
        result = resto([], *arguments, RESTO_MEDIA_HOSTS="media-01")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"resto: MEDIA_ROOT: no application has saved anything in {media} yet\n"
    assert sorted(os.listdir(tmp_path)) == (["media"] if there else [])
    assert not there or os.listdir(media) == ["cat"]


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
        assert (result.returncode, result.stdout) == (1, "")
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
    """With the file and the remedy, and exit status 1."""
    replicators([nginx]).close()
    outbox = tmp_path / "media/.resto/outbox.sqlite3"
    for path in outbox.parent.glob("outbox.sqlite3*"):
        path.unlink()
    outbox.write_bytes(b"not a database" * 1000)
    result = resto([nginx], "status")
    assert (result.returncode, result.stdout) == (1, "")
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
    assert result.stdout == (f"3 names are owed to {servers[0].url}; the application delivers them, or `resto drain`\n")
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
    assert (result.returncode, result.stdout) == (0, f"2 names are not owed to {left.url} any more\n")
    result = resto([kept], "drain")
    assert (result.returncode, result.stdout, result.stderr) == (0, "nothing is owed\n", "")
    assert left.url not in resto([kept], "status").stdout


def test_a_host_that_is_configured_is_not_forgotten(resto: Resto, replicators: Replicators, nginx: Any) -> None:
    """What it is owed must be delivered to it."""
    replicator = replicators([nginx])
    owing(replicator, nginx, "cat")
    replicator.close()
    result = resto([nginx], "forget", nginx.url)
    assert (result.returncode, result.stdout) == (1, "")
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
        assert (result.returncode, result.stdout) == (1, "")
        assert re.fullmatch(r"resto: host: .+`resto drain`.+\n", result.stderr)
        assert resto(servers, "drain", **mode).returncode == 0
