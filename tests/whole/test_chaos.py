"""The short form of the chaos harness, and that it can fail: its judge finds whatever is put wrong behind our back.

``make chaos`` runs the long form. The environment variable CHAOS_SEED draws other faults than the usual ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos import aftermath, bodies
from chaos.clients import Crowd
from chaos.judge import Verdict, judge, left_over
from chaos.ledger import Effect, Ledger
from chaos.parts import Run, Sizes
from chaos.report import Figures, print_table
from chaos.rig import Gunicorn, kill_child, wait_until
from servers import need

SEED = int(os.environ.get("CHAOS_SEED", "1"))
AT_ONCE = ("kill", "partitions", "disk")  # most of their time is waiting; the outage measures speed, and is alone
MINUTES_AGO = 300  # seconds


# The short form


@pytest.fixture(scope="module")
def at_once() -> Iterator[dict[str, Run]]:
    """The parts that can run beside each other, running."""
    need("nginx")
    with ExitStack() as stack:
        yield {part: stack.enter_context(Run(part, SEED, Sizes.small())) for part in AT_ONCE}


def check(figures: Figures) -> None:
    print_table([figures])
    if figures.skipped:
        pytest.skip(figures.skipped)
    assert not figures.problems
    assert not figures.failed


def test_nothing_is_lost_when_processes_are_killed(at_once: dict[str, Run]) -> None:
    """After 20 kills of gunicorn workers, the gunicorn master and nginx all is as acknowledged, everywhere."""
    figures = at_once["kill"].figures()
    check(figures)
    assert sum(figures.faults.values()) == Sizes.small().kills


def test_nothing_is_lost_when_the_network_is_partitioned(at_once: dict[str, Run]) -> None:
    """After proxies dropped, delayed, cut and held requests all is as acknowledged, everywhere."""
    check(at_once["partitions"].figures())


def test_full_disks_are_told_of_and_lose_nothing(at_once: dict[str, Run]) -> None:
    """The master, the outbox and a host on a full disk: errors as promised, and all converges when there is space."""
    check(at_once["disk"].figures())


def test_an_outage_costs_the_others_nothing() -> None:
    """With 2,000 deliveries owed memory, status and the speed of saves stay; then the host is brought up to date."""
    need("nginx")
    with Run("outage", SEED, Sizes.small()) as run:
        check(run.figures())


# The judge


class Site:
    """A master, three hosts and an outbox as plain files, in the state that the ledger asks for."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger("t")
        self.master = folder / "media"
        self.hosts = {f"host-{number}": folder / f"host-{number}" for number in range(3)}
        self.outbox = self.master / ".resto" / "outbox.sqlite3"
        self.staging = self.master / ".resto" / "staging"
        self.staging.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(self.outbox)) as connection:
            connection.execute("CREATE TABLE deliveries (host TEXT, name TEXT, parked INTEGER)")

    def roots(self) -> list[Path]:
        return [self.master, *self.hosts.values()]

    def write(self, name: str, content: bytes, *roots: Path) -> None:
        for root in roots or self.roots():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def remove(self, name: str, *roots: Path) -> None:
        for root in roots or self.roots():
            (root / name).unlink()

    def save(self, name: str | None, effect: Effect = Effect.DONE, size: int = 100) -> bytes:
        """Note a save of a new content, and return that."""
        value = self.ledger.new_value()
        self.ledger.end(self.ledger.begin(name, value), effect)
        return bodies.make(value, size)

    def delete(self, name: str, effect: Effect = Effect.DONE) -> None:
        self.ledger.end(self.ledger.begin(name, None), effect)

    def judge(self, now: float | None = None, but: Container[str] = ()) -> Verdict:
        hosts = {label: str(root) for label, root in self.hosts.items()}
        return judge(self.ledger, str(self.master), hosts, str(self.outbox), now=now, but=but)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two files that were overwritten, and one that was deleted."""
    site = Site(tmp_path)
    for name in ("a/kept.bin", "b.bin"):
        site.save(name)
        site.write(name, site.save(name))
    site.write("gone.bin", site.save("gone.bin"))
    site.remove("gone.bin")
    site.delete("gone.bin")
    return site


def found(verdict: Verdict) -> dict[str, int]:
    return {kind: len(lines) for kind, lines in verdict.findings.items()}


def test_what_is_as_acknowledged_is_clean(site: Site) -> None:
    """No finding where there is nothing to find."""
    assert site.judge().clean


def test_a_file_removed_from_a_host_is_lost(site: Site) -> None:
    """A replica that is gone behind our back is found."""
    site.remove("b.bin", site.hosts["host-1"])
    assert found(site.judge()) == {"lost": 1}


def test_a_file_removed_from_the_master_is_lost(site: Site) -> None:
    """Its replicas are then files that should not be there either."""
    site.remove("b.bin", site.master)
    assert found(site.judge()) == {"lost": 1, "resurrected": 3}


def test_an_acknowledged_file_that_is_nowhere_is_lost(site: Site) -> None:
    """That all hosts agree is not enough."""
    site.remove("b.bin")
    assert found(site.judge()) == {"lost": 1}


def test_an_older_version_is_lost(site: Site) -> None:
    """On one host, and on the master with all hosts alike."""
    old, new = site.save("c.bin"), site.save("c.bin")
    site.write("c.bin", new)
    site.write("c.bin", old, site.hosts["host-2"])
    assert found(site.judge()) == {"lost": 1}
    site.write("c.bin", old)
    assert found(site.judge()) == {"lost": 1}


def test_a_deleted_file_is_resurrected(site: Site) -> None:
    """On one host, and everywhere."""
    content = site.save("c.bin")
    site.delete("c.bin")
    site.write("c.bin", content, site.hosts["host-0"])
    assert found(site.judge()) == {"resurrected": 1}
    site.write("c.bin", content)
    assert found(site.judge()) == {"resurrected": 1}


def test_a_refused_file_is_resurrected(site: Site) -> None:
    """Under a name of the client's choice, and under one that the client was never told."""
    site.write("c.bin", site.save("c.bin", Effect.NONE))
    site.write("uploads/d.bin", site.save(None, Effect.NONE))
    assert found(site.judge()) == {"resurrected": 2}


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"x", lambda _: b""])
def test_torn_content_is_found(site: Site, damage: Callable[[bytes], bytes]) -> None:
    """Too short, too long, and empty; on a host, and on all."""
    content = site.save("c.bin")
    site.write("c.bin", content)
    site.write("c.bin", damage(content), site.hosts["host-0"])
    assert found(site.judge()) == {"torn": 1}
    site.write("c.bin", damage(content))
    assert found(site.judge()) == {"torn": 1}


