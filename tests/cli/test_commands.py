"""The commands of `resto`: options in, exit status out, and what is wrong in one line."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
from click.testing import CliRunner

from resto_wsgi.cli import commands
from resto_wsgi.cli.commands import resto
from resto_wsgi.errors import ConfigError

COMMANDS = ["check", "config", "demo", "drain", "forget", "media-server", "status", "sync"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(resto, arguments)


def test_the_commands_are_those_that_are_documented() -> None:
    """Each with a line of help; a new one is added to the README too."""
    assert sorted(resto.commands) == COMMANDS
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", result.stdout, re.MULTILINE), result.stdout


@pytest.mark.parametrize("arguments", [[], ["status"], ["config"], ["config", "nginx"]])
def test_help_is_asked_for_in_one_letter_too(arguments: list[str]) -> None:
    """As people try it first."""
    asked = run(*arguments, "-h")
    assert (asked.exit_code, asked.stdout) == (0, run(*arguments, "--help").stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_its_options(name: str) -> None:
    """No option is without a line of its own."""
    assert run(name, "--help").exit_code == 0
    options = [each for each in resto.commands[name].params if isinstance(each, click.Option)]
    assert all(option.help for option in options)


def test_the_version_is_that_of_the_package() -> None:
    """As pip knows it."""
    from importlib.metadata import version

    assert version("resto_wsgi") in run("--version").stdout


def test_an_error_of_ours_is_one_line_and_exit_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every command, in one place: it could not be found out whether something is owed."""

    def fail(*_: Any, **__: Any) -> int:
        raise ConfigError("RESTO_MODE", "takes hybrid, async or distributed, not 'x'")

    monkeypatch.setattr("resto_wsgi.cli.owed.show_status", fail)
    result = run("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "resto: RESTO_MODE: takes hybrid, async or distributed, not 'x'\n"


def test_any_other_exception_is_a_defect_and_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its traceback: a line would hide where it came from."""

    def fail(*_: Any, **__: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("resto_wsgi.cli.owed.show_status", fail)
    assert isinstance(run("status").exception, ZeroDivisionError)


def test_an_interruption_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130, as a shell reports it, and not with what means that something is owed."""

    def wait(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("resto_wsgi.cli.owed.show_status", wait)
    assert run("status").exit_code == 130


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["demo", "--port", "0"], "0 is not in the range 1<=x<=65000"),
        (["demo", "--servers", "iis"], "'iis' is not one of"),
        (["drain", "--timeout", "-1"], "-1.0 is not in the range x>=0"),
        (["sync"], "Missing argument 'HOST'"),
        (["forget"], "Missing argument 'URL'"),
        (["media-server", "--root", "/r", "--listen", "8000"], "wanted HOST:PORT, found '8000'"),
        (["media-server", "--root", "/r", "--listen", "h:1", "--limit-rate", "0"], "wanted bytes per second"),
        (["media-server", "--root", "/r", "--listen", "h:1", "--threads", "0"], "0 is not in the range"),
        (["check", "--max-file-size", "0"], "0 is not in the range"),
        (["nothing"], "No such command 'nothing'"),
    ],
)
def test_wrong_use_is_exit_status_2(arguments: list[str], problem: str) -> None:
    """It names the option, what it takes and what was found."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


@pytest.mark.parametrize("status", [0, 1, 3])
@pytest.mark.parametrize(
    ("arguments", "work"),
    [
        (["status", "cat"], "resto_wsgi.cli.owed.show_status"),
        (["drain", "--parked"], "resto_wsgi.cli.owed.drain"),
        (["sync", "media-01:8080"], "resto_wsgi.cli.owed.sync"),
        (["forget", "http://media-01:8080"], "resto_wsgi.cli.owed.forget"),
        (["check", "media-01:8080"], "resto_wsgi.cli.checking.check"),
        (["demo", "--once"], "resto_wsgi.demo.run.run"),
        (["media-server", "--root", "/r", "--listen", "127.0.0.1:0"], "resto_wsgi.cli.media_server.serve"),
    ],
)
def test_the_exit_status_is_that_of_the_work(
    arguments: list[str], work: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command reads its options and calls one function; it knows nothing else."""
    called = []
    monkeypatch.setattr(work, lambda *given, **named: called.append((given, named)) or status)
    assert run(*arguments).exit_code == status
    assert len(called) == 1


def test_options_come_as_what_they_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address as host and port, a rate in bytes per second, what may be repeated as all of it."""
    seen: list[Any] = []
    monkeypatch.setattr("resto_wsgi.cli.media_server.serve", lambda options, environ: seen.append(options) or 0)
    child = ["--child", "http://a:1", "--child", "http://b:2"]
    assert run("media-server", "--root", "/r", "--listen", "[::1]:81", "--limit-rate", "20m", *child).exit_code == 0
    (options,) = seen
    assert (options.listen, options.limit_rate) == (("::1", 81), 20 * 1024**2)
    assert (options.children, options.allow, options.allow_anyone) == (("http://a:1", "http://b:2"), (), False)


def test_an_address_without_a_host_is_refused_by_a_media_server() -> None:
    """All addresses of a machine have to be asked for."""
    with pytest.raises(click.BadParameter, match="wanted HOST:PORT, found ':80'"):
        commands._address(None, None, ":80")  # type: ignore[arg-type]
