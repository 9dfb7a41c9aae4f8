"""The commands of `resto config`: which option reaches which server's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from resto_wsgi.cli.commands import resto
from resto_wsgi.cli.config_commands import config

SERVERS = ["apache", "lighttpd", "nginx"]
ROOT = ["--root", "/srv/media"]


def run(*arguments: str, **environ: str) -> Any:
    own = {"MEDIA_ROOT": None, "MEDIA_URL": None, "RESTO_MEDIA_HOSTS": None, **environ}
    return CliRunner().invoke(resto, ["config", *arguments], env=own)


def options_of(name: str) -> set[str]:
    return {each for option in config.commands[name].params for each in option.opts}


def test_there_is_a_command_for_each_server_and_for_units() -> None:
    """And nothing is printed by the group alone but its help."""
    assert sorted(config.commands) == [*SERVERS, "systemd"]
    assert "Usage:" in run().output


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_site_is_told_is_the_same_for_each_server(name: str) -> None:
    """So whoever changes the server changes one word."""
    shared = {"--root", "--listen", "--allow", "--user", "--output", "--host", "--list", "--max-body", "--naming"}
    shared |= {"--temp", "--certificate", "--key", "--client-ca", "--run"}
    own = {"nginx": {"--no-fall-back", "--peer-ca", "--peer-name", "--part", "--tree", "--command"}}
    own |= {"apache": {"--modules"}}
    assert options_of(name) == shared | own.get(name, set())


def test_a_unit_is_told_where_it_runs_and_nothing_of_a_stock_server() -> None:
    """Our own media server has no path, no naming and no certificates of a site."""
    assert options_of("systemd") == {"--root", "--listen", "--allow", "--user", "--output", "--tree", "--command"}


@pytest.mark.parametrize("name", [*SERVERS, "systemd"])
def test_every_option_is_explained(name: str) -> None:
    """In a line of the help of its command."""
    assert run(name, "--help").exit_code == 0
    assert all(each.help for each in config.commands[name].params if isinstance(each, click.Option))


@pytest.mark.parametrize(("name", "line"), [
    ("nginx", "allow 10.9.0.0/16"), ("lighttpd", '$HTTP["remote-ip"] == "10.9.0.0/16"'), ("apache", "10.9.0.0/16"),
    ("systemd", '"--allow" "10.9.0.0/16"'),
])  # fmt: skip
def test_an_option_that_may_be_repeated_reaches_the_text(name: str, line: str) -> None:
    """Each of the networks that may write."""
    result = run(name, *ROOT, "--allow", "10.8.0.0/16", "--allow", "10.9.0.0/16")
    assert result.exit_code == 0, result.output
    assert "10.8.0.0/16" in result.stdout and line.split()[-1] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "there", "not_there"),
    [
        (["nginx", *ROOT, "--part"], "server {", "http {"),
        (["nginx", *ROOT], "http {", "upstream"),
        (["nginx", "--host", "a:80"], "upstream", "error_page 404 = @nobody"),
        (["nginx", "--host", "a:80", "--no-fall-back"], "listen 80", "upstream"),
        (
            ["apache", *ROOT, "--modules", "/usr/lib64/httpd/modules"],
            "/usr/lib64/httpd/modules/mod_dav.so",
            "apache2/m",
        ),
        (["systemd", *ROOT, "--command", "/opt/resto"], 'ExecStart="/opt/resto"', "{"),
    ],
)
def test_what_only_one_of_them_has_reaches_its_text(arguments: list[str], there: str, not_there: str) -> None:
    """nginx can be a part of another configuration, and reads from the other media servers."""
    result = run(*arguments, MEDIA_ROOT="/srv/media", RESTO_MEDIA_HOSTS="a:80 b:80")
    assert result.exit_code == 0, result.output
    assert there in result.stdout and not_there not in result.stdout


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("nginx", ["nginx.conf"]),
        ("lighttpd", ["lighttpd.conf"]),
        ("apache", ["apache.conf"]),
        ("systemd", ["resto-drain.service", "resto-drain.timer", "resto-media-server.service"]),
    ],
)
def test_the_output_can_be_a_folder(name: str, files: list[str], tmp_path: Path) -> None:
    """Which is made; what was written is named, and is what would have been printed."""
    folder = tmp_path / "new" / "folder"
    result = run(name, *ROOT, "--output", str(folder))
    assert result.stdout.split() == [str(folder / each) for each in files]
    printed = run(name, *ROOT).stdout
    assert all((folder / each).read_text() in printed for each in files)


def test_a_way_of_naming_that_there_is_not_is_wrong_use() -> None:
    """The three that there are are named."""
    result = run("nginx", *ROOT, "--naming", "mine")
    assert result.exit_code == 2 and "'original', 'random', 'content'" in result.stderr
