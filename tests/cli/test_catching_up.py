"""``resto media-server --catch-up-from``: what it says while it works, at its end, and where it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import LOCAL, Node
from trees import ask

from resto_wsgi.cli.catching_up import catch_up, parse_rate
from resto_wsgi.errors import ConfigError
from resto_wsgi.media_server import MediaServer

CAT = b"cat" * 1000


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Node]:
    """The node that is caught up with; it has a child that is away, so it keeps an index."""
    with Node(tmp_path / "above", children=["http://127.0.0.1:1"]) as node:
        yield node


@pytest.fixture
def application(tmp_path: Path) -> Iterator[MediaServer]:
    """The node that is to catch up, which does not serve yet."""
    application = MediaServer(str(tmp_path / "root"), access=LOCAL)
    yield application
    application.close()


def test_a_rate_is_a_number_with_a_unit() -> None:
    """Anything else is refused."""
    assert [parse_rate(text) for text in ("1", "500k", "20m", "1G")] == [1, 512_000, 20 << 20, 1 << 30]
    for text in ("", "0", "-1", "1.5m", "m", "1t", "1" * 10):
        with pytest.raises(ValueError, match="bytes per second"):
            parse_rate(text)


def test_it_says_what_it_did(above: Node, application: MediaServer, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line on stderr, with what was fetched and deleted; and again when there is nothing to do."""
    ask(above, "PUT", "/cat", CAT)
    ask(above, "PUT", "/dog", CAT)
    catch_up(application, above.url, None, {})
    said = f"caught up with '{above.url}': 2 names, 2 fetched ({2 * len(CAT):,} bytes), 0 deleted, 0 newer here\n"
    assert capsys.readouterr().err == said
    ask(above, "DELETE", "/dog")
    catch_up(application, above.url, None, {})
    assert "2 names, 0 fetched (0 bytes), 1 deleted, 0 newer here\n" in capsys.readouterr().err


def test_a_server_above_that_is_away_is_an_error_of_the_option(above: Node, application: MediaServer) -> None:
    """The server would not start without it."""
    above.stop()
    with pytest.raises(ConfigError, match=r"catch-up-from: .* is not to be had") as caught:
        catch_up(application, above.url, None, {})
    assert caught.value.setting == "catch-up-from"


def test_a_name_that_cannot_be_had_is_named_and_the_server_does_not_start(
    above: Node, application: MediaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be served as missing. The others are there, so that the next run has less to do."""
    ask(above, "PUT", "/cat", CAT)
    ask(above, "PUT", "/a/dog", CAT)
    os.makedirs(tmp_path / "root" / "cat")
    (tmp_path / "root" / "cat" / "in-the-way").touch()
    with pytest.raises(SystemExit) as ended:
        catch_up(application, above.url, None, {})
    said = capsys.readouterr().err
    assert ended.value.code == 1, "it was found out"
    assert "cat: is a folder here" in said and "resto: catch-up-from: 1 name could not be had; run it again" in said
    assert (tmp_path / "root" / "a" / "dog").read_bytes() == CAT


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "resto_wsgi", "media-server", "--listen", "127.0.0.1:0", *arguments]


def test_the_command_catches_up_and_then_serves(tmp_path: Path, above: Node) -> None:
    """It says what it did; where that fails it says so in one line, and does not serve."""
    ask(above, "PUT", "/cat", CAT)
    arguments = command("--root", str(tmp_path / "root"), "--catch-up-from", above.url, "--limit-rate", "50m")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        assert re.match(r"media server http://127\.0\.0\.1:\d+/ of ", line), line
        assert (tmp_path / "root/cat").read_bytes() == CAT
        process.terminate()
        assert "1 name, 1 fetched (3,000 bytes), 0 deleted" in process.stderr.read()
    assert process.returncode == 0
    above.stop()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is not to be had" in done.stderr
    done = subprocess.run([*arguments, "--limit-rate", "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "bytes per second" in done.stderr
