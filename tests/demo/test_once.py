"""`resto demo --once` as CI runs it: every copy is read back and compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from demos import listens, resto_demo
from ports import free_port
from servers import need

from resto_wsgi.cli.commands import resto
from resto_wsgi.demo import once as demo_once
from resto_wsgi.demo import run as demo
from resto_wsgi.errors import RestoError

NAMES = ["lake.jpg", "leaflet.pdf", "Zażółć gęślą jaźń.txt", "64 MiB.bin"]


@pytest.mark.parametrize("kind", ["own", "nginx", "lighttpd", "apache"])
def test_every_copy_is_equal_on_every_server(kind: str, tmp_path: Path) -> None:
    """The table shows each file with its SHA-256 and twelve equal copies, and nothing is left behind."""
    need("node" if kind == "own" else kind)
    result = resto_demo(tmp_path, "--once", "--servers", kind, "--port", str(free_port()))
    assert (result.returncode, result.stderr) == (0, "")
    assert all(name in result.stdout for name in NAMES)
    assert len(re.findall(r"\b[0-9a-f]{64}\b", result.stdout)) == len(NAMES)
    assert len(re.findall(r"│ equal\b", result.stdout)) == 3 * len(NAMES)
    assert "64.0 MiB" in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert not any(map(listens, re.findall(r"http://\S+", result.stdout)))


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "differs"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "differs"),
        (lambda path: path.unlink(), "404"),
    ],
    ids=["one byte", "one short", "gone"],
)
def test_one_bad_copy_is_shown_and_fails(
    harm: Callable[[Path], Any],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A single copy that is not what was sent makes the exit status 1, whatever is wrong with it."""
    real_post = demo_once.post

    def harming_post(*args: Any) -> Any:
        saved = real_post(*args)
        (folder,) = tmp_path.glob("resto-demo-*")
        harm(folder / "server-2" / "files" / saved[1]["name"])
        return saved

    monkeypatch.setattr(demo_once, "post", harming_post)
    monkeypatch.setattr(demo_once, "_BIG", 1024 * 1024)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(resto, ["demo", "--once", "--port", str(free_port())])
    assert result.exit_code == 1
    assert "1 of 12 copies are not what was sent" in result.output
    assert word in result.output


def test_what_the_page_says_must_be_what_was_sent() -> None:
    """An answer with another SHA-256 counts for none of the copies, without reading one."""
    sample = demo_once.Sample(filename="a", path="/a", content_type="text/plain", size=1, sha256="0" * 64)
    saved = {"size": 1, "sha256": "f" * 64, "copies": [{"url": "http://127.0.0.1:1/a"}]}
    assert demo_once._statuses(None, sample, saved) == {"127.0.0.1:1": "not as sent"}  # type: ignore[arg-type]


def test_a_refusal_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the page refuses, its reason is the one line of the failure."""
    monkeypatch.setattr(demo, "_MAX_FILE_SIZE", 1000)
    monkeypatch.setattr(demo_once, "_BIG", 1024 * 1024)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(resto, ["demo", "--once", "--port", str(free_port())])
    assert result.exit_code == 2
    assert re.fullmatch(r"resto: the upload was refused with 413: .+\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A connection that breaks is an error of ours, not a traceback."""
    with pytest.raises(RestoError, match="the upload broke"):
        demo_once.post("http://127.0.0.1:1/", [])


def test_a_server_that_is_not_there_is_unreadable() -> None:
    """A copy that cannot be read is not equal."""
    sample = demo_once.Sample(filename="a", path="/a", content_type="text/plain", size=0, sha256="")
    with demo_once.urllib3.PoolManager(retries=False) as pool:
        assert demo_once.read_back(pool, "http://127.0.0.1:1/a", sample) == "unreadable"


def test_the_samples_are_the_same_at_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two runs can be compared; what is large is made, and not shipped."""
    monkeypatch.setattr(demo_once, "_BIG", 2 * 1024 * 1024)
    first, second = demo_once.samples(str(tmp_path)), demo_once.samples(str(tmp_path))
    assert first == second and [each.filename for each in first] == NAMES
    assert first[-1].size == 2 * 1024 * 1024