def test_a_mixture_of_two_versions_is_torn(site: Site) -> None:
    """Of the right length, but written in place over another."""
    old, new = site.save("c.bin"), site.save("c.bin")
    site.write("c.bin", new)
    site.write("c.bin", new[:150] + old[150:], site.hosts["host-0"])
    assert found(site.judge()) == {"torn": 1}


def test_a_file_that_nobody_sent_is_found(site: Site) -> None:
    """A strange file, a content under another name, and a whole content with an id that was never given out."""
    site.write("strange.bin", b"who put this here?", site.hosts["host-0"])
    site.write("b.bin", (site.master / "a/kept.bin").read_bytes(), site.hosts["host-1"])
    site.write("uploads/e.bin", bodies.make("t-999", 10))
    assert found(site.judge()) == {"unsent": 3}


def test_an_odd_file_of_nginx_is_left_over(site: Site) -> None:
    """What nginx calls a file that it did not rename."""
    site.write("b.bin.0000000029", b"half", site.hosts["host-0"])
    assert found(site.judge()) == {"left_over": 1}


def test_an_owed_row_is_found(site: Site) -> None:
    """A row in the outbox, but not one that is only watched; and an outbox that is not there at all."""
    with contextlib.closing(sqlite3.connect(site.outbox)) as connection, connection:
        connection.execute("INSERT INTO deliveries VALUES ('http://host-0', 'b.bin', 2)")
    assert found(site.judge()) == {}
    with contextlib.closing(sqlite3.connect(site.outbox)) as connection, connection:
        connection.execute("INSERT INTO deliveries VALUES ('http://host-0', 'b.bin', 1)")
    assert found(site.judge()) == {"owed": 1}
    site.outbox.unlink()
    assert found(site.judge()) == {"owed": 1}


