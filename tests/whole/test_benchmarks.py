"""The benchmark runs, checks the bytes that arrive, and says what it found; its figures are no matter of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resto_wsgi.demo.stock import missing

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # it is no part of what is installed

from benchmarks import command  # noqa: E402
from benchmarks.large import LargeRow  # noqa: E402
from benchmarks.payload import payload  # noqa: E402
from benchmarks.process import Failed, run_child, started  # noqa: E402
from benchmarks.report import Outcome, as_mapping, table  # noqa: E402
from benchmarks.rows import FASTEST, Line, Place, Reach, Verdict, cpu, rate, rss, seconds, verdict  # noqa: E402
from benchmarks.saving import SIZE, WARM_UP, SaveRow, name_of  # noqa: E402
from benchmarks.scale import FULL, QUICK, TINY  # noqa: E402

PEERS = {"django-resto": "django_resto", "python-multipart": "python_multipart"}  # only make bench installs these
NEEDED = [kind for kind in ("django", "flask", "gunicorn", "werkzeug") if find_spec(kind) is None]
LACKING = missing("nginx") or (f"{', '.join(NEEDED)}, not installed" if NEEDED else None)
needs_all = pytest.mark.skipif(LACKING is not None and not os.environ.get("CI"), reason=f"needs {LACKING}")
KEYS = [row.key for row in command.rows_of(TINY)]
HALVES = [
    [key for key in KEYS if not key.startswith(("save", "large"))],
    [key for key in KEYS if key.startswith(("save", "large"))],
]


def run_of(*arguments: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, ROOT / "benchmarks", *arguments], **pipes)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """All rows, tiny, once: two runs at a time, since each waits for its servers most of the time."""
    folder = tmp_path_factory.mktemp("benchmark")
    files = [folder / f"{number}.json" for number in range(len(HALVES))]
    with ExitStack() as stack:
        runs = []
        for keys, file in zip(HALVES, files, strict=True):
            inside = folder / file.stem
            inside.mkdir()
            run = run_of("--tiny", "--only", ",".join(keys), "--json", str(file), "--folder", str(inside))
            stack.callback(run.kill)
            runs.append(run)
        said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    rows = [row for file in files for row in json.loads(file.read_text())["rows"]]
    machines = [json.loads(file.read_text())["machine"] for file in files]
    left = [path for file in files for path in (folder / file.stem).iterdir()]
    yield SimpleNamespace(rows=rows, machine=machines[0], out="\n".join(out for out, _ in said), left=left)


@needs_all
def test_every_row_runs_and_finds_its_bytes(report: SimpleNamespace) -> None:
    """Each row runs each side whose library is there, and nothing is wrong with what arrived."""
    assert sorted(row["row"] for row in report.rows) == sorted(KEYS)
    made = {row.key: row for row in command.rows_of(TINY)}
    for row in report.rows:
        assert row["problems"] == []
        assert list(row["runs"]) == made[row["row"]].sides
        assert made[row["row"]].calls.keys() - row["runs"].keys() <= PEERS.keys()
        for runs in row["runs"].values():
            assert [set(figures) >= {"seconds", "cpu", "rss", "units"} for figures in runs] == [True]
            assert all(figures["seconds"] > 0 and figures["rss"] > 2**20 for figures in runs)
        assert row["lines"] or list(row["runs"]) == ["ours"]  # where all peers of a row are missing
        assert row["says"]


@needs_all
def test_the_report_says_what_was_measured_and_on_what(report: SimpleNamespace) -> None:
    """The table has a line for each comparison, and the configuration stands above it."""
    assert {"date", "machine", "kernel", "Python", "nginx", "file system"} <= report.machine.keys()
    for row in report.rows:
        assert f"\n{row['title']} " in report.out
        assert f"* {row['title']}: " in report.out
    assert "ratio (min..max)" in report.out


@needs_all
def test_nothing_is_left_of_a_run(report: SimpleNamespace) -> None:
    """Servers, their files and the files of the run are gone."""
    assert report.left == []


def test_every_comparison_of_the_issue_has_a_reach() -> None:
    """What is to be reached is in the rows, at the full scale."""
    reaches = {
        (row.key, line.peer, line.unit): str(line.reach)
        for row in command.rows_of(FULL)
        for line in row.lines
        if line.reach
    }
    assert reaches["save-12-durable", "django-resto", "files/s"] == ">= 2.5"
    assert reaches["save-12", "django-resto", "files/s"] == ">= 3"
    assert reaches["save-12", "raw sockets", "files/s"] == ">= 0.6"
    assert reaches["save-3", "django-resto", "files/s"] == ">= 2"
    assert reaches["save-1", "django-resto", "files/s"] == ">= 1.2"
    assert reaches["large", "django-resto", "s CPU"] == "<= 0.15"
    assert reaches["large", "raw sendfile", "s"] == "<= 1.15"
    assert reaches["large", "", "MiB RSS"] == "<= 48"
    assert reaches["upload", "Werkzeug", "s"] == "<= 1"
    assert reaches["crlf", FASTEST, "s"] == reaches["parts", FASTEST, "s"] == "<= 1.2"
    for size in ("10KiB", "1MiB"):
        assert reaches[f"serve-8-{size}", "django-resto", "requests/s"] == ">= 2"
        for clients in (1, 8, 32):
            assert reaches[f"serve-{clients}-{size}", "django-resto", "ms p99"] == "<= 1"
    assert reaches["no-upload", "the bare application", "us a GET"] == "<= 3"
    assert reaches["drain", "raw PUT loop", "files/s"] == ">= 0.7"
    assert (FULL.turns, QUICK.turns, FULL.within < 15 * 60) == (5, 3, True)


def figures(seconds: float, **more: float) -> dict[str, float]:
    return {"seconds": seconds, "cpu": 1.0, "rss": 2.0**20, "units": 10.0, **more}


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """What the machine does in one turn slows both sides, so it is in neither ratio."""
    runs = {"ours": [figures(1), figures(10), figures(2)], "peer": [figures(2), figures(20), figures(2)]}
    found = verdict(Line("peer", rate, "files/s", Reach(">=", 2)), runs)
    assert found is not None
    assert (found.values, found.value, found.met) == ((2, 2, 1), 2, True)
    assert (found.ours, found.its) == (5, 5)


def test_the_fastest_peer_is_the_one_with_the_smallest_median() -> None:
    """One lucky turn makes no fastest peer, and our own other side is no peer."""
    runs = {
        "ours": [figures(6)] * 3,
        "ours, half of it": [figures(3)] * 3,
        "Django": [figures(4)] * 3,
        "WebOb": [figures(1), figures(9), figures(9)],
    }
    found = verdict(Line(FASTEST, seconds, "s", Reach("<=", 1.2)), runs)
    assert found is not None
    assert (found.peer, found.value, found.met) == ("the fastest peer, Django", 1.5, False)


def test_a_line_may_be_a_difference_or_stand_alone() -> None:
    """Microseconds added are a difference, resident memory has no peer."""
    runs = {"ours": [figures(5)], "peer": [figures(3)]}
    added, alone = (
        verdict(Line("peer", seconds, "s", how="minus"), runs),
        verdict(Line("", rss, "MiB", how="alone"), runs),
    )
    assert added is not None
    assert alone is not None
    assert (added.value, added.met, alone.value, alone.its) == (2, None, 1, None)


def test_a_peer_that_is_not_installed_is_left_out() -> None:
    """No verdict is given on it, and the table says what was not run."""
    row = LargeRow(TINY)
    assert verdict(Line("peer", cpu, "s CPU", Reach("<=", 1)), {"ours": [figures(1)]}) is None
    assert "not run" in table([Outcome(row)])
    assert as_mapping("tiny", 1, {}, [Outcome(row)])["rows"][0]["lines"] == []


@pytest.mark.parametrize("damage", ["missing", "foreign", "wrong"])
def test_wrong_bytes_on_a_host_are_found(tmp_path: Path, damage: str) -> None:
    """A file that is missing on a host, one too many, and one with wrong bytes are problems, and end the row."""
    row = SaveRow(TINY, 1, fsync=False, reach=None)

    def run(side: str, place: Place, folder: str, *, profile: bool = False) -> dict[str, Any]:
        media = tmp_path / "media" / "bench"
        media.mkdir(parents=True)
        for number in range(-WARM_UP, row.count):
            (tmp_path / "media" / name_of(number)).write_bytes(payload(number, SIZE))
        if damage == "missing":
            (media / "file-00001.bin").unlink()
        elif damage == "foreign":
            (media / "file-00001.bin.0000000029").write_bytes(b"")
        else:
            (media / "file-00001.bin").write_bytes(payload(0, SIZE))
        return figures(1)

    row.run = run  # type: ignore[method-assign]
    server: Any = SimpleNamespace(root=str(tmp_path), url="http://127.0.0.1:1")
    outcome = Outcome(row, {"ours": [], "raw sockets": []})
    command.run_turn(outcome, Place(str(tmp_path), [server]))
    assert len(outcome.problems) == 1
    assert "host 0" in outcome.problems[0]
    assert f"1 {'with wrong' if damage == 'wrong' else damage}" in outcome.problems[0]
    assert outcome.runs["raw sockets"] == []
    assert not (tmp_path / "media").exists()


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    """What its process wrote last is in the error."""
    with pytest.raises(Failed, match="no_such_function"):
        run_child("benchmarks.saving:no_such_function", {}, str(tmp_path))


def test_a_process_is_ended_with_its_children(tmp_path: Path) -> None:
    """Whatever ends the block, the whole group of the process is gone."""
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"
    command_line = [sys.executable, "-c", script]
    block = started(command_line, str(tmp_path), str(tmp_path / "log"), stdin=True)
    with pytest.raises(KeyboardInterrupt), block as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        raise KeyboardInterrupt
    deadline = time.monotonic() + 5
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:  # the child is an orphan now, and reaped when init comes to it
            os.killpg(process.pid, 0)
            time.sleep(0.01)


def test_an_unknown_row_is_an_error() -> None:
    """It is named, with those that there are."""
    assert command.main(["--quick", "--only", "save-12,fly"]) == 2


def test_the_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """--list names them and starts nothing."""
    assert command.main(["--list"]) == 0
    assert "save-12-durable" in capsys.readouterr().out


def test_a_reach_says_whether_it_is_only_aimed_at() -> None:
    """An aim is no promise, and the table says so."""
    assert (str(Reach("<=", 1, aim=True)), Reach(">=", 3).met(2.9)) == ("aim <= 1", False)
    assert Verdict("peer", "s", "ratio", 1.0, 1.0, (1.0,), None).met is None
