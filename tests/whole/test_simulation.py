"""The seeded simulator: 100 histories of the real product, six ways to break it that it sees, and its stand-ins.

``python -m simulation`` plays more; see the package ``simulation``.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulation import play, run
from simulation.disk import Disk, MemoryMediaRoot, MemoryStaged
from simulation.kernel import Kernel, Killed, Process, Stuck
from simulation.mutants import MUTANTS, Mutant
from simulation.network import Network, SimulatedTransport
from simulation.operations import Operation, explains
from simulation.product import InlineFanout

from resto_wsgi.errors import DeliveryError, NameRejected
from resto_wsgi.hosts import Host
from resto_wsgi.master.media_root import MediaRoot, Publication
from resto_wsgi.master.staged import Staged
from resto_wsgi.replication.fanout import Fanout, Task
from resto_wsgi.transports import Transport
from resto_wsgi.transports.http.transport import HttpTransport

HISTORIES = 100
TRIES = 60  # histories at most until a mutant is caught: most are seen in a third of them, one in two of a hundred
HOST = Host("x:80", "http://x/media")

AnyMediaRoot = Any  # MediaRoot, or the one in memory
# What no simulated part calls, for it is there for media servers and for other disks.
NODES = {"move_mtime", "entries", "status", "make_folder", "remove_folder", "fileno", "move", "give_away"}


# The product


def test_a_hundred_histories_end_as_promised() -> None:
    """Nothing that was acknowledged is lost, nothing deleted is back, every host is equal, and nothing is owed."""
    figures = run(HISTORIES, seed=1)
    assert figures["failing seeds"] == {}
    assert (figures["lost"], figures["resurrected"], figures["torn"], figures["different"]) == (0, 0, 0, 0)
    assert figures["histories"] == HISTORIES
    assert figures["operations"] >= HISTORIES * 50
    assert figures["acknowledged"] > figures["operations"] / 3
    assert figures["faults"]["kill -9"] > HISTORIES
    assert figures["faults"]["a host hangs, done late"] > HISTORIES
    assert figures["seconds to converge"]["median"] <= 60


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulator_catches_a_product_that_is_broken_on_purpose(name: str) -> None:
    """Each way to break it is seen within TRIES histories, in which the product as it is does nothing wrong."""
    for seed in range(1, TRIES + 1):
        mutant: Mutant = MUTANTS[name]()
        result, _ = play(seed, mutant, **mutant.options)
        if result["problems"]:
            sound, _ = play(seed, **mutant.options)
            assert sound["problems"] == []
            return
    pytest.fail(f"{name}: not seen in {TRIES} histories")


# The simulator


def test_a_history_can_be_played_again_step_by_step() -> None:
    """The same seed gives the same steps, also in another interpreter, where sets are in another order."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "simulation", "--replay", "5"]
    once, again = (
        subprocess.run(command, env={**environment, "PYTHONHASHSEED": order}, capture_output=True, text=True)
        for order in "12"
    )
    assert "FAULTS STOP" in once.stdout, once.stderr
    assert once.stdout == again.stdout


class Actors:
    """A driver that does nothing but kill at a given step."""

    def __init__(self, kernel: Kernel, processes: list[Process], kill_at: int = -1) -> None:
        self.kernel = kernel
        self.processes = processes
        self.kill_at = kill_at

    def tick(self) -> None:
        if self.kernel.steps == self.kill_at:
            self.processes[0].dead = True

    def abort(self) -> None:
        for process in self.processes:
            process.dead = True


def test_exactly_one_thread_runs_at_a_time_in_an_order_that_the_seed_picks() -> None:
    """Ten threads, each of ten steps: none is amid a step while another is, and another seed gives another order."""

    def order(seed: int) -> list[int]:
        kernel = Kernel(random.Random(seed))
        process = Process("p1")
        running: list[int] = []
        done: list[int] = []

        def work(number: int) -> None:
            for _ in range(10):
                running.append(number)
                assert running == [number]
                done.append(number)
                running.remove(number)
                kernel.step("step")

        for number in range(10):
            kernel.spawn(process, str(number), lambda number=number: work(number))
        kernel.run(Actors(kernel, [process]))
        assert kernel.defects == []
        return done

    assert order(1) == order(1) != order(2)
    assert Counter(order(1)) == Counter(dict.fromkeys(range(10), 10))