def test_an_old_temporary_file_is_found(site: Site) -> None:
    """A staged file of a process that lives, once it is older than a minute."""
    room = site.staging / f"{os.getpid()}-0123abcd"
    room.mkdir()
    (room.parent / f"{room.name}.lock").touch()
    assert site.judge().clean
    (room / "0123456789abcdef").write_bytes(b"half")
    assert site.judge(time.time() + 30).clean
    assert found(site.judge(time.time() + MINUTES_AGO)) == {"left_over": 1}


def test_an_old_room_of_a_dead_process_is_found(site: Site) -> None:
    """The empty room and its lock, though not those of a process that lives."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        room = site.staging / f"{pid}-0123abcd"
        room.mkdir()
        (room.parent / f"{room.name}.lock").touch()
    assert not left_over(str(site.master), time.time() + 30)
    assert len(left_over(str(site.master), time.time() + MINUTES_AGO)) == 2


def test_an_unanswered_save_may_have_been_done_or_not(site: Site) -> None:
    """Either is right, but all must have the same; the same goes for a delete."""
    old = site.save("c.bin")
    new = site.save("c.bin", Effect.PERHAPS)
    for content in (old, new):
        site.write("c.bin", content)
        assert site.judge().clean
    site.write("c.bin", old, site.hosts["host-0"])
    assert found(site.judge()) == {"lost": 1}
    site.remove("c.bin")
    assert found(site.judge()) == {"lost": 1}
    site.delete("c.bin", Effect.PERHAPS)
    assert site.judge().clean


def test_an_unanswered_upload_may_be_there_under_any_name(site: Site) -> None:
    """Its client was never told the name. All must have it, or none."""
    content = site.save(None, Effect.PERHAPS)
    assert site.judge().clean
    site.write("uploads/e.bin", content)
    assert site.judge().clean
    site.remove("uploads/e.bin", site.hosts["host-2"])
    assert found(site.judge()) == {"lost": 1}


# The ledger


class Clock:
    """Tells the time that it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_of_two_that_overlap_either_may_be_last() -> None:
    """Two saves at once: the order of their answers says nothing. A later one comes after both."""
    clock = Clock()
    ledger = Ledger("t", clock)
    first, second = ledger.begin("a", "1"), ledger.begin("a", "2")
    clock.now = 1
    ledger.end(first, Effect.DONE)
    ledger.end(second, Effect.DONE)
    assert ledger.legal("a") == {"1", "2"}
    clock.now = 2
    ledger.end(ledger.begin("a", "3"), Effect.DONE)
    assert ledger.legal("a") == {"3"}


def test_what_ended_without_an_answer_can_be_last_until_its_end() -> None:
    """Its process is dead; what begins later comes later. Where only the client gave up it may be done at any time."""
    clock = Clock()
    ledger = Ledger("t", clock)
    for open_end, legal in ((False, {"2"}), (True, {"1", "2"})):
        name = f"open end {open_end}"
        ledger.end(ledger.begin(name, "1"), Effect.PERHAPS, open_end=open_end)
        clock.now += 1
        ledger.end(ledger.begin(name, "2"), Effect.DONE)
        assert ledger.legal(name) == legal


