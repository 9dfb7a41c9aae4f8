"""`resto media-server --catch-up-from`: the command that catches up, and then serves."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Node, free_port
from trees import put

from resto_wsgi.cli.catching_up import parse_rate


def test_a_rate_is_a_number_with_a_unit() -> None:
    """Anything else is refused."""
    assert [parse_rate(text) for text in ("1", "500k", "20m", "1G")] == [1, 512_000, 20 << 20, 1 << 30]
    for text in ("", "0", "-1", "1.5m", "m", "1t", "1" * 10):
        with pytest.raises(ValueError, match="bytes per second"):
            parse_rate(text)


CAT = b"a cat" * 1000


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Node]:
    """A node with children: one that does not answer, so that it remembers deletes."""
    with Node(tmp_path / "above", children=[f"http://127.0.0.1:{free_port()}"]) as node:
        yield node


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "resto_wsgi", "media-server", "--listen", "127.0.0.1:0", *arguments]


def test_the_command_catches_up_and_then_serves(tmp_path: Path, above: Node) -> None:
    """It says what it did; where that fails it says so in one line, and does not serve."""
    put(above, "cat", CAT)
    arguments = command("--root", str(tmp_path / "root"), "--catch-up-from", above.url, "--limit-rate", "50m")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        assert re.match(r"media server http://127\.0\.0\.1:\d+/ of ", line), line
        assert (tmp_path / "root/cat").read_bytes() == CAT
        process.terminate()
        assert "1 names, 1 fetched (5000 bytes), 0 deleted" in process.stderr.read()
    assert process.returncode == 0
    above.stop()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is not to be had" in done.stderr
    done = subprocess.run([*arguments, "--limit-rate", "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "bytes per second" in done.stderr