def test_a_killed_process_does_nothing_more_and_leaves_its_locks() -> None:
    """Killed comes out of its next step; what it cleans up has no effect; whoever waited for its lock goes on."""
    kernel = Kernel(random.Random(1))
    disk = Disk()
    first, second = Process("p1"), Process("p2")
    seen: list[str] = []

    def dies() -> None:
        media_root = MemoryMediaRoot(disk, kernel, first)
        try:
            with media_root.lock("a"):
                while True:
                    kernel.step("works")
        except Killed:
            seen.append("killed")
            with pytest.raises(Killed):
                media_root.remove("b")
            raise

    def waits() -> None:
        kernel.sleep(0.001)
        with MemoryMediaRoot(disk, kernel, second).lock("a"):
            seen.append("locked")

    disk.files["b"] = disk.inode(b"", 0.0)
    kernel.spawn(first, "", dies)
    kernel.spawn(second, "", waits)
    driver = Actors(kernel, [first, second], kill_at=40)
    driver.tick = lambda: _kill(driver, disk)  # type: ignore[method-assign]
    kernel.run(driver)
    assert (sorted(seen), list(disk.files), disk.held, kernel.defects) == (["killed", "locked"], ["b"], {}, [])


def _kill(driver: Actors, disk: Disk) -> None:
    if driver.kernel.steps == driver.kill_at:
        driver.processes[0].dead = True
        disk.forget(driver.processes[0])


def test_a_deadlock_and_an_endless_loop_are_found() -> None:
    """They end the history with an error, and leave no thread."""
    for work, message in ((_take_twice, "deadlock"), (_for_ever, "no end")):
        kernel = Kernel(random.Random(1))
        process = Process("p1")
        kernel.spawn(process, "", lambda work=work, kernel=kernel, process=process: work(kernel, process))
        with pytest.raises(Stuck, match=message):
            kernel.run(Actors(kernel, [process]))
        assert not kernel.alive(process)


def _take_twice(kernel: Kernel, process: Process) -> None:
    media_root = MemoryMediaRoot(Disk(), kernel, process)
    with media_root.lock("a"), media_root.lock("a"):
        raise AssertionError("not reached")


def _for_ever(kernel: Kernel, process: Process) -> None:
    while True:
        kernel.step("round")


@pytest.mark.parametrize(
    ("told", "content", "explained"),
    [
        ("acknowledged", b"new", True),
        ("acknowledged", b"old", False),
        ("acknowledged", None, False),
        ("unknown", b"new", True),
        ("unknown", b"old", True),
        ("unknown", None, False),
        ("refused", b"new", False),
        ("refused", b"old", True),
        ("withdrawn", b"new", False),
    ],
)
def test_what_clients_were_told_explains_what_is_there(told: str, content: bytes | None, explained: bool) -> None:
    """After an acknowledged save of old, and a save of new that began later, these states can be and those cannot."""
    register = [
        Operation(1, "save", "a", b"old", 1, 5, "acknowledged"),
        Operation(2, "overwrite", "a", b"new", 6, 9, told),
    ]
    assert explains(register, content, 10, 10) is explained


def test_operations_that_overlap_may_have_come_in_either_order() -> None:
    """A save that ended after a delete began may be what is left, or not."""
    register = [
        Operation(1, "save", "a", b"x", 1, 7, "acknowledged"),
        Operation(2, "delete", "a", None, 6, 9, "acknowledged"),
    ]
    assert explains(register, b"x", 10, 10)
    assert explains(register, None, 10, 10)


def test_a_host_that_answers_late_or_not_at_all_carries_out_each_request_at_most_once() -> None:
    """Whatever the fault, after LATENESS the host has what it had or what it was sent, and then it stays so."""
    seen = set()
    for seed in range(200):
        kernel = Kernel(random.Random(seed))
        network = Network(kernel, [HOST.url], Counter())
        network.unreliable = 1.0
        transport = SimulatedTransport(network, kernel, Process("p1"))
        path = MemoryMediaRoot(Disk(files={"a": Disk().inode(b"x", 0.0)}), kernel, Process("p1"))
        try:
            master = path.open("a")
            transport.put(HOST, "a", master.file, master.size, master.mtime)
            assert network.servers[HOST.url].files == {"a": b"x"}
        except DeliveryError as error:
            seen.add(error.status)
            if error.untouched:
                assert network.servers[HOST.url].files == {}
        network.servers[HOST.url].files.pop("a", None)
        late = network.servers[HOST.url].late
        kernel.flush()
        assert network.servers[HOST.url].files == ({"a": b"x"} if late else {})
    assert seen == {None, 500, 502, 503}