def test_a_name_begins_absent_and_what_is_refused_does_not_count() -> None:
    """Absence is right until something was done for certain."""
    ledger = Ledger("t")
    ledger.end(ledger.begin("a", "1"), Effect.NONE)
    assert ledger.legal("a") == {None}
    ledger.end(ledger.begin("a", "2"), Effect.PERHAPS)
    assert ledger.legal("a") == {None, "2"}
    ledger.end(ledger.begin("a", "3"), Effect.DONE)
    assert "3" in ledger.legal("a")
    assert None not in ledger.legal("a")


def test_a_save_that_varies_its_name_is_where_its_client_heard() -> None:
    """Until then it may be under any name of its kind; what asked for the name itself is not there then."""
    ledger = Ledger("t")
    untold, told = (ledger.begin("a/cat.jpg", value, varied=True) for value in ("t-1", "t-2"))
    assert ledger.was_sent("a/cat-k3x9qd7m.jpg", "t-1")
    assert not ledger.was_sent("a/dog-k3x9qd7m.jpg", "t-1")
    ledger.end(told, Effect.DONE, name="a/cat-0000000000.jpg")
    ledger.end(untold, Effect.PERHAPS)
    assert ledger.legal("a/cat.jpg") == {None, "t-1"}
    assert ledger.legal("a/cat-0000000000.jpg") == {"t-2"}
    assert ledger.allows("a/cat-k3x9qd7m.jpg", "t-1")
    assert not ledger.allows("a/cat-k3x9qd7m.jpg", "t-2")


def test_a_reader_may_find_what_nothing_has_replaced_before_it_began() -> None:
    """Both versions while one is replaced, and what is refused later, until its client knows."""
    clock = Clock()
    ledger = Ledger("t", clock)
    for value in ("1", "2"):
        ledger.end(ledger.begin("a", value), Effect.DONE)
        clock.now += 1
    refused = ledger.begin("a", "3")
    clock.now += 1
    ledger.end(refused, Effect.NONE)
    assert ledger.readable("a", 0.5, 0.6) == {"1"}
    assert ledger.readable("a", 0.5, 1.5) == {"1", "2"}
    assert ledger.readable("a", 2.5, 2.6) == {"2", "3"}
    assert ledger.readable("a", 3.5, 3.6) == {"2"}
    assert ledger.readable("b", 3.5, 3.6) == {None}


def test_a_name_is_only_saved_until_somebody_does_anything_else() -> None:
    """A delete, or a save that was refused."""
    ledger = Ledger("t")
    assert not ledger.is_only_saved("a")
    ledger.end(ledger.begin("a", "1"), Effect.DONE)
    assert ledger.is_only_saved("a")
    ledger.end(ledger.begin("a", "2"), Effect.NONE)
    assert not ledger.is_only_saved("a")


def test_names_that_are_left_out_are_not_judged(site: Site) -> None:
    """Neither on the master nor on a host."""
    site.remove("b.bin")
    assert site.judge(but=("b.bin",)).clean


# Readers, the wait, the processes, the report


def test_a_reader_notes_torn_and_unsent_content(tmp_path: Path) -> None:
    """What it gets with a 200 has to be whole, and of a save of that name."""
    ledger = Ledger("t")
    crowd = Crowd(ledger, str(tmp_path), 1, [], SEED)
    ledger.begin("a", "t-1")
    crowd.check("a", bodies.make("t-1", 100), "somewhere")
    assert not crowd.torn
    assert not crowd.unsent
    crowd.check("a", bodies.make("t-1", 100)[:-1], "somewhere")
    crowd.check("a", bodies.make("t-2", 100), "somewhere")
    assert (len(crowd.torn), len(crowd.unsent)) == (1, 1)


