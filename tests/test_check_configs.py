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
from printed import ENVIRON, LOOPBACK, RESTO, Printed, open_folder, resto

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
    assert keys(report, "unknown") <= {"credentials", "temporary"}
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


def test_our_own_media_server_is_safe(tmp_path: Path) -> None:
    """Nothing to warn of, nothing left; and where it is told to admit another, its option is named."""
    for network, expected in (("192.0.2.1", 1), (LOOPBACK, 0)):
        command = [*RESTO, "media-server", "--root", str(tmp_path), "--listen", f"{LOOPBACK}:0", "--allow", network]
        with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                label = re.split("[/ ]+", process.stdout.readline())[3]
                status, report = checked(label)
            finally:
                process.send_signal(signal.SIGTERM)
        assert (status, report["kind"], report["left"]) == (expected, "node", [])
        assert keys(report, "warning") == set()
        assert keys(report, "unsafe") == ({"write"} if expected else set())
        if expected:
            (cure,) = [finding["remedy"] for finding in report["findings"] if finding["key"] == "write"]
            assert cure == f"start it with --allow {LOOPBACK}"
    assert list(tmp_path.rglob("resto-check-*")) == []