# The stand-ins have the faces of what they stand in for


@pytest.mark.parametrize(
    ("real", "simulated"),
    [
        (MediaRoot, MemoryMediaRoot),
        (Staged, MemoryStaged),
        (Transport, SimulatedTransport),
        (Fanout, InlineFanout),
    ],
)
def test_a_stand_in_has_the_face_of_what_it_stands_in_for(real: type, simulated: type) -> None:
    """Every public method is there and takes the same arguments by the same names."""
    for name, method in inspect.getmembers(real, callable):
        if not name.startswith("_") and name not in NODES:
            stand_in = getattr(simulated, name)
            assert list(inspect.signature(stand_in).parameters) == list(inspect.signature(method).parameters), name


@pytest.fixture(params=["real", "simulated"])
def media_root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyMediaRoot]:
    """An empty media root: the real one on a disk, and the one in memory."""
    if request.param == "real":
        media_root: AnyMediaRoot = MediaRoot(str(tmp_path / "media"), fsync=False)
    else:
        media_root = MemoryMediaRoot(Disk(), Kernel(random.Random(1)), Process("p1"))
    yield media_root
    media_root.close()


def stage(media_root: AnyMediaRoot, content: bytes) -> Any:
    staged = media_root.stage()
    staged.write(content)
    staged.seal()
    return staged


def replace(media_root: AnyMediaRoot, name: str, content: bytes) -> Publication:
    publication: Publication = media_root.replace(stage(media_root, content), name)
    return publication


def read(media_root: AnyMediaRoot, name: str) -> bytes | None:
    try:
        with media_root.open(name).file as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        return None


def test_any_media_root_publishes_once(media_root: AnyMediaRoot) -> None:
    """A name that is taken, by a file or a folder, is not published; a name below a file is rejected."""
    publication = media_root.publish(stage(media_root, b"1"), "folder/a")
    media_root.make_durable(publication)
    for name in ("folder/a", "folder"):
        with pytest.raises(FileExistsError):
            media_root.publish(stage(media_root, b"2"), name)
    for give in (media_root.publish, media_root.replace):
        with pytest.raises(NameRejected):
            give(stage(media_root, b"2"), "folder/a/b")
    assert read(media_root, "folder/a") == b"1"
    assert media_root.take_back(publication) is True
    assert media_root.take_back(publication) is False
    assert read(media_root, "folder/a") is None


def test_any_media_root_stages_what_outlives_its_discard(media_root: AnyMediaRoot) -> None:
    """Size, digest and content are those of what was written; discard may be repeated."""
    staged = media_root.stage()
    staged.write(b"ab")
    staged.write(memoryview(b"c"))
    staged.seal()
    staged.seal()
    with staged.open() as file:
        assert (file.read(), staged.size, staged.sha256) == (b"abc", 3, hashlib.sha256(b"abc").hexdigest())
    media_root.publish(staged, "a")
    staged.discard()
    staged.discard()
    assert (read(media_root, "a"), media_root.size("a"), media_root.exists("a")) == (b"abc", 3, True)


def test_any_media_root_puts_back_what_was_replaced(media_root: AnyMediaRoot) -> None:
    """The version before comes back, the same file, unless it was forgotten."""
    replace(media_root, "a", b"1")
    before = media_root.state("a")
    second = replace(media_root, "a", b"2")
    assert (second.previous is None, read(media_root, "a")) == (False, b"2")
    assert media_root.take_back(second) is True
    assert (read(media_root, "a"), media_root.state("a")) == (b"1", before)
    third = replace(media_root, "a", b"3")
    media_root.forget(third)
    media_root.forget(third)
    assert media_root.take_back(third) is True
    assert read(media_root, "a") is None
    with pytest.raises(NameRejected):
        replace(media_root, "b/c", b"")
        replace(media_root, "b", b"")


def test_any_media_root_takes_a_version_back_from_who_replaced_it(media_root: AnyMediaRoot) -> None:
    """Who replaced a version that was withdrawn puts back what was before both."""
    replace(media_root, "a", b"1")
    second = replace(media_root, "a", b"2")
    third = replace(media_root, "a", b"3")
    assert media_root.take_back(second) is False
    assert read(media_root, "a") == b"3"
    assert media_root.take_back(third) is True
    assert read(media_root, "a") == b"1"