def test_the_wait_ends_with_the_last_findings() -> None:
    """What is not clean in time is told; what is clean is told with the seconds that it took."""
    bad = Verdict(lost=["a"])
    last = time.monotonic()
    never = aftermath.wait_for_it(last, lambda: [], lambda: bad, lambda: None, within=0.3)
    assert (never.seconds, never.verdict) == (None, bad)
    looks = iter([bad, bad, Verdict()])
    at_last = aftermath.wait_for_it(last, lambda: [], lambda: next(looks), lambda: None, within=10)
    assert at_last.verdict.clean
    assert at_last.seconds is not None
    assert at_last.seconds > 0.3


def test_only_children_are_killed() -> None:
    """A child of the process that was named, and nothing where it has none."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()']); print('over', flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        wait_until(lambda: kill_child(parent.pid, random.Random(SEED)), 10, "no child")
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"over\n"
        assert not kill_child(parent.pid, random.Random(SEED))


def test_defects_in_the_log_of_the_application_are_found(tmp_path: Path) -> None:
    """With the exception that each ends in; what is foreseen and only logged is none."""
    server = Gunicorn("none:none", str(tmp_path), 1)
    Path(server.log).write_text("still owed: away\ndefect while delivering\n  File x\nLookupError: y\nValueError: z\n")
    assert server.defects() == ["defect while delivering: LookupError: y"]


def test_a_run_that_is_stopped_leaves_nothing() -> None:
    """Neither a process nor a file, although it has many and is far from its end."""
    need("nginx")
    with Run("kill", SEED, Sizes(short=True, kills=100_000)) as run:
        wait_until(lambda: os.path.exists(os.path.join(run.folder, "media/uploads")), 30, "nothing is uploaded")
    assert not os.path.exists(run.folder)
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and run.folder in directory_of(pid)]


def directory_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


@pytest.mark.parametrize("kind", ["lost", "resurrected", "torn", "unsent", "left_over", "owed"])
def test_each_finding_fails_a_run(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is counted, and shown."""
    figures = Figures("kill", 7, converged=1.0)
    assert not figures.failed
    figures.take(Verdict(**{kind: ["that file"]}))
    assert figures.failed
    assert getattr(figures, kind) == 1
    print_table([figures])
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert f"{kind}: that file" in printed


def test_a_run_that_does_not_converge_fails() -> None:
    """And one that was skipped does not."""
    assert Figures("kill", 7).failed
    assert not Figures("kill", 7, skipped="no nginx").failed


def test_figures_of_another_part_are_taken_as_they_are_called() -> None:
    """What is known is counted, the rest is a note."""
    figures = Figures.from_mapping("simulation", 7, {"operations": 3, "lost": 1, "converged": 2.0, "histories": 5})
    assert (figures.operations, figures.lost, figures.converged) == (3, 1, 2.0)
    assert figures.notes == {"histories": 5}
    assert figures.failed


def test_a_failing_seed_of_the_simulation_is_a_problem() -> None:
    """It is told with its seed; the time to converge is the longest one."""
    values = {
        "unknown": 4,
        "seconds to converge": {"median": 1.0, "max": 3.0},
        "failing seeds": {9: ["other: it hangs"]},
    }
    figures = Figures.from_mapping("simulation", 7, values)
    assert (figures.unanswered, figures.converged) == (4, 3.0)
    assert figures.problems == ["seed 9: other: it hangs"]
    assert figures.failed


def test_the_command_prints_a_table_and_fails_where_something_was_found(tmp_path: Path) -> None:
    """A part that cannot even run is a failure, not silence."""
    copy = tmp_path / "tests" / "chaos"
    tests = Path(__file__).parents[1]
    shutil.copytree(tests / "chaos", copy)
    shutil.copy(tests / "ports.py", copy.parent)
    (copy / "kill.py").write_text("raise SystemExit('broken')")
    run = subprocess.run(
        [sys.executable, str(copy), "--short", "--only", "kill", "--seed", "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1, run.stderr
    assert "FAILED" in run.stdout
    assert "broken" in run.stdout
