"""`resto check` and `resto config` agree: what the one prints is green to the other, and what is not has its option."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from printed import ENVIRON, LOOPBACK, RESTO, Printed, listens, open_folder, printed, resto
from servers import eventually

KINDS = ("nginx", "lighttpd", "apache")
MTIME = {"nginx": set(), "lighttpd": {"mtime"}, "apache": {"mtime"}}  # the two take none from a PUT


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Printed]:
    """Each stock server in turn, not started."""
    with open_folder() as folder, Printed(request.param, folder) as server:
        yield server


def checked(label: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Return exit status and report of a check."""
    done = resto("check", label, "--json", *options)
    assert done.stderr == ""
    (report,) = json.loads(done.stdout)["hosts"]
    return done.returncode, report


def keys(report: dict[str, Any], verdict: str) -> set[str]:
    return {finding["key"] for finding in report["findings"] if finding["verdict"] == verdict}


def option_for(report: dict[str, Any], key: str) -> list[str]:
    """Return the option of `resto config` that the remedy of a finding names."""
    (cure,) = [finding["remedy"] for finding in report["findings"] if finding["key"] == key]
    match = re.search(r"  \(resto config (\w+) (--.*)\)$", cure)
    assert match and match[1] == report["kind"], cure
    return shlex.split(match[2])


def test_what_is_printed_is_safe(server: Printed) -> None:
    """Nothing to warn of but what the server cannot do; the check leaves empty folders, for none is ever removed."""
    server.configure("--naming", "original")
    status, report = checked(server.label)
    assert (status, report["kind"], report["untested"]) == (0, server.kind, [])
    assert keys(report, "unsafe") == set() and keys(report, "warning") == MTIME[server.kind], report
    assert keys(report, "unknown") <= {"credentials", "roots", "temporary"}
    assert server.files() == {} and report["left"] == [f"{report['folder']}/ (the folder)"]
    assert "left" in keys(report, "ok")


def test_a_limit_that_is_too_low_is_raised_by_the_option_that_is_named(server: Printed) -> None:
    """Bytes for bytes, so that what the application accepts is just taken."""
    limit = 5_000_000
    server.configure("--max-body", "1m")
    status, report = checked(server.label, "--max-file-size", str(limit))
    assert (status, keys(report, "unsafe")) == (1, {"size"})
    server.stop()
    server.configure(*option_for(report, "size"))
    assert checked(server.label, "--max-file-size", str(limit))[0] == 0
    assert keys(checked(server.label, "--max-file-size", str(limit + 1024))[1], "unsafe") == {"size"}


def test_who_may_not_write_is_let_in_by_the_option_that_is_named(server: Printed) -> None:
    """And nothing is called left, although a stranger is not told whether a folder is there."""
    options = [each for each in server.options() if each not in ("--allow", LOOPBACK)]
    server.start(resto("config", server.kind, *options, "--listen", server.label, "--allow", "192.0.2.1").stdout)
    status, report = checked(server.label)
    assert (status, keys(report, "unsafe"), report["left"]) == (1, {"write"}, [])
    option = option_for(report, "write")
    assert option == ["--allow", LOOPBACK]
    server.stop()
    server.start(resto("config", server.kind, *options, "--listen", server.label, *option).stdout)
    assert checked(server.label)[0] == 0


@pytest.mark.parametrize(("network", "expected"), [(LOOPBACK, 0), ("192.0.2.1", 1)])
def test_our_own_media_server_is_safe_as_its_unit_starts_it(network: str, expected: int, tmp_path: Path) -> None:
    """Nothing to warn of, nothing left; and where it admits another, its option is named."""
    port = free_port()
    place = ["--root", f"{tmp_path}/$a %b", "--listen", f"{LOOPBACK}:{port}", "--user", ""]
    unit = printed("systemd", *place, "--allow", network, "--command", "/resto")
    (line,) = re.findall(r'^ExecStart="/resto" (.*"--root".*)$', unit, re.MULTILINE)
    arguments = [each.replace("%%", "%").replace("$$", "$") for each in shlex.split(line)]
    with subprocess.Popen([*RESTO, *arguments], env=ENVIRON, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: process.poll() is not None or listens(port))
            status, report = checked(f"{LOOPBACK}:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
    assert (status, report["kind"], report["left"], keys(report, "warning")) == (expected, "node", [], set())
    assert keys(report, "unsafe") == ({"write"} if expected else set())
    if expected:
        (cure,) = [finding["remedy"] for finding in report["findings"] if finding["key"] == "write"]
        assert cure == f"start it with --allow {LOOPBACK}"
    assert list(tmp_path.rglob("resto-check-*")) == []


def test_no_unit_is_printed_that_would_not_start() -> None:
    """Our own media server refuses everybody's networks, unless it is told otherwise by hand."""
    done = resto("config", "systemd", "--root", "/srv/media", "--allow", "0.0.0.0/1", "--allow", "128.0.0.0/1")
    assert (done.returncode, done.stdout) == (2, "") and "everybody's" in done.stderr
