"""`resto check` as people and scripts run it: a real process, real media servers, signals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from memory_server import MIB, Memory, tree
from servers import KINDS, eventually

COMMAND = [sys.executable, "-c", "from resto_wsgi.cli import main; main()", "check"]


def environment(**more: str) -> dict[str, str]:
    """Ours, without settings of another."""
    ours = ("RESTO_", "MEDIA_", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def resto_check(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )


def test_what_is_safe_is_0_and_what_is_not_is_1(media_servers: Any) -> None:
    """Warnings do not fail; a table for each host, the remedy below its finding, and a line for each at the end."""
    (good,), (bad,) = media_servers("nginx"), media_servers("nginx", max_body=MIB)
    result = resto_check(good.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{good.url}: nginx\n")
    assert result.stdout.endswith(f"{good.url}: replication is safe, 4 warnings\n")
    result = resto_check(good.url, bad.url)
    assert result.returncode == 1
    remedy = r" +=> client_max_body_size 1073741824;  \(resto config nginx --max-body 1073741824\)"
    assert re.search(rf" unsafe +size +it takes 1 MiB at most.*\n{remedy}", result.stdout)
    assert "differences between these hosts\n warning  size  size limits differ: " in result.stdout
    assert result.stdout.endswith(f"{bad.url}: replication is not safe, 1 unsafe, 4 warnings\n")
    assert resto_check(bad.url, "--max-file-size", "1000000").returncode == 0


def test_without_a_host_those_of_the_settings_are_checked(media_servers: Any) -> None:
    """Below the path of MEDIA_URL, and with the timeout of the settings; no media root is needed."""
    first, second = media_servers("nginx", 2)
    hosts = f"127.0.0.1:{first.port}, 127.0.0.1:{second.port}"
    result = resto_check(RESTO_MEDIA_HOSTS=hosts, MEDIA_URL="/files/", RESTO_REQUIRED="2", RESTO_TIMEOUT="5")
    assert result.returncode == 0, result.stdout + result.stderr
    for server in (first, second):
        assert f"127.0.0.1:{server.port}: replication is safe" in result.stdout
        assert os.listdir(server.root) == ["files"] and tree(os.path.join(server.root, "files")) == []
    result = resto_check(f"127.0.0.1:{first.port}", RESTO_MEDIA_HOSTS=hosts, RESTO_REQUIRED="2")
    assert result.returncode == 0 and str(second.port) not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        ([], {}, "RESTO_MEDIA_HOSTS: names no media server"),
        (["ftp://x"], {}, "scheme other than http"),
        (["x", "X:80"], {}, "the same server"),
        (["x"], {"RESTO_TIMEOUT": "soon"}, "RESTO_TIMEOUT"),
        (["x", "--timeout", "0"], {}, "--timeout"),
        (["x", "--max-file-size", "many"], {}, "--max-file-size"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], settings: dict[str, str], says: str) -> None:
    """With what is wrong, and nothing on stdout."""
    result = resto_check(*arguments, **settings)
    assert (result.returncode, result.stdout) == (2, "") and says in result.stderr


def test_json_has_all_that_the_table_has(media_servers: Any) -> None:
    """And the same exit status."""
    (server,) = media_servers("lighttpd", max_body=MIB)
    result = resto_check(server.url, "--json")
    facts = json.loads(result.stdout)
    (host,) = facts["hosts"]
    assert (result.returncode, facts["safe"], host["safe"], facts["interrupted"]) == (1, False, False, False)
    assert (host["host"], host["kind"], host["left"], host["untested"]) == (server.url, "lighttpd", [], [])
    (found,) = [finding for finding in host["findings"] if finding["verdict"] == "unsafe"]
    assert found.keys() == {"key", "verdict", "seen", "remedy"} and found["key"] == "size"
    assert "server.max-request-size" in found["remedy"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(number: int, media_servers: Any) -> None:
    """On any server; it says so, and exits with 130."""
    servers = [media_servers(kind)[0] for kind in KINDS]
    command = [*COMMAND, *(server.url for server in servers)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: all(tree(server.root) for server in servers))
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, b"")
    assert b"interrupted; nothing is left there\n" in stdout and b"not all was tested" in stdout
    assert [tree(server.root) for server in servers] == [[]] * len(KINDS)


def test_a_signal_to_a_check_of_a_server_that_hangs_ends_it(faulty: Any) -> None:
    """What may be left is named."""
    server = faulty(("status", 404), ("status", 404), "hang")
    process = subprocess.Popen([*COMMAND, server.url, "--timeout", "0.5"], env=environment(), stdout=subprocess.PIPE)
    with process:
        eventually(lambda: server.connections > 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


HOSTILE = "[red]x[/red] \x1b[31m\x9b31m:smile:" + "y" * 300


def test_what_a_server_says_breaks_no_output(faulty: Any) -> None:
    """Neither markup nor control characters; and JSON stays JSON."""
    server = faulty(("status", 404, {"Server": HOSTILE, "Via": HOSTILE, "Last-Modified": HOSTILE, "ETag": HOSTILE}))
    for width in ("80", "160"):
        result = resto_check(server.url, COLUMNS=width)
        assert result.returncode == 1 and result.stderr == ""
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stdout)
        assert "[red]x[/red]" in result.stdout and "y" * 60 not in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= int(width)
    assert json.loads(resto_check(server.url, "--json").stdout)["safe"] is False


def test_a_terminal_has_colours_and_a_sign_of_life(nginx: Any) -> None:
    """And a pipe has neither."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, nginx.url], env=environment(TERM="xterm", COLUMNS="100"), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output = b""
        while block := _read(ours):
            output += block
    os.close(ours)
    assert process.returncode == 0
    assert b"checking " + nginx.url.encode() in output and b"\x1b[32mok" in output
    assert "\x1b" not in resto_check(nginx.url).stdout


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


def test_a_disk_is_not_left_with_anything_when_a_file_is_too_large(tmp_path: Path) -> None:
    """A server whose disk is full for a large file, and not for a small one."""
    with Memory("large") as server:
        result = resto_check(server.url)
    assert result.returncode == 1 and "answered 507" in result.stdout
    assert server.files == {}