def test_any_media_root_takes_a_first_version_back_from_who_replaced_it(media_root: AnyMediaRoot) -> None:
    """Nothing was before both, and nothing is put back."""
    first = media_root.publish(stage(media_root, b"1"), "a")
    second = replace(media_root, "a", b"2")
    assert media_root.take_back(first) is False
    assert media_root.take_back(second) is True
    assert read(media_root, "a") is None


@pytest.mark.parametrize("remove", ["remove", "drop"])
def test_any_media_root_removes(media_root: AnyMediaRoot, remove: str) -> None:
    """A name that is not there is removed all the same."""
    for _ in range(2):
        replace(media_root, "folder/a", b"1")
        getattr(media_root, remove)("folder/a")
        getattr(media_root, remove)("folder/a")
        assert (read(media_root, "folder/a"), media_root.state("folder/a")) == (None, None)
        assert list(media_root.names()) == []


def test_any_media_root_removes_no_folder(media_root: AnyMediaRoot) -> None:
    """A replica of it could be a whole tree."""
    replace(media_root, "folder/a", b"1")
    for refuse in (media_root.remove, media_root.check_no_folder):
        with pytest.raises(NameRejected):
            refuse("folder")
    media_root.check_no_folder("folder/a")
    media_root.check_no_folder("b")
    assert (media_root.remove("folder/a"), media_root.remove("folder/a")) == (True, False)


def test_any_media_root_tells_versions_apart(media_root: AnyMediaRoot) -> None:
    """The state of a name is that of what is opened, stays, and is another one for another file."""
    assert media_root.state("a") is None
    replace(media_root, "a", b"1")
    first = media_root.state("a")
    master = media_root.open("a")
    master.file.close()
    assert (master.state, master.size, media_root.state("a")) == (first, 1, first)
    replace(media_root, "a", b"1")
    assert media_root.state("a") not in (None, first)


def test_any_media_root_lists(media_root: AnyMediaRoot) -> None:
    """Names, folders and files, hidden ones left out."""
    for name in ("b", "a", "folder/c", "folder/deep/d"):
        replace(media_root, name, b"")
    assert sorted(media_root.names()) == ["a", "b", "folder/c", "folder/deep/d"]
    assert media_root.listdir("") == (["folder"], ["a", "b"])
    assert media_root.listdir("folder") == (["deep"], ["c"])
    with pytest.raises(FileNotFoundError):
        media_root.listdir("nowhere")
    with pytest.raises(NotADirectoryError):
        media_root.listdir("a")


@pytest.mark.parametrize("ask", ["open", "size"])
def test_any_media_root_says_what_is_not_there(media_root: AnyMediaRoot, ask: str) -> None:
    """FileNotFoundError for a name that is free, and for a folder."""
    replace(media_root, "folder/a", b"")
    for name in ("b", "folder", "folder/b"):
        assert not media_root.exists(name)
        with pytest.raises(FileNotFoundError):
            getattr(media_root, ask)(name)


def test_any_media_root_gives_a_lock_to_one(media_root: AnyMediaRoot) -> None:
    """Who does not wait is told that it is held, by his own process too; whoever comes later has it."""
    with media_root.lock("a") as held:
        assert held is True
        with media_root.lock("a", wait=False) as again:
            assert again is False
        with media_root.lock("a", wait=False) as again:
            assert again is False
    with media_root.lock("a", wait=False) as held:
        assert held is True


def test_any_media_root_knows_itself(media_root: AnyMediaRoot) -> None:
    """It has an identity, is where it was, and can be swept at any time."""
    assert isinstance(media_root.identity, str)
    media_root.check_here()
    media_root.sweep()


def test_the_fan_out_stand_in_translates_failures_as_the_real_one_does() -> None:
    """A DeliveryError is that host's outcome, nothing else is caught, and each host has one."""
    hosts = [HOST, Host("y:80", "http://y/media")]

    def refuse() -> None:
        raise DeliveryError(HOST.label, "a", "no")

    for fanout in (Fanout(HttpTransport(1.0)), InlineFanout(Kernel(random.Random(1)), None)):
        outcome: dict[str, DeliveryError | None] = {}
        tasks = [Task(host, "a", work=refuse if host == HOST else lambda: None) for host in hosts]
        fanout.run(iter(tasks), lambda task, error, value, told=outcome: told.update({task.host.label: error}), 2)
        assert (outcome["y:80"], str(outcome["x:80"])) == (None, "x:80: 'a': no")
        fanout.close()
